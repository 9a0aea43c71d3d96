//! Compares the workloads of manifests with those of a cluster.

use adieu_exposures::{NamespaceExposures, TrafficObject};
use anyhow::{Context as _, bail};
use kube::{Client, ResourceExt as _, core::DynamicObject};

use super::{arguments::Arguments, compared_workload::ComparedWorkload};
use crate::{
    cli::{
        cluster_context::{ClusterContext, KUBE_SYSTEM},
        live_object::get_workload,
        manifests::{self, escaped, warn},
        traffic_objects::TrafficObjects,
    },
    manifests::{FoundObject, ManifestSet, applied},
    plan::{InjectionDiff, Kind, ManagementState, NamespaceContext, Workload, injection_diff},
};

/// A workload of the manifests.
struct Input<'a> {
    kind: Kind,
    namespace: String,
    found: &'a FoundObject<'a>,
    object: DynamicObject,
}

/// The context of a namespace before and after the manifests are applied.
struct Contexts {
    namespace: String,
    before: NamespaceContext,
    after: NamespaceContext,
}

impl Contexts {
    async fn read(client: &Client, set: &mut ManifestSet, namespace: &str) -> Self {
        let (cluster, warnings) = ClusterContext::read(client, Some(namespace)).await;
        for warning in warnings {
            warn(&warning);
        }
        let before = cluster.namespace_context(namespace);
        let after = cluster.objects(namespace).with_manifests(set, namespace);
        let found = traffic_objects(client, namespace, &after).await;
        let merged = TrafficObject::merged(&found.objects, &set.traffic_objects());
        let completeness = found.completeness();
        Self {
            namespace: namespace.to_owned(),
            before: NamespaceExposures::added_to(
                before,
                namespace,
                found.objects.into(),
                completeness.clone(),
            ),
            after: NamespaceExposures::added_to(after, namespace, merged, completeness),
        }
    }
}

/// The objects of the cluster that may lead requests to the Services of a namespace. Without a Service there are none.
async fn traffic_objects(client: &Client, namespace: &str, context: &NamespaceContext) -> TrafficObjects {
    if context.services.is_empty() {
        return TrafficObjects::default();
    }
    let found = TrafficObjects::read(client, Some(namespace)).await;
    found.report_skipped();
    found
}

/// # Errors
/// If the input or a workload can't be read, or would be denied.
pub(super) async fn compare(client: &Client, arguments: &Arguments) -> anyhow::Result<Vec<ComparedWorkload>> {
    let mut manifests = manifests::read(&arguments.filename, arguments.recursive)?;
    let namespace = arguments.namespace.as_deref().unwrap_or_else(|| client.default_namespace());
    let set = manifests.set(namespace);
    let mut set = manifests::report(&mut manifests, set)?;
    let mut contexts: Vec<Contexts> = Vec::new();
    let (mut compared, mut denials) = (Vec::new(), Vec::new());
    for found in manifests.found_objects() {
        let Some(kind) = found.workload_kind() else { continue };
        let object: DynamicObject = serde_json::from_value(found.value().clone())
            .with_context(|| format!("{}: not a {kind}", found.location("").0))?;
        let own = object.namespace().filter(|own| !own.is_empty());
        let namespace = set.namespace(own.as_deref()).to_owned();
        if !contexts.iter().any(|of| of.namespace == namespace) {
            contexts.push(Contexts::read(client, &mut set, &namespace).await);
        }
        let Some(contexts) = contexts.iter().find(|of| of.namespace == namespace) else { continue };
        let live = get(client, kind, &namespace, object.metadata.name.as_deref()).await?;
        let input = Input { kind, namespace, found: &found, object };
        let workload = compare_one(input, live.as_ref(), contexts);
        denials.extend(denied(&found, &workload));
        compared.push(workload);
    }
    if !denials.is_empty() {
        bail!(denials.join("\nadieu: "));
    }
    Ok(compared)
}

/// The workload in the cluster; `None` if it doesn't exist, or has no name yet.
async fn get(
    client: &Client,
    kind: Kind,
    namespace: &str,
    name: Option<&str>,
) -> anyhow::Result<Option<DynamicObject>> {
    let Some(name) = name else { return Ok(None) };
    let found = get_workload(client, kind, namespace, name).await;
    found.with_context(|| format!("cannot get {kind} {namespace}/{}", escaped(name)))
}

fn compare_one(input: Input<'_>, live: Option<&DynamicObject>, contexts: &Contexts) -> ComparedWorkload {
    let Input { kind, namespace, found, object } = input;
    let name = object.metadata.name.clone().or_else(|| object.metadata.generate_name.clone());
    let new = live.map_or(object, |live| applied(found.value(), live));
    let diff = if namespace == KUBE_SYSTEM {
        let reason = format!("adieu ignores the namespace {KUBE_SYSTEM}");
        InjectionDiff::unchanged(ManagementState::NotManaged, Some(reason))
    } else {
        let live = live.map(|live| Workload::of(kind, live));
        let live = live.as_ref().map(|live| (live, &contexts.before));
        injection_diff(live, &Workload::of(kind, &new), &contexts.after)
    };
    ComparedWorkload {
        kind,
        namespace,
        name: name.unwrap_or_default(),
        exists: live.is_some(),
        is_on_delete: new.data["spec"]["updateStrategy"]["type"] == "OnDelete",
        diff,
    }
}

/// The reasons why the API server would reject the workload.
fn denied(found: &FoundObject<'_>, workload: &ComparedWorkload) -> Vec<String> {
    let message = |invalid: &crate::api::annotations::Invalid| {
        let (file, line) = found.location(invalid.path);
        let ComparedWorkload { kind, name, .. } = workload;
        escaped(&format!("{file}:{line}: {kind} {name}: {invalid}")).into_owned()
    };
    workload.diff.denials.iter().map(message).collect()
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
