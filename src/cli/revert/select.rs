//! Which workloads of the cluster are opted out, and in which order.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    core::{ApiResource, DynamicObject},
};
use serde::de::DeserializeOwned;

use super::{super::reference::Reference, listed::Listed};
use crate::{
    api::{
        ClusterGracefulPolicy, GracefulPolicy,
        annotations::{INJECTED, PENDING},
    },
    index::progress::{Progress, is_updated, progress, was_complete},
    index::workloads::resource,
    plan::{self, Kind, NamespaceContext, OptIn, Workload},
    runtime::ownership::give_up,
};

/// How many workloads are listed at a time: each may take a megabyte.
const PAGE: u32 = 20;
/// How many policies or namespaces are listed at a time: each may take 100 KiB.
const POLICY_PAGE: u32 = 100;

/// The namespace that adieu leaves alone.
const KUBE_SYSTEM: &str = "kube-system";

/// Which workloads are meant.
#[derive(Debug)]
pub(super) struct Selection {
    /// The only one.
    pub(super) workload: Option<Reference>,
    /// `None`: all namespaces but kube-system.
    pub(super) namespace: Option<String>,
    /// By their own labels, as the API server takes it.
    pub(super) labels: Option<String>,
}

/// A workload and what is done with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) action: Action,
    /// How its pods were when it was looked at.
    pub(super) before: Before,
    created: Option<String>,
}

/// How a workload's pods are before it is opted out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// All of its template and available, or nothing is waited for.
    Settled,
    /// Being replaced.
    Rolling,
    /// Not available, although no rollout replaces them, or given up by the workload's controller.
    Broken,
}

impl Before {
    fn of(kind: Kind, object: &DynamicObject) -> Self {
        match progress(kind, object) {
            Progress::Complete => Self::Settled,
            Progress::Rolling if !was_complete(kind, object) && !is_updated(kind, object) => Self::Rolling,
            Progress::Rolling | Progress::Failed => Self::Broken,
        }
    }
}

/// What is done with a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It was opted out before, and its rollout goes on: that is waited for.
    Wait,
    /// It is opted out, and its pod template is restored, which is a rollout.
    Restore,
    /// It is opted out. Its pod template carries nothing.
    Annotate,
    /// Nothing can be done, for this reason.
    Leave(String),
}

impl Target {
    pub(super) fn new(kind: Kind, object: &DynamicObject, action: Action) -> Self {
        Self {
            kind,
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
            action,
            before: Before::of(kind, object),
            created: object.creation_timestamp().map(|time| time.0.to_string()),
        }
    }

    /// Rollouts that go on come first, because they count. Workloads that aren't available as they are come last:
    /// what they wait for may hold up the others.
    fn place(&self) -> impl Ord + use<> {
        let turn = match self.action {
            Action::Wait => 0,
            Action::Leave(_) | Action::Annotate => 1,
            Action::Restore if self.before == Before::Settled => 2,
            Action::Restore => 3,
        };
        (turn, self.created.clone(), self.namespace.clone(), self.kind.as_str(), self.name.clone())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// The workloads, in the order in which they are opted out.
    pub(super) targets: Vec<Target>,
    /// What could not be looked at.
    pub(super) warnings: Vec<String>,
}

/// Finds the workloads that are to be opted out.
///
/// # Errors
/// If workloads can't be listed, or the one that is named doesn't exist.
pub(super) async fn select(client: &Client, selection: &Selection) -> anyhow::Result<Selected> {
    let (policies, warnings) = Policies::read(client, selection).await;
    let mut targets = Vec::new();
    if let Some(Reference { kind, name }) = &selection.workload {
        let namespace = selection.namespace.as_deref().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(*kind));
        let found = api.get_opt(name).await.with_context(|| format!("reading {kind} {namespace}/{name}"))?;
        let Some(object) = found else { bail!("there is no {kind} {name:?} in the namespace {namespace:?}") };
        let around = policies.around(namespace);
        let named = || opted_out(*kind, &object, &around).is_none().then_some(Action::Annotate);
        let action = action(*kind, &object, &around).or_else(named);
        // A workload that is named may be one whose injection keeps its rollout from completing.
        targets.extend(
            action.map(|action| Target { before: Before::Settled, ..Target::new(*kind, &object, action) }),
        );
    } else {
        for kind in Kind::ALL {
            list(client, kind, selection, &policies, &mut targets).await?;
        }
    }
    targets.sort_by_cached_key(Target::place);
    Ok(Selected { targets, warnings })
}

async fn list(
    client: &Client,
    kind: Kind,
    selection: &Selection,
    policies: &Policies,
    targets: &mut Vec<Target>,
) -> anyhow::Result<()> {
    let resource = resource(kind);
    let api: Api<Listed> = match &selection.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let mut parameters = ListParams::default().limit(PAGE);
    parameters.label_selector.clone_from(&selection.labels);
    let mut namespace_context: HashMap<String, NamespaceContext> = HashMap::new();
    loop {
        let page = api.list(&parameters).await.with_context(|| format!("listing {}", resource.plural))?;
        for object in page.items.into_iter().map(Listed::object) {
            let namespace = object.namespace().unwrap_or_default();
            if selection.namespace.is_none() && namespace == KUBE_SYSTEM {
                continue;
            }
            let around =
                namespace_context.entry(namespace).or_insert_with_key(|namespace| policies.around(namespace));
            targets.extend(action(kind, &object, around).map(|action| Target::new(kind, &object, action)));
        }
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            return Ok(());
        }
    }
}

/// What is to be done with a workload; `None` if nothing.
fn action(kind: Kind, object: &DynamicObject, around: &NamespaceContext) -> Option<Action> {
    if object.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let workload = Workload::of(kind, object);
    if workload.template["metadata"]["annotations"].get(INJECTED).is_some() {
        if plan::original(workload.template, None) == *workload.template {
            let reason = "its annotation adieu.dev/injected, in spec.template.metadata.annotations, can't be read: it \
                          was changed by hand, or written by another version of adieu. Remove it, with the preStop \
                          hooks and readiness probes that adieu injected, by hand";
            return Some(Action::Leave(reason.into()));
        }
        let owners = object.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
        if let Some(owner) = owner {
            // The API server takes any text for these, also one that does something to a terminal.
            let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(253).collect::<String>();
            let reason = format!(
                "{} {} controls it, and would undo a change of its pod template: opt out what that copies from",
                shown(&owner.kind),
                shown(&owner.name)
            );
            return Some(Action::Leave(reason));
        }
        return Some(Action::Restore);
    }
    if let Some(rolling) = opted_out(kind, object, around) {
        // What a killed run left in adieu's name would conflict with what others apply.
        return (rolling || give_up(&object.metadata).is_some()).then_some(Action::Wait);
    }
    let opted_in = matches!(plan::resolve(&workload, around).opt_in, OptIn::In(_));
    (opted_in || workload.annotations.contains_key(PENDING)).then_some(Action::Annotate)
}

/// Whether a workload that is opted out is in the middle of a rollout, which an earlier run may have begun; `None` if
/// it isn't opted out. What broke after its rollout was complete is no rollout.
fn opted_out(kind: Kind, object: &DynamicObject, around: &NamespaceContext) -> Option<bool> {
    let workload = Workload::of(kind, object);
    let rolling = || Before::of(kind, object) == Before::Rolling;
    (plan::resolve(&workload, around).opt_in == OptIn::Out).then(rolling)
}

/// The policies that opt workloads in, as far as they can be read.
#[derive(Debug, Default)]
struct Policies {
    /// Of namespaces.
    inside: Vec<Arc<GracefulPolicy>>,
    /// Of the cluster.
    across: Vec<Arc<ClusterGracefulPolicy>>,
    /// The labels of namespaces.
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl Policies {
    /// Reads them. Without them, only workloads that carry an injection or an annotation are found.
    async fn read(client: &Client, selection: &Selection) -> (Self, Vec<String>) {
        let own = match &selection.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &of::<GracefulPolicy>()),
            None => Api::all_with(client.clone(), &of::<GracefulPolicy>()),
        };
        let cluster = Api::all_with(client.clone(), &of::<ClusterGracefulPolicy>());
        let mut warnings = Vec::new();
        let mut policies = Self {
            inside: all(&own, "GracefulPolicies", &mut warnings).await,
            across: all(&cluster, "ClusterGracefulPolicies", &mut warnings).await,
            ..Self::default()
        };
        if policies.across.iter().any(|policy| policy.spec.namespace_selector.is_some()) {
            let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &of::<Namespace>());
            let found: Vec<Arc<Namespace>> = all(&namespaces, "Namespaces", &mut warnings).await;
            let labels = |namespace: &Arc<Namespace>| (namespace.name_any(), namespace.labels().clone());
            policies.labels = found.iter().map(labels).collect();
        }
        (policies, warnings)
    }

    /// The policies of a namespace.
    fn around(&self, namespace: &str) -> NamespaceContext {
        let inside = |policy: &&Arc<GracefulPolicy>| policy.metadata.namespace.as_deref() == Some(namespace);
        let labels = self.labels.get(namespace).cloned().unwrap_or_default();
        let matches = |policy: &&Arc<ClusterGracefulPolicy>| {
            let selector = policy.spec.namespace_selector.as_ref();
            selector.is_none_or(|selector| plan::matches(selector, &labels))
        };
        NamespaceContext {
            policies: self.inside.iter().filter(inside).cloned().collect(),
            cluster_policies: self.across.iter().filter(matches).cloned().collect(),
            ..NamespaceContext::default()
        }
    }
}

fn of<K: kube::Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// All objects of a kind that can be read. If the kind isn't served, there are none.
async fn all<K: kube::Resource + DeserializeOwned>(
    api: &Api<DynamicObject>,
    kind: &str,
    warnings: &mut Vec<String>,
) -> Vec<Arc<K>> {
    let (mut found, mut parameters) = (Vec::new(), ListParams::default().limit(POLICY_PAGE));
    loop {
        match api.list(&parameters).await {
            Ok(page) => {
                let objects = page.items.into_iter();
                found.extend(objects.filter_map(|object| object.try_parse().ok().map(Arc::new)));
                parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                if parameters.continue_token.is_none() {
                    return found;
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return found,
            Err(error) => {
                warnings.push(format!(
                    "{kind} can't be listed, so workloads that only a policy opts in, and that carry nothing yet, are \
                     not opted out: {error}"
                ));
                return found;
            }
        }
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
