//! Selects the workloads to opt out, and decides the action for each.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt as _, api::ListParams, core::DynamicObject};

use super::{
    super::reference::Reference,
    outcome::workloads,
    resume,
    skip::SkipReason,
    slim_workload::{SlimWorkload, to_object},
    target::{Action, Before, Target},
};
use crate::{
    api::annotations::{INJECTED, PENDING},
    cli::policies::Policies,
    index::workloads::resource,
    owners::controller_of,
    plan::{self, Kind, NamespaceContext, OptIn, Workload},
};

/// The page size for workloads: each may take a megabyte.
const PAGE: u32 = 20;
/// The namespace that adieu ignores.
const KUBE_SYSTEM: &str = "kube-system";

/// The selection of workloads.
#[derive(Debug)]
pub(super) struct Selection {
    /// A single workload.
    pub(super) workload: Option<Reference>,
    /// `None`: all namespaces but kube-system.
    pub(super) namespace: Option<String>,
    /// A label selector, as the API server parses it.
    pub(super) labels: Option<String>,
}

/// The selected workloads.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// The workloads, in the order of opting out.
    pub(super) targets: Vec<Target>,
    /// The number of workloads that the selection matches, including those with nothing to do.
    pub(super) matched: usize,
    /// Kinds that could not be read, and a selection that matches nothing.
    pub(super) warnings: Vec<String>,
}

/// Finds the workloads to opt out.
///
/// # Errors
/// If workloads can't be listed, or the given one or its namespace doesn't exist.
pub(super) async fn select(client: &Client, selection: &Selection) -> anyhow::Result<Selected> {
    let (policies, mut warnings) = Policies::read(client, selection.namespace.as_deref()).await;
    let (mut targets, mut matched) = (Vec::new(), 1);
    if let Some(Reference { kind, name }) = &selection.workload {
        let namespace = selection.namespace.as_deref().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(*kind));
        let found =
            api.get_opt(name).await.with_context(|| format!("cannot get {kind} {namespace}/{name}"))?;
        let Some(object) = found else { bail!("{kind} {name:?} not found in namespace {namespace:?}") };
        let context = policies.namespace_context(namespace);
        let named = || (!resume::is_opted_out(*kind, &object, &context)).then_some(Action::Annotate);
        let action = action(*kind, &object, &context).or_else(named);
        // Nothing is waited for first: the injection may be what blocks the rollout.
        targets.extend(
            action.map(|action| Target { before: Before::Settled, ..Target::new(*kind, &object, action) }),
        );
    } else {
        matched = 0;
        for kind in Kind::ALL {
            matched += list(client, kind, selection, &policies, &mut targets).await?;
        }
        if matched == 0 {
            check_namespace(client, selection).await?;
            warnings.extend(selection.matches_nothing());
        }
    }
    targets.sort_by_cached_key(Target::order);
    Ok(Selected { targets, matched, warnings })
}

/// An error if the namespace of the selection doesn't exist. There is none without the right to read it.
async fn check_namespace(client: &Client, selection: &Selection) -> anyhow::Result<()> {
    let Some(namespace) = &selection.namespace else { return Ok(()) };
    let api: Api<Namespace> = Api::all(client.clone());
    match api.get_metadata_opt(namespace).await {
        Ok(None) => bail!(
            "the namespace {namespace:?} does not exist: check its spelling, and the kubeconfig's context"
        ),
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

impl Selection {
    /// The warning if no workload matches. A cluster without workloads needs none.
    fn matches_nothing(&self) -> Option<String> {
        let inside = match &self.namespace {
            Some(namespace) => format!("in the namespace {namespace:?}"),
            None => "in any namespace except kube-system".to_owned(),
        };
        match (&self.labels, &self.namespace) {
            (Some(labels), _) => {
                Some(format!("no workload matches the labels {labels:?} {inside}: check the selector"))
            }
            (None, Some(_)) => Some(format!(
                "no workload matches: there is no Deployment, StatefulSet or DaemonSet {inside}"
            )),
            (None, None) => None,
        }
    }

    /// The summary if none of the workloads that match is injected or opted in.
    pub(super) fn nothing_to_do(&self, matched: usize) -> String {
        match &self.workload {
            Some(Reference { kind, name }) => {
                let namespace = self.namespace.as_deref().unwrap_or_default();
                format!("nothing to do: {kind} {namespace}/{name} is opted out already")
            }
            None if matched == 0 => "nothing to do: no workload matches".to_owned(),
            None => format!("nothing to do: {} checked, none is injected or opted in", workloads(matched)),
        }
    }
}

/// Adds the targets of a kind, and returns how many workloads match.
async fn list(
    client: &Client,
    kind: Kind,
    selection: &Selection,
    policies: &Policies,
    targets: &mut Vec<Target>,
) -> anyhow::Result<usize> {
    let resource = resource(kind);
    let api: Api<SlimWorkload> = match &selection.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let mut parameters = ListParams::default().limit(PAGE);
    parameters.label_selector.clone_from(&selection.labels);
    let mut contexts: HashMap<String, NamespaceContext> = HashMap::new();
    let mut matched = 0;
    loop {
        let page = api.list(&parameters).await.with_context(|| format!("cannot list {}", resource.plural))?;
        for object in page.items.into_iter().map(to_object) {
            let namespace = object.namespace().unwrap_or_default();
            if selection.namespace.is_none() && namespace == KUBE_SYSTEM {
                continue;
            }
            matched += 1;
            let context = contexts
                .entry(namespace)
                .or_insert_with_key(|namespace| policies.namespace_context(namespace));
            targets.extend(action(kind, &object, context).map(|action| Target::new(kind, &object, action)));
        }
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            return Ok(matched);
        }
    }
}

/// The action for a workload; `None` if there is nothing to do.
fn action(kind: Kind, object: &DynamicObject, context: &NamespaceContext) -> Option<Action> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let workload = Workload::of(kind, object);
    if workload.template["metadata"]["annotations"].get(INJECTED).is_some() {
        if plan::original(&workload.template, None) == *workload.template {
            return Some(Action::Skip(SkipReason::UnreadableRecord));
        }
        if let Some(owner) = controller_of(&object.metadata) {
            return Some(Action::Skip(SkipReason::controlled(&owner.kind, &owner.name)));
        }
        return Some(Action::Restore);
    }
    if resume::is_opted_out(kind, object, context) {
        return resume::action_if_opted_out(kind, object);
    }
    let opted_in = matches!(plan::resolve(&workload, context).opt_in, OptIn::In(_));
    (opted_in || workload.annotations.contains_key(PENDING)).then_some(Action::Annotate)
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
