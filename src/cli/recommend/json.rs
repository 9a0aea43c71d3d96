//! The recommendation as JSON.

use adieu_recommend::Recommended;
use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    changes::ChangedWorkload,
    difference::Difference,
    manifest::{cluster_manifest, manifest},
    summary::Summary,
};

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
    let json = Json { policies: cluster_policy.chain(policies).collect(), workloads, differences, summary };
    serde_json::to_string_pretty(&json).context("cannot write JSON").map(|text| text + "\n")
}
