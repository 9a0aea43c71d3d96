//! Finds policies in manifests that apply to no workload.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use super::manifest_set::ManifestSet;
use adieu_core::{
    api::annotations::POLICY,
    plan::{self, Workload},
};

/// Records workloads, to find the policies that apply to none.
#[derive(Debug)]
pub struct PolicyUsage<'a> {
    set: &'a ManifestSet,
    workloads: usize,
    /// Whether a workload is opted out.
    opts_out: bool,
    /// The policies that apply to a workload, by namespace and name.
    used: BTreeSet<(String, String)>,
    /// Policies of other namespaces that would apply to a workload, with the workloads' namespaces.
    elsewhere: BTreeMap<(String, String), BTreeSet<String>>,
    /// The cluster policies that apply to a workload, set its defaults, or are undecided.
    cluster_used: BTreeSet<String>,
}

impl<'a> PolicyUsage<'a> {
    /// No workloads yet.
    #[must_use]
    pub fn new(set: &'a ManifestSet) -> Self {
        Self {
            set,
            workloads: 0,
            opts_out: false,
            used: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            cluster_used: BTreeSet::new(),
        }
    }

    /// Records a workload of a namespace.
    pub fn record(&mut self, workload: &Workload<'_>, namespace: &str) {
        self.workloads += 1;
        self.opts_out |= plan::is_opted_out(workload);
        for (of, policy) in self.set.policies() {
            if plan::applies_to(policy, workload) {
                let key = (of.to_owned(), policy.name_any());
                if of == namespace {
                    self.used.insert(key);
                } else {
                    self.elsewhere.entry(key).or_default().insert(namespace.to_owned());
                }
            }
        }
        let (applying, _) = self.set.cluster_policies_by_namespace(namespace);
        let applies =
            |policy: &&_| has_no_selector(policy) || plan::cluster_policy_applies_to(policy, workload);
        let applying = applying.iter().map(AsRef::as_ref).filter(applies);
        self.cluster_used.extend(applying.map(kube::ResourceExt::name_any));
        self.cluster_used.extend(self.set.undecided(namespace));
    }

    /// A warning for each policy that applies to no workload. Without workloads there are none.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        if self.workloads == 0 {
            return vec![];
        }
        let except = if self.opts_out { " except opted-out ones" } else { "" };
        let mut warnings = Vec::new();
        for (namespace, policy) in self.set.policies() {
            let key = (namespace.to_owned(), policy.name_any());
            if self.used.contains(&key) {
                continue;
            }
            let why = match self.elsewhere.get(&key) {
                Some(others) => {
                    let others: Vec<_> = others.iter().map(|name| format!("{name:?}")).collect();
                    format!(
                        "it is in namespace {namespace:?}, and the workloads that it matches are in {}: set its metadata.namespace, or --namespace for objects without one",
                        others.join(", ")
                    )
                }
                None if policy.spec.selector.is_none() => format!(
                    "it has no selector, and no workload in namespace {namespace:?}{except} names it: add spec.selector, or the annotation {POLICY} to a workload"
                ),
                None => format!(
                    "it matches no workload in namespace {namespace:?}{except}: check its namespace, spec.selector (labels \
                     of the pod template) and spec.kinds ([Deployment] by default)"
                ),
            };
            warnings.extend(self.warning("GracefulPolicy", namespace, &key.1, &why));
        }
        for policy in self.set.cluster_policies() {
            let name = policy.name_any();
            if !self.cluster_used.contains(&name) {
                let why = format!(
                    "it matches no workload{except}: check spec.namespaceSelector, spec.selector (labels of the pod \
                     template) and spec.kinds ([Deployment] by default)"
                );
                warnings.extend(self.warning("ClusterGracefulPolicy", "", &name, &why));
            }
        }
        warnings
    }

    fn warning(&self, kind: &str, namespace: &str, name: &str, why: &str) -> Option<String> {
        let location = self.set.location(kind, namespace, name)?;
        Some(format!("{location}: {kind} {name}: applies to no workload in the input: {why}"))
    }
}

/// Whether the policy only sets defaults or a maximum.
fn has_no_selector(policy: &adieu_core::api::ClusterGracefulPolicy) -> bool {
    policy.spec.policy.selector.is_none()
}
