//! Reads the workloads of a cluster, with the evidence about each.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use adieu_exposures::{NamespaceExposures, Pods, TrafficObject, exposures_of};
use adieu_recommend::Namespace;
use anyhow::{Context as _, bail};
use kube::{Client, Error, Resource as _, core::DynamicObject};

use super::{
    evidence::{Evidence, Known, evidence},
    fleet::{Fleet, FleetWorkload},
    profiles,
};
use crate::{
    api::TerminationProfileStatus,
    cli::{
        cluster_context::{ClusterContext, KUBE_SYSTEM},
        manifests::warn,
        print::to_stderr,
        termination_profiles::TerminationProfiles,
        traffic_objects::TrafficObjects,
    },
    index::{
        cached_workload::CachedWorkload,
        list::{Selectors, for_each},
        workloads::resource,
    },
    keys::WorkloadKey,
    plan::{Completeness, Kind, NamespaceContext, pod_labels},
};

/// The selection of workloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// `None`: all namespaces.
    pub(super) namespace: Option<&'a str>,
    /// A label selector, as the API server parses it.
    pub(super) labels: Option<&'a str>,
    /// The kinds that are opted in for the first time.
    pub(super) kinds: &'a [Kind],
}

/// # Errors
/// If policies or namespaces can't be read, no workloads can be listed, or the namespace doesn't exist.
pub(super) async fn read(client: &Client, selection: Selection<'_>) -> anyhow::Result<Fleet> {
    let namespace = selection.namespace;
    to_stderr("adieu: reading policies, Services, routes, TerminationProfiles and workloads");
    let (cluster, warnings) = ClusterContext::read(client, namespace).await;
    if let (true, Some(namespace)) = (cluster.lacks_namespace, namespace) {
        bail!("the namespace {namespace:?} does not exist: check its spelling, and the kubeconfig's context");
    }
    warnings.iter().chain(&cluster.missing_kinds()).for_each(|warning| warn(warning));
    if !cluster.is_complete() {
        bail!(
            "policies or the labels of namespaces cannot be read, so what they set is unknown: see the warnings"
        );
    }
    let traffic = TrafficObjects::read(client, namespace).await;
    traffic.report_skipped();
    let profiles = profiles::read(client, namespace).await;
    let selected = match selection.labels {
        None => None,
        Some(labels) => Some(selected(client, namespace, labels).await?),
    };
    let mut reader = Reader {
        cluster: &cluster,
        kinds: selection.kinds,
        completeness: traffic.completeness(),
        objects: traffic.objects.into(),
        profiles,
        selected,
        namespaces: BTreeMap::new(),
        workloads: HashMap::new(),
    };
    reader.list_all(client, namespace).await?;
    let Reader { namespaces, workloads, .. } = reader;
    Ok(Fleet {
        namespaces: namespaces.into_values().collect(),
        workloads,
        policies: cluster.policies().to_vec(),
        cluster_policies: cluster.cluster_policies().to_vec(),
    })
}

/// The keys of the workloads with these labels.
async fn selected(
    client: &Client,
    namespace: Option<&str>,
    labels: &str,
) -> anyhow::Result<HashSet<WorkloadKey>> {
    let mut selected = HashSet::new();
    for kind in Kind::ALL {
        let selectors = Selectors { labels: Some(labels), ..Selectors::default() };
        let add = |text: &[u8]| {
            if let Ok(cached) = CachedWorkload::read(text) {
                selected.insert(WorkloadKey::of(kind, &cached.metadata_only()));
            }
        };
        list(client, kind, namespace, selectors, add).await?;
    }
    Ok(selected)
}

/// Lists the workloads of a kind. Whether that is allowed.
async fn list(
    client: &Client,
    kind: Kind,
    namespace: Option<&str>,
    selectors: Selectors<'_>,
    each: impl FnMut(&[u8]),
) -> anyhow::Result<bool> {
    let resource = resource(kind);
    let path = DynamicObject::url_path(&resource, namespace);
    match for_each(client, &path, selectors, each).await {
        Err(Error::Api(status)) if status.code == 403 => Ok(false),
        listed => listed.map(|()| true).with_context(|| format!("cannot list {}", resource.plural)),
    }
}

struct Reader<'a> {
    cluster: &'a ClusterContext,
    kinds: &'a [Kind],
    objects: Arc<[Arc<TrafficObject>]>,
    completeness: Completeness,
    profiles: TerminationProfiles<TerminationProfileStatus>,
    /// `None`: all.
    selected: Option<HashSet<WorkloadKey>>,
    namespaces: BTreeMap<String, Namespace>,
    workloads: HashMap<WorkloadKey, FleetWorkload>,
}

impl Reader<'_> {
    /// Lists the workloads of all kinds: also those that aren't selected, because no policy may select them.
    async fn list_all(&mut self, client: &Client, namespace: Option<&str>) -> anyhow::Result<()> {
        let mut is_any_listed = false;
        for kind in Kind::ALL {
            let add = |text: &[u8]| match CachedWorkload::read(text) {
                Ok(cached) => self.add(kind, cached),
                Err(error) => warn(&format!("a {kind} cannot be read, so a policy may select it: {error}")),
            };
            let is_listed = list(client, kind, namespace, Selectors::default(), add).await?;
            if !is_listed {
                warn(&format!("you may not list {kind}s, so no policy is for them"));
            }
            is_any_listed |= is_listed;
        }
        if !is_any_listed {
            bail!("you may list neither Deployments nor StatefulSets nor DaemonSets");
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, cached: CachedWorkload) {
        let object = cached.object();
        let key = WorkloadKey::of(kind, &object);
        if key.namespace == KUBE_SYSTEM || object.metadata.deletion_timestamp.is_some() {
            return;
        }
        if let Some(reason) = cached.too_large() {
            warn(&format!("{kind} {}/{} keeps its times: {reason}", key.namespace, key.name));
        }
        let (cluster, objects, completeness) = (self.cluster, &self.objects, &self.completeness);
        let namespace = self.namespaces.entry(key.namespace.clone()).or_insert_with_key(|name| Namespace {
            name: name.clone(),
            candidates: vec![],
            context: NamespaceExposures::added_to(
                cluster.namespace_context(name),
                name,
                objects.clone(),
                completeness.clone(),
            ),
        });
        let pods = Pods { namespace: &key.namespace, labels: &pod_labels(&object) };
        let NamespaceContext { services, .. } = &namespace.context;
        let known = Known {
            kind,
            object: &object,
            context: &namespace.context,
            exposures: exposures_of(pods, services.iter().map(Arc::as_ref), &self.objects),
            profile: self.profiles.of(kind, &object.metadata),
            is_selected: cached.too_large().is_none()
                && self.selected.as_ref().is_none_or(|selected| selected.contains(&key)),
            kinds: self.kinds,
        };
        if let Some(Evidence { candidate, lines, notes }) = evidence(&known) {
            namespace.candidates.push(candidate);
            self.workloads.insert(key, FleetWorkload { cached, lines, notes });
        }
    }
}
