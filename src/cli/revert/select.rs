//! Selects the workloads to opt out, and decides the action for each.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Resource as _, ResourceExt as _, core::DynamicObject};

use super::{
    super::reference::Reference,
    outcome::{Outcome, Stop, workloads},
    resume,
    skip::SkipReason,
    slim_workload::SlimWorkload,
    target::{Action, Before, Target, TargetKey},
};
use crate::{
    api::annotations::{INJECTED, PENDING},
    cli::{
        cluster_context::KUBE_SYSTEM,
        live_object::{MEMORY_LIMIT, get_workload},
        policies::Policies,
    },
    index::{
        list::{Selectors, for_each},
        memory_estimate::parsed_size,
        workloads::resource,
    },
    owners::controller_of,
    plan::{self, Kind, NamespaceContext, OptIn, Workload},
};

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
/// If workloads can't be listed, or the given one or its namespace doesn't exist, or it is too large.
pub(super) async fn select(client: &Client, selection: &Selection) -> anyhow::Result<Selected> {
    let (policies, mut warnings) = Policies::read(client, selection.namespace.as_deref()).await;
    let mut selected = Selected { matched: 1, ..Selected::default() };
    if let Some(Reference { kind, name }) = &selection.workload {
        let namespace = selection.namespace.as_deref().unwrap_or_default();
        let found = get_workload(client, *kind, namespace, name).await;
        let Some(object) = found.with_context(|| format!("cannot get {kind} {namespace}/{name}"))? else {
            bail!("{kind} {name:?} not found in namespace {namespace:?}")
        };
        let context = policies.namespace_context(namespace);
        let named = || (!resume::is_opted_out(*kind, &object, &context)).then_some(Action::Annotate);
        let action = action(*kind, &object, &context).or_else(named);
        // Nothing is waited for first: the injection may be what blocks the rollout.
        selected.targets.extend(
            action.map(|action| Target { before: Before::Settled, ..Target::new(*kind, &object, action) }),
        );
    } else {
        selected.matched = 0;
        for kind in Kind::ALL {
            list(client, kind, selection, &policies, &mut selected).await?;
        }
        if selected.matched == 0 {
            check_namespace(client, selection).await?;
            warnings.extend(selection.matches_nothing());
        }
    }
    selected.targets.sort_by_cached_key(Target::order);
    selected.warnings.append(&mut warnings);
    Ok(selected)
}

/// Workloads that were created, or opted in again, while those that were `planned` were opted out; none where a failure
/// stopped the run.
///
/// # Errors
/// Like [`select`].
pub(super) async fn opted_in_again(
    client: &Client,
    selection: &Selection,
    planned: &BTreeSet<TargetKey>,
    done: &[(Target, Outcome)],
) -> anyhow::Result<Vec<Target>> {
    let stopped_by = |stop| done.iter().filter(move |(_, outcome)| outcome.stops() == Some(stop));
    if stopped_by(Stop::Everything).next().is_some() {
        return Ok(vec![]);
    }
    let stopped: BTreeSet<_> =
        stopped_by(Stop::Namespace).map(|(target, _)| target.namespace.as_str()).collect();
    let is_out = |(_, outcome): &&(Target, Outcome)| {
        matches!(outcome, Outcome::Restored | Outcome::Annotated | Outcome::UnrelatedFailure { .. })
    };
    let out: BTreeSet<_> = done.iter().filter(is_out).map(|(target, _)| target.key()).collect();
    let mut again = select(client, selection).await?.targets;
    again.retain(|target| {
        matches!(target.action, Action::Restore | Action::Annotate)
            && !stopped.contains(target.namespace.as_str())
            && (out.contains(&target.key()) || !planned.contains(&target.key()))
    });
    Ok(again)
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

/// Adds the workloads of a kind.
async fn list(
    client: &Client,
    kind: Kind,
    selection: &Selection,
    policies: &Policies,
    selected: &mut Selected,
) -> anyhow::Result<()> {
    let resource = resource(kind);
    let path = DynamicObject::url_path(&resource, selection.namespace.as_deref());
    let selectors = Selectors { labels: selection.labels.as_deref(), ..Selectors::default() };
    let mut contexts: HashMap<String, NamespaceContext> = HashMap::new();
    let add = |text: &[u8]| {
        let object = match serde_json::from_slice::<SlimWorkload>(text) {
            Ok(object) => DynamicObject::from(object),
            Err(error) => return selected.warnings.push(format!("a {kind} cannot be read: {error}")),
        };
        let namespace = object.namespace().unwrap_or_default();
        if selection.namespace.is_none() && namespace == KUBE_SYSTEM {
            return;
        }
        selected.matched += 1;
        let context =
            contexts.entry(namespace).or_insert_with_key(|namespace| policies.namespace_context(namespace));
        let is_large = || std::str::from_utf8(text).is_ok_and(|text| parsed_size(text) > MEMORY_LIMIT);
        let action = action(kind, &object, context).map(|action| match action {
            Action::Restore | Action::Annotate if is_large() => Action::Skip(SkipReason::TooLarge),
            action => action,
        });
        selected.targets.extend(action.map(|action| Target::new(kind, &object, action)));
    };
    for_each(client, &path, selectors, add).await.with_context(|| format!("cannot list {}", resource.plural))
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
