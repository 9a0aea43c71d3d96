//! The policies of a cluster that opt workloads in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Client, Resource, ResourceExt as _, core::DynamicObject};
use serde::de::DeserializeOwned;

use super::live_object::LiveObject;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    index::list::{Selectors, for_each},
    plan::{self, NamespaceContext},
    runtime::api_errors::describe,
};

/// The kind of the objects by whose labels cluster policies select.
pub(super) const NAMESPACES: &str = "Namespaces";

/// The policies that opt workloads in, as far as they can be read.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// Namespaced policies.
    namespaced: Vec<Arc<GracefulPolicy>>,
    /// Cluster policies.
    cluster: Vec<Arc<ClusterGracefulPolicy>>,
    /// The labels of namespaces, as far as they were read.
    labels: HashMap<String, BTreeMap<String, String>>,
    /// Whether policies, or labels that they select by, cannot be read.
    pub(super) are_incomplete: bool,
    /// The kinds that the API server doesn't serve.
    pub(super) missing: Vec<&'static str>,
}

impl Policies {
    /// Reads the policies that apply in a namespace, or in all. Returns a warning for each kind that cannot be read.
    pub(super) async fn read(client: &Client, namespace: Option<&str>) -> (Self, Vec<String>) {
        let (mut policies, mut warnings) = Self::read_without_labels(client, namespace).await;
        if policies.select_by_labels() {
            let failed = policies.read_labels(client).await.err();
            policies.record(NAMESPACES, failed, &mut warnings);
        }
        (policies, warnings)
    }

    /// Reads the policies without the labels of namespaces, by which cluster policies may select.
    pub(super) async fn read_without_labels(client: &Client, namespace: Option<&str>) -> (Self, Vec<String>) {
        let (mut policies, mut warnings) = (Self::default(), Vec::new());
        let failed = all(client, namespace, &mut policies.namespaced).await.err();
        policies.record("GracefulPolicies", failed, &mut warnings);
        let failed = all(client, None, &mut policies.cluster).await.err();
        policies.record("ClusterGracefulPolicies", failed, &mut warnings);
        (policies, warnings)
    }

    /// Whether a cluster policy applies only in namespaces with certain labels.
    pub(super) fn select_by_labels(&self) -> bool {
        self.cluster.iter().any(|policy| policy.spec.namespace_selector.is_some())
    }

    /// Reads the labels of all namespaces.
    ///
    /// # Errors
    /// If they can't be listed.
    pub(super) async fn read_labels(&mut self, client: &Client) -> Result<(), kube::Error> {
        let mut found: Vec<Arc<Namespace>> = Vec::new();
        let listed = all(client, None, &mut found).await;
        self.labels.extend(found.iter().map(|found| (found.name_any(), found.labels().clone())));
        listed
    }

    /// Records that a kind can't be listed.
    pub(super) fn record(
        &mut self,
        kind: &'static str,
        failed: Option<kube::Error>,
        warnings: &mut Vec<String>,
    ) {
        match failed {
            None => {}
            Some(kube::Error::Api(status)) if status.code == 404 => self.missing.push(kind),
            Some(error) => {
                self.are_incomplete = true;
                warnings.push(format!(
                    "{kind} cannot be listed, so workloads that only a policy opts in, and that are not injected yet, \
                     count as not opted in: {}",
                    describe(&error)
                ));
            }
        }
    }

    /// Sets the labels of a namespace that was read.
    pub(super) fn set_labels(&mut self, namespace: &str, labels: BTreeMap<String, String>) {
        self.labels.insert(namespace.to_owned(), labels);
    }

    /// The labels of a namespace; `None` if they are unknown.
    pub(super) fn labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.labels.get(namespace)
    }

    /// The policies of all namespaces that were read.
    pub(super) fn namespaced(&self) -> &[Arc<GracefulPolicy>] {
        &self.namespaced
    }

    /// The policies of a namespace.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<GracefulPolicy>> {
        let inside = |policy: &&Arc<GracefulPolicy>| policy.metadata.namespace.as_deref() == Some(namespace);
        self.namespaced.iter().filter(inside).cloned().collect()
    }

    /// The cluster policies, whether they apply in a namespace or not.
    pub(super) fn cluster_policies(&self) -> &[Arc<ClusterGracefulPolicy>] {
        &self.cluster
    }

    /// The context of a namespace.
    pub(super) fn namespace_context(&self, namespace: &str) -> NamespaceContext {
        let labels = self.labels.get(namespace).cloned().unwrap_or_default();
        let matches = |policy: &&Arc<ClusterGracefulPolicy>| {
            let selector = policy.spec.namespace_selector.as_ref();
            selector.is_none_or(|selector| plan::matches(selector, &labels))
        };
        NamespaceContext {
            policies: self.in_namespace(namespace),
            cluster_policies: self.cluster.iter().filter(matches).cloned().collect(),
            ..NamespaceContext::default()
        }
    }
}

/// Adds all readable objects of a kind.
async fn all<K: Resource<DynamicType = ()> + DeserializeOwned>(
    client: &Client,
    namespace: Option<&str>,
    found: &mut Vec<Arc<K>>,
) -> Result<(), kube::Error> {
    let add = |text: &[u8]| {
        let object = serde_json::from_slice::<LiveObject>(text).ok().map(DynamicObject::from);
        found.extend(object.and_then(|object| object.try_parse().ok()).map(Arc::new));
    };
    for_each(client, &K::url_path(&(), namespace), Selectors::default(), add).await
}
