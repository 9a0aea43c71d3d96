//! Selects and orders the workloads to opt out.

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

use super::{
    super::reference::Reference,
    listed::{Listed, object},
};
use crate::{
    api::{
        ClusterGracefulPolicy, GracefulPolicy,
        annotations::{INJECTED, PENDING},
    },
    index::workloads::resource,
    plan::{self, Kind, NamespaceContext, OptIn, Workload},
    runtime::ownership::release_ownership,
    scheduler::progress::{Progress, is_updated, progress, was_complete},
};

/// The page size for workloads: each may take a megabyte.
const PAGE: u32 = 20;
/// The page size for policies and namespaces: each may take 100 KiB.
const POLICY_PAGE: u32 = 100;

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

/// A workload and the action for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) action: Action,
    /// The state of its pods when it was listed.
    pub(super) before: Before,
    created: Option<String>,
}

/// The state of a workload's pods before it is opted out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// All have its template and are available, or there is nothing to wait for.
    Settled,
    /// They are being replaced.
    Rolling,
    /// They are unavailable without a rollout, or the rollout failed.
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

/// The action for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It is opted out already; waits for its rollout in progress.
    Wait,
    /// Opts it out and restores its pod template, which is a rollout.
    Restore,
    /// Opts it out; its pod template has no injection.
    Annotate,
    /// Skips it, for this reason.
    Skip(String),
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

    /// Rollouts in progress come first, because they count against the limit. Unavailable workloads come last: waiting for
    /// them may block others.
    fn order(&self) -> impl Ord + use<> {
        let group = match self.action {
            Action::Wait => 0,
            Action::Skip(_) | Action::Annotate => 1,
            Action::Restore if self.before == Before::Settled => 2,
            Action::Restore => 3,
        };
        (group, self.created.clone(), self.namespace.clone(), self.kind.as_str(), self.name.clone())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The selected workloads.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// The workloads, in the order of opting out.
    pub(super) targets: Vec<Target>,
    /// Kinds that could not be read.
    pub(super) warnings: Vec<String>,
}

/// Finds the workloads to opt out.
///
/// # Errors
/// If workloads can't be listed, or the given one doesn't exist.
pub(super) async fn select(client: &Client, selection: &Selection) -> anyhow::Result<Selected> {
    let (policies, warnings) = Policies::read(client, selection).await;
    let mut targets = Vec::new();
    if let Some(Reference { kind, name }) = &selection.workload {
        let namespace = selection.namespace.as_deref().unwrap_or_default();
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource(*kind));
        let found = api.get_opt(name).await.with_context(|| format!("reading {kind} {namespace}/{name}"))?;
        let Some(object) = found else { bail!("there is no {kind} {name:?} in the namespace {namespace:?}") };
        let context = policies.namespace_context(namespace);
        let named = || opted_out(*kind, &object, &context).is_none().then_some(Action::Annotate);
        let action = action(*kind, &object, &context).or_else(named);
        // Nothing is waited for first: the injection may be what blocks the rollout.
        targets.extend(
            action.map(|action| Target { before: Before::Settled, ..Target::new(*kind, &object, action) }),
        );
    } else {
        for kind in Kind::ALL {
            list(client, kind, selection, &policies, &mut targets).await?;
        }
    }
    targets.sort_by_cached_key(Target::order);
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
    let mut contexts: HashMap<String, NamespaceContext> = HashMap::new();
    loop {
        let page = api.list(&parameters).await.with_context(|| format!("listing {}", resource.plural))?;
        for object in page.items.into_iter().map(object) {
            let namespace = object.namespace().unwrap_or_default();
            if selection.namespace.is_none() && namespace == KUBE_SYSTEM {
                continue;
            }
            let context = contexts
                .entry(namespace)
                .or_insert_with_key(|namespace| policies.namespace_context(namespace));
            targets.extend(action(kind, &object, context).map(|action| Target::new(kind, &object, action)));
        }
        parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if parameters.continue_token.is_none() {
            return Ok(());
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
        if plan::original(workload.template, None) == *workload.template {
            let reason = "its annotation adieu.dev/injected, in spec.template.metadata.annotations, can't be read: it \
                          was changed by hand, or written by another version of adieu. Remove it, with the preStop \
                          hooks and readiness probes that adieu injected, by hand";
            return Some(Action::Skip(reason.into()));
        }
        let owners = object.metadata.owner_references.iter().flatten();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
        if let Some(owner) = owner {
            // The API server accepts any text here, including terminal escapes.
            let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(253).collect::<String>();
            let reason = format!(
                "{} {} controls it, and would revert a change of its pod template: opt out the object that it copies from",
                shown(&owner.kind),
                shown(&owner.name)
            );
            return Some(Action::Skip(reason));
        }
        return Some(Action::Restore);
    }
    if let Some(rolling) = opted_out(kind, object, context) {
        // Fields that a killed run still owns would conflict with other applies.
        return (rolling || release_ownership(&object.metadata).is_some()).then_some(Action::Wait);
    }
    let opted_in = matches!(plan::resolve(&workload, context).opt_in, OptIn::In(_));
    (opted_in || workload.annotations.contains_key(PENDING)).then_some(Action::Annotate)
}

/// Whether an opted-out workload has a rollout in progress, which an earlier run may have started; `None` if it isn't
/// opted out.
fn opted_out(kind: Kind, object: &DynamicObject, context: &NamespaceContext) -> Option<bool> {
    let workload = Workload::of(kind, object);
    let rolling = || Before::of(kind, object) == Before::Rolling;
    (plan::resolve(&workload, context).opt_in == OptIn::Out).then(rolling)
}

/// The policies that opt workloads in, as far as they can be read.
#[derive(Debug, Default)]
struct Policies {
    /// Namespaced policies.
    namespaced: Vec<Arc<GracefulPolicy>>,
    /// Cluster policies.
    cluster: Vec<Arc<ClusterGracefulPolicy>>,
    /// The labels of namespaces.
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl Policies {
    /// Reads the policies. Without them, only workloads with an injection or an annotation are found.
    async fn read(client: &Client, selection: &Selection) -> (Self, Vec<String>) {
        let own = match &selection.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &of::<GracefulPolicy>()),
            None => Api::all_with(client.clone(), &of::<GracefulPolicy>()),
        };
        let cluster = Api::all_with(client.clone(), &of::<ClusterGracefulPolicy>());
        let mut warnings = Vec::new();
        let mut policies = Self {
            namespaced: all(&own, "GracefulPolicies", &mut warnings).await,
            cluster: all(&cluster, "ClusterGracefulPolicies", &mut warnings).await,
            ..Self::default()
        };
        if policies.cluster.iter().any(|policy| policy.spec.namespace_selector.is_some()) {
            let namespaces: Api<DynamicObject> = Api::all_with(client.clone(), &of::<Namespace>());
            let found: Vec<Arc<Namespace>> = all(&namespaces, "Namespaces", &mut warnings).await;
            let labels = |namespace: &Arc<Namespace>| (namespace.name_any(), namespace.labels().clone());
            policies.labels = found.iter().map(labels).collect();
        }
        (policies, warnings)
    }

    /// The context of a namespace.
    fn namespace_context(&self, namespace: &str) -> NamespaceContext {
        let inside = |policy: &&Arc<GracefulPolicy>| policy.metadata.namespace.as_deref() == Some(namespace);
        let labels = self.labels.get(namespace).cloned().unwrap_or_default();
        let matches = |policy: &&Arc<ClusterGracefulPolicy>| {
            let selector = policy.spec.namespace_selector.as_ref();
            selector.is_none_or(|selector| plan::matches(selector, &labels))
        };
        NamespaceContext {
            policies: self.namespaced.iter().filter(inside).cloned().collect(),
            cluster_policies: self.cluster.iter().filter(matches).cloned().collect(),
            ..NamespaceContext::default()
        }
    }
}

fn of<K: kube::Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// All readable objects of a kind. There are none if the kind isn't served.
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
                    "{kind} can't be listed, so workloads that only a policy opts in, and that are not injected yet, are \
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
