//! Which policies of the input apply to its workloads.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;

use super::objects::World;
use crate::{
    api::annotations::POLICY,
    plan::{self, Workload},
};

/// Takes note of each workload, and knows in the end which policies apply to none.
#[derive(Debug)]
pub(in crate::cli) struct Usage<'a> {
    world: &'a World,
    workloads: usize,
    /// The policies that apply to a workload, by namespace and name.
    used: BTreeSet<(String, String)>,
    /// The namespaces of the workloads to which a policy of another namespace would apply.
    elsewhere: BTreeMap<(String, String), BTreeSet<String>>,
    /// The cluster policies that apply to a workload or give it defaults, and those of which the input can't tell.
    cluster_used: BTreeSet<String>,
}

impl<'a> Usage<'a> {
    pub(in crate::cli) fn new(world: &'a World) -> Self {
        Self {
            world,
            workloads: 0,
            used: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            cluster_used: BTreeSet::new(),
        }
    }

    /// Takes note of a workload of this namespace.
    pub(in crate::cli) fn note(&mut self, workload: &Workload<'_>, namespace: &str) {
        self.workloads += 1;
        for (of, policy) in self.world.policies() {
            if plan::holds_for(policy, workload) {
                let key = (of.to_owned(), policy.name_any());
                if of == namespace {
                    self.used.insert(key);
                } else {
                    self.elsewhere.entry(key).or_default().insert(namespace.to_owned());
                }
            }
        }
        let (holding, _) = self.world.cluster_policies_by_namespace(namespace);
        let applies =
            |policy: &&_| policy_selects_nobody(policy) || plan::cluster_policy_holds_for(policy, workload);
        let holding = holding.iter().map(AsRef::as_ref).filter(applies);
        self.cluster_used.extend(holding.map(kube::ResourceExt::name_any));
        self.cluster_used.extend(self.world.undecided(namespace));
    }

    /// A message for each policy that applies to no workload, with its place. Without workloads there are none.
    pub(in crate::cli) fn warnings(&self) -> Vec<String> {
        if self.workloads == 0 {
            return vec![];
        }
        let mut warnings = Vec::new();
        for (namespace, policy) in self.world.policies() {
            let key = (namespace.to_owned(), policy.name_any());
            if self.used.contains(&key) {
                continue;
            }
            let why = match self.elsewhere.get(&key) {
                Some(others) => {
                    let others: Vec<_> = others.iter().map(|name| format!("{name:?}")).collect();
                    format!(
                        "it is in namespace {namespace:?}, and the workloads that it matches are in {}: set its metadata.namespace, or --namespace for objects that name none",
                        others.join(", ")
                    )
                }
                None if policy.spec.selector.is_none() => format!(
                    "it has no selector, and no workload in namespace {namespace:?} names it: add spec.selector, or the annotation {POLICY} to a workload"
                ),
                None => format!(
                    "it matches nothing in namespace {namespace:?}: check its namespace, spec.selector (labels of the pod template) and spec.kinds ([Deployment] by default)"
                ),
            };
            warnings.extend(self.told("GracefulPolicy", namespace, &key.1, &why));
        }
        for policy in self.world.cluster_policies() {
            let name = policy.name_any();
            if !self.cluster_used.contains(&name) {
                let why = "it matches nothing: check spec.namespaceSelector, spec.selector (labels of the pod template) and spec.kinds ([Deployment] by default)";
                warnings.extend(self.told("ClusterGracefulPolicy", "", &name, why));
            }
        }
        warnings
    }

    fn told(&self, kind: &str, namespace: &str, name: &str, why: &str) -> Option<String> {
        let place = self.world.place(kind, namespace, name)?;
        Some(format!("{place}: {kind} {name}: applies to no workload in the input: {why}"))
    }
}

/// Whether the policy only gives defaults or a maximum.
fn policy_selects_nobody(policy: &crate::api::ClusterGracefulPolicy) -> bool {
    policy.spec.policy.selector.is_none()
}
