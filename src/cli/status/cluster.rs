//! Reads the workloads of a cluster.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use kube::{Client, Resource as _, ResourceExt as _, core::DynamicObject};

use super::{
    report::{Report, WorkloadRow},
    terminations::{self, LastTermination},
};
use crate::{
    cli::{
        cluster_context::{ClusterContext, KUBE_SYSTEM},
        live_object::get_workload,
        reference::Reference,
        termination_profiles::TerminationProfiles,
    },
    index::{
        cached_workload::CachedWorkload,
        list::{Selectors, for_each},
        workloads::resource,
    },
    plan::{Kind, ManagementState, NamespaceContext, WorkloadStatus, workload_status},
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
    let (mut cluster, mut warnings) = ClusterContext::read(client, namespace).await;
    if let (true, Some(namespace)) = (cluster.lacks_namespace, namespace) {
        bail!("the namespace {namespace:?} does not exist: check its spelling, and the kubeconfig's context");
    }
    warnings.extend(cluster.missing_kinds());
    warnings.extend(cluster.read_exposures(client, namespace).await);
    let terminations = terminations::read(client, namespace, &mut warnings).await;
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
        warnings,
    };
    if selection.workloads.is_empty() {
        reader.list_all(client, selection).await?;
    }
    for workload in selection.workloads {
        reader.get(client, workload, namespace.unwrap_or_default()).await?;
    }
    Ok((reader.report, reader.warnings))
}

struct Reader<'a> {
    cluster: &'a ClusterContext,
    /// The contexts of namespaces with workloads.
    contexts: HashMap<String, NamespaceContext>,
    includes_not_managed: bool,
    terminations: Option<TerminationProfiles<LastTermination>>,
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
            let terminations = self.terminations.as_ref();
            let last_termination = terminations.and_then(|all| all.of(kind, &object.metadata)).cloned();
            self.report.rows.push(WorkloadRow { kind, namespace, name, status, last_termination });
        }
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
