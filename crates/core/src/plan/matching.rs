//! Matches policies with workloads.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::ResourceExt;

use super::{
    context::NamespaceContext,
    source::Source,
    workload::{Kind, Workload},
};
use crate::api::{ClusterGracefulPolicy, GracefulPolicy, GracefulPolicySpec};

/// Whether `policy` applies to the workload: the workload names it or it selects the workload, and the workload is not
/// opted out.
#[must_use]
pub fn applies_to(policy: &GracefulPolicy, workload: &Workload<'_>) -> bool {
    Matcher::of(workload).is_some_and(|matcher| matcher.applies(policy))
}

/// Whether a cluster policy that matches the namespace applies to the workload.
#[must_use]
pub fn cluster_policy_applies_to(policy: &ClusterGracefulPolicy, workload: &Workload<'_>) -> bool {
    Matcher::of(workload).is_some_and(|matcher| matcher.applies_cluster_policy(policy))
}

/// Whether `adieu.dev/graceful: "false"` opts the workload out, so that no policy applies to it.
#[must_use]
pub fn is_opted_out(workload: &Workload<'_>) -> bool {
    Matcher::of(workload).is_none()
}

/// The policies of the namespace that apply to the workload.
#[must_use]
pub fn matching_policies(workload: &Workload<'_>, context: &NamespaceContext) -> BTreeSet<Source> {
    let Some(matcher) = Matcher::of(workload) else { return BTreeSet::new() };
    let policies = context.policies.iter().filter(|policy| matcher.applies(policy));
    let cluster_policies =
        context.cluster_policies.iter().filter(|policy| matcher.applies_cluster_policy(policy));
    let policies = policies.map(|policy| Source::Policy(policy.name_any()));
    policies.chain(cluster_policies.map(|policy| Source::ClusterPolicy(policy.name_any()))).collect()
}

/// Matches policies with one workload, whose annotations are parsed once.
struct Matcher<'a> {
    workload: &'a Workload<'a>,
    labels: BTreeMap<String, String>,
    named: Option<String>,
}

impl<'a> Matcher<'a> {
    /// `None` if it is opted out.
    fn of(workload: &'a Workload<'a>) -> Option<Self> {
        let [on_workload, on_template] = workload.parsed_annotations().map(|parsed| parsed.annotations);
        let graceful = on_workload.graceful.or(on_template.graceful);
        let named = on_workload.policy.or(on_template.policy);
        (graceful != Some(false)).then(|| Self { workload, labels: workload.template_labels(), named })
    }

    fn applies(&self, policy: &GracefulPolicy) -> bool {
        self.named.is_some() && self.named == policy.metadata.name || self.selects(&policy.spec)
    }

    fn applies_cluster_policy(&self, policy: &ClusterGracefulPolicy) -> bool {
        self.selects(&policy.spec.policy)
    }

    fn selects(&self, spec: &GracefulPolicySpec) -> bool {
        selects(spec, self.workload, &self.labels)
    }
}

/// Whether a label selector matches. An invalid one matches nothing; the policy's status reports it.
///
/// Every policy is matched with every workload. Unlike kube's `Selector`, this copies nothing.
#[must_use]
pub fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let mut expected = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    expected.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|LabelSelectorRequirement { key, operator, values }| {
            let value = labels.get(key);
            match (operator.as_str(), values) {
                ("In", Some(values)) => value.is_some_and(|value| values.contains(value)),
                ("NotIn", Some(values)) => value.is_none_or(|value| !values.contains(value)),
                ("Exists", _) => value.is_some(),
                ("DoesNotExist", _) => value.is_none(),
                _ => false,
            }
        })
}

/// Whether a policy selects a workload, by the labels of its template.
pub(super) fn selects(
    spec: &GracefulPolicySpec,
    workload: &Workload<'_>,
    labels: &BTreeMap<String, String>,
) -> bool {
    let kinds = spec.kinds.as_deref().unwrap_or(&[Kind::Deployment]);
    workload.kind.is_some_and(|kind| kinds.contains(&kind))
        && spec.selector.as_ref().is_some_and(|selector| matches(selector, labels))
}
