//! Recommended policies as manifests.

use std::{collections::HashMap, fmt::Write as _};

use adieu_recommend::{Recommended, RecommendedPolicy};
use anyhow::Context as _;
use kube::core::ObjectMeta;

use super::changes::ChangedWorkload;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    cli::manifests::escaped,
    keys::WorkloadKey,
};

/// The annotation in which kubectl keeps the manifest that it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The policy as it is written to a file.
pub(super) fn manifest(policy: &GracefulPolicy) -> GracefulPolicy {
    GracefulPolicy { metadata: metadata(&policy.metadata), spec: policy.spec.clone(), status: None }
}

/// The cluster policy as it is written to a file.
pub(super) fn cluster_manifest(policy: &ClusterGracefulPolicy) -> ClusterGracefulPolicy {
    ClusterGracefulPolicy { metadata: metadata(&policy.metadata), spec: policy.spec.clone(), status: None }
}

/// The metadata that a user sets.
fn metadata(metadata: &ObjectMeta) -> ObjectMeta {
    let mut annotations = metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    ObjectMeta {
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        labels: metadata.labels.clone(),
        annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
        ..ObjectMeta::default()
    }
}

/// All policies as YAML, with the evidence in comments.
///
/// # Errors
/// If one can't be written.
pub(super) fn yaml(recommended: &Recommended, changes: &[ChangedWorkload]) -> anyhow::Result<String> {
    let key = |of: &ChangedWorkload| WorkloadKey {
        namespace: of.namespace.clone(),
        kind: of.kind,
        name: of.name.clone(),
    };
    let evidence: HashMap<_, _> = changes.iter().map(|of| (key(of), of.evidence.as_slice())).collect();
    let mut documents = Vec::new();
    if let Some(policy) = &recommended.cluster_policy {
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        let comments = [
            format!("ClusterGracefulPolicy {name}"),
            "The defaults of opted-in workloads: the times that most of them need".to_owned(),
        ];
        documents.push(document(&comments, &cluster_manifest(policy))?);
    }
    for policy in &recommended.policies {
        documents.push(document(&comments(policy, &evidence), &manifest(&policy.policy))?);
    }
    if documents.is_empty() {
        return Ok("# No workload needs a policy.\n".to_owned());
    }
    Ok(documents.join("---\n"))
}

/// The name of a policy, and its workloads with their evidence.
fn comments(recommended: &RecommendedPolicy, evidence: &HashMap<WorkloadKey, &[String]>) -> Vec<String> {
    let RecommendedPolicy { policy, workloads, is_edited } = recommended;
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    let (namespace, name) = (text(&policy.metadata.namespace), text(&policy.metadata.name));
    let edited = if *is_edited { ": your policy, with the times that its workloads need" } else { "" };
    let mut comments = vec![format!("GracefulPolicy {namespace}/{name}{edited}")];
    for key in workloads {
        comments.push(format!("{} {}", key.kind, key.name));
        let lines = evidence.get(key).copied().unwrap_or_default();
        comments.extend(lines.iter().map(|line| format!("  {line}")));
    }
    comments
}

fn document(comments: &[String], policy: &impl serde::Serialize) -> anyhow::Result<String> {
    let mut text = String::new();
    for line in comments {
        // Writing to a String doesn't fail.
        let _ = writeln!(text, "# {}", escaped(line));
    }
    Ok(text + &serde_saphyr::to_string(policy).context("cannot write YAML")?)
}
