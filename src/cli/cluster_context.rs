//! The policies, Services and other facts in a cluster on which evaluations of workloads depend.

use std::{collections::HashMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Namespace, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource as _, ResourceExt as _};

use super::{
    policies::{NAMESPACES, Policies},
    traffic_objects::TrafficObjects,
};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, labels},
    index::{
        exposures::TrafficCache,
        list::{Selectors, for_each},
    },
    kube_version::KubeVersion,
    manifests::ClusterObjects,
    plan::NamespaceContext,
    runtime::api_errors::describe,
};

/// The namespace that adieu ignores.
pub(super) const KUBE_SYSTEM: &str = "kube-system";

/// The facts of a namespace, or of all, as far as they can be read.
#[derive(Debug)]
pub(super) struct ClusterContext {
    policies: Policies,
    /// By namespace.
    services: HashMap<String, Vec<Arc<Service>>>,
    /// The objects that lead requests to Services; `None` if they aren't read.
    traffic: Option<TrafficCache>,
    native_sleep: bool,
    /// Whether the given namespace does not exist.
    pub(super) lacks_namespace: bool,
}

impl ClusterContext {
    /// Reads the facts of a namespace, or of all. Returns a warning for each kind that cannot be read.
    pub(super) async fn read(client: &Client, namespace: Option<&str>) -> (Self, Vec<String>) {
        let (policies, mut warnings) = Policies::read_without_labels(client, namespace).await;
        let mut context = Self {
            policies,
            services: HashMap::new(),
            traffic: None,
            native_sleep: true,
            lacks_namespace: false,
        };
        if let Some(namespace) = namespace {
            context.read_namespace(client, namespace, &mut warnings).await;
        } else {
            let failed = context.policies.read_labels(client).await.err();
            context.record_labels(failed, &mut warnings);
        }
        context.read_services(client, namespace, &mut warnings).await;
        if let Ok(server) = client.apiserver_version().await {
            let version =
                format!("{}.{}", server.major, server.minor.trim_end_matches('+')).parse::<KubeVersion>();
            context.native_sleep = version.map_or(true, KubeVersion::has_native_sleep);
        }
        (context, warnings)
    }

    async fn read_namespace(&mut self, client: &Client, namespace: &str, warnings: &mut Vec<String>) {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        match namespaces.get_metadata_opt(namespace).await {
            Ok(found) => {
                self.lacks_namespace = found.is_none();
                let labels = found.map(|namespace| namespace.labels().clone()).unwrap_or_default();
                self.policies.set_labels(namespace, labels);
            }
            Err(error) => self.record_labels(Some(error), warnings),
        }
    }

    /// Records that the labels of namespaces can't be read.
    fn record_labels(&mut self, failed: Option<kube::Error>, warnings: &mut Vec<String>) {
        if self.policies.select_by_labels() {
            self.policies.record(NAMESPACES, failed, warnings);
        } else if let Some(error) = failed {
            let error = describe(&error);
            warnings.push(format!("the namespace cannot be read, and may lack the label for pods: {error}"));
        }
    }

    /// Reads the fields of Services on which evaluations or exposures depend.
    async fn read_services(&mut self, client: &Client, namespace: Option<&str>, warnings: &mut Vec<String>) {
        let path = Service::url_path(&(), namespace);
        let services = &mut self.services;
        let add = |text: &[u8]| {
            let Ok(service) = serde_json::from_slice::<Service>(text) else { return };
            let ObjectMeta { name, namespace: own, annotations, .. } = service.metadata;
            let of = own.or_else(|| namespace.map(ToOwned::to_owned)).unwrap_or_default();
            let namespace = Some(of.clone());
            let metadata = ObjectMeta { name, namespace, annotations, ..ObjectMeta::default() };
            let slim = Service { metadata, spec: service.spec, status: None };
            services.entry(of).or_default().push(Arc::new(slim));
        };
        if let Err(error) = for_each(client, &path, Selectors::default(), add).await {
            let error = describe(&error);
            warnings.push(format!("Services cannot be listed, so readiness probes may differ: {error}"));
        }
    }

    /// Reads the objects that lead requests to Services, as far as the user may list them. Returns a warning about the kinds
    /// that are skipped. Without a Service there are none.
    pub(super) async fn read_exposures(
        &mut self,
        client: &Client,
        namespace: Option<&str>,
    ) -> Option<String> {
        if self.services.is_empty() {
            self.traffic = Some(TrafficCache::default());
            return None;
        }
        let found = TrafficObjects::read(client, namespace).await;
        let skipped = found.skipped();
        let traffic = TrafficCache::fixed(found.objects.into_iter().map(Arc::unwrap_or_clone));
        self.traffic = Some(if skipped.is_some() { traffic.without_some_kinds() } else { traffic });
        skipped
    }

    /// The context of a namespace.
    pub(super) fn namespace_context(&self, namespace: &str) -> NamespaceContext {
        let context = NamespaceContext {
            services: self.services_in(namespace),
            native_sleep: self.native_sleep,
            // A namespace that can't be read is assumed to be labelled.
            injection_enabled: self.policies.labels(namespace).is_none_or(labels::is_enabled),
            has_unusable_policy: self.policies.are_incomplete,
            ..self.policies.namespace_context(namespace)
        };
        match &self.traffic {
            Some(traffic) => traffic.added_to(context, namespace),
            None => context,
        }
    }

    /// The objects that apply in a namespace, to which manifests are added.
    pub(super) fn objects(&self, namespace: &str) -> ClusterObjects {
        ClusterObjects {
            policies: self.policies.in_namespace(namespace),
            cluster_policies: self.policies.cluster_policies().to_vec(),
            services: self.services_in(namespace),
            labels: self.policies.labels(namespace).cloned(),
            native_sleep: self.native_sleep,
            has_unusable_policy: self.policies.are_incomplete,
        }
    }

    /// The policies of the namespace, or of all.
    pub(super) fn policies(&self) -> &[Arc<GracefulPolicy>] {
        self.policies.namespaced()
    }

    /// The cluster policies, whether they apply in the namespace or not.
    pub(super) fn cluster_policies(&self) -> &[Arc<ClusterGracefulPolicy>] {
        self.policies.cluster_policies()
    }

    /// The warning if the API server doesn't serve the policies' kinds.
    pub(super) fn missing_kinds(&self) -> Option<String> {
        let missing = &self.policies.missing;
        (!missing.is_empty()).then(|| {
            format!(
                "the API server does not serve {}: the CRDs of adieu are not installed, so adieu changes nothing",
                missing.join(" and ")
            )
        })
    }

    /// Whether the policies and labels of the namespace or namespaces are known.
    pub(super) fn is_complete(&self) -> bool {
        !self.policies.are_incomplete
    }

    fn services_in(&self, namespace: &str) -> Vec<Arc<Service>> {
        self.services.get(namespace).cloned().unwrap_or_default()
    }
}
