//! The recommendation as JSON.

use adieu_recommend::Recommended;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    changes::ChangedWorkload,
    difference::Difference,
    manifest::{cluster_manifest, manifest},
    summary::Summary,
};
use crate::cli::print;

#[derive(Serialize)]
struct Json<'a> {
    /// The policies, as objects of the API.
    policies: Vec<Value>,
    workloads: &'a [ChangedWorkload],
    differences: &'a [Difference],
    summary: &'a Summary,
}

/// # Errors
/// If it can't be written.
pub(super) fn json(
    recommended: &Recommended,
    workloads: &[ChangedWorkload],
    differences: &[Difference],
    summary: &Summary,
) -> anyhow::Result<String> {
    let cluster_policy = recommended.cluster_policy.iter().map(|policy| json!(cluster_manifest(policy)));
    let policies = recommended.policies.iter().map(|policy| json!(manifest(&policy.policy)));
    print::json(&Json { policies: cluster_policy.chain(policies).collect(), workloads, differences, summary })
}
