//! Reads the workloads of a cluster.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, bail};
use kube::{Client, Resource as _, ResourceExt as _, core::DynamicObject};

use super::{
    report::{Report, WorkloadRow},
    terminations::LastTerminations,
};
use crate::{
    cli::{
        cluster_context::{ClusterContext, KUBE_SYSTEM},
        live_object::get_workload,
        reference::Reference,
        traffic_objects::TrafficObjects,
    },
    index::{
        cached_workload::CachedWorkload,
        exposures::{Exposures, InjectedDrain, NamespaceExposures},
        list::{Selectors, for_each},
        workloads::resource,
    },
    plan::{Kind, ManagementState, NamespaceContext, Workload, WorkloadStatus, workload_status},
};

/// The selection of workloads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// Single workloads; if empty, all.
    pub(super) workloads: &'a [Reference],
    /// `None`: all namespaces.
    pub(super) namespace: Option<&'a String>,
    /// A label selector, as the API server parses it.
    pub(super) labels: Option<&'a str>,
    /// Whether workloads that are not managed are listed.
    pub(super) includes_not_managed: bool,
}

/// The selected workloads in the order of the API server, one kind after the other, and warnings about objects that cannot be read.
///
/// # Errors
/// If no workloads can be listed, or a given one or its namespace doesn't exist.
pub(super) async fn read(
    client: &Client,
    selection: &Selection<'_>,
) -> anyhow::Result<(Report, Vec<String>)> {
    let namespace = selection.namespace.map(String::as_str);
    let (cluster, mut warnings) = ClusterContext::read(client, namespace).await;
    if let (true, Some(namespace)) = (cluster.lacks_namespace, namespace) {
        bail!("the namespace {namespace:?} does not exist: check its spelling, and the kubeconfig's context");
    }
    warnings.extend(cluster.missing_kinds());
    let terminations = LastTerminations::read(client, namespace, &mut warnings).await;
    let mut reader = Reader {
        cluster: &cluster,
        contexts: HashMap::new(),
        includes_not_managed: selection.includes_not_managed || !selection.workloads.is_empty(),
        report: Report {
            is_complete: cluster.is_complete(),
            has_terminations: terminations.is_some(),
            ..Report::default()
        },
        terminations,
        injected: Vec::new(),
        warnings,
    };
    if selection.workloads.is_empty() {
        reader.list_all(client, selection).await?;
    }
    for workload in selection.workloads {
        reader.get(client, workload, namespace.unwrap_or_default()).await?;
    }
    reader.find_short_drains(client, namespace).await;
    Ok((reader.report, reader.warnings))
}

struct Reader<'a> {
    cluster: &'a ClusterContext,
    /// The contexts of namespaces with workloads.
    contexts: HashMap<String, NamespaceContext>,
    includes_not_managed: bool,
    terminations: Option<LastTerminations>,
    /// The positions of injected workloads among the rows, with their drains.
    injected: Vec<(usize, InjectedDrain)>,
    report: Report,
    warnings: Vec<String>,
}

impl Reader<'_> {
    /// Lists the workloads of all kinds. Only one object at a time is held.
    async fn list_all(&mut self, client: &Client, selection: &Selection<'_>) -> anyhow::Result<()> {
        let mut forbidden = Vec::new();
        for kind in Kind::ALL {
            let resource = resource(kind);
            let path = DynamicObject::url_path(&resource, selection.namespace.map(String::as_str));
            let selectors = Selectors { labels: selection.labels, ..Selectors::default() };
            match for_each(client, &path, selectors, |text| self.add_text(kind, text)).await {
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    forbidden.push(format!("{kind}s cannot be listed: {}", status.message));
                }
                listed => listed.with_context(|| format!("cannot list {}", resource.plural))?,
            }
        }
        if forbidden.len() == Kind::ALL.len() {
            bail!("no workloads can be listed: {}", forbidden.join("; "));
        }
        self.report.is_complete &= forbidden.is_empty();
        self.warnings.extend(forbidden);
        Ok(())
    }

    async fn get(&mut self, client: &Client, workload: &Reference, namespace: &str) -> anyhow::Result<()> {
        let Reference { kind, name } = workload;
        let found = get_workload(client, *kind, namespace, name).await;
        let Some(object) = found.with_context(|| format!("cannot get {kind} {namespace}/{name}"))? else {
            bail!("{kind} {name:?} not found in namespace {namespace:?}")
        };
        self.add(*kind, &object, None);
        Ok(())
    }

    /// Reads what leads requests to the injected workloads, and finds those whose drain is too short for it.
    async fn find_short_drains(&mut self, client: &Client, namespace: Option<&str>) {
        if self.injected.is_empty() {
            return;
        }
        let namespace = namespace.unwrap_or(client.default_namespace());
        let found = TrafficObjects::read(client, namespace).await;
        self.warnings.extend(found.skipped());
        let exposures = Exposures::fixed(found.objects.into_iter().map(Arc::unwrap_or_clone));
        let mut namespaces: HashMap<&str, NamespaceExposures> = HashMap::new();
        for (position, injected) in &self.injected {
            let Some(row) = self.report.rows.get_mut(*position) else { continue };
            let Some((namespace, context)) = self.contexts.get_key_value(&row.namespace) else { continue };
            let exposures = namespaces
                .entry(namespace.as_str())
                .or_insert_with(|| NamespaceExposures::new(&exposures, namespace, context));
            if let Some(shortfall) = exposures.shortfall(injected) {
                row.status.state = ManagementState::DrainTooShort;
                row.status.reason = Some(shortfall);
            }
        }
    }

    fn add_text(&mut self, kind: Kind, text: &[u8]) {
        match CachedWorkload::read(text) {
            Ok(cached) => self.add(kind, &cached.object(), cached.too_large()),
            Err(error) => {
                self.report.is_complete = false;
                self.warnings.push(format!("a {kind} cannot be read: {error}"));
            }
        }
    }

    /// Adds a workload. `too_large` is the reason why the operator can't read it as a whole.
    fn add(&mut self, kind: Kind, object: &DynamicObject, too_large: Option<&str>) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let context = self
            .contexts
            .entry(namespace.clone())
            .or_insert_with_key(|namespace| self.cluster.namespace_context(namespace));
        let status = if namespace == KUBE_SYSTEM {
            let reason = Some(format!("adieu ignores the namespace {KUBE_SYSTEM}"));
            WorkloadStatus::without_values(ManagementState::NotManaged, reason)
        } else {
            workload_status(kind, object, context, too_large)
        };
        self.report.not_managed += usize::from(!status.is_managed());
        if status.is_managed() || self.includes_not_managed {
            if status.state == ManagementState::Injected {
                let injected = InjectedDrain::of(&Workload::of(kind, object).template);
                self.injected.extend(injected.map(|injected| (self.report.rows.len(), injected)));
            }
            let terminations = self.terminations.as_ref();
            let last_termination = terminations.and_then(|all| all.of(kind, &object.metadata));
            self.report.rows.push(WorkloadRow { kind, namespace, name, status, last_termination });
        }
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
