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
};

/// The policies that opt workloads in, as far as they can be read.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// Namespaced policies.
    namespaced: Vec<Arc<GracefulPolicy>>,
    /// Cluster policies.
    cluster: Vec<Arc<ClusterGracefulPolicy>>,
    /// The labels of namespaces.
    labels: HashMap<String, BTreeMap<String, String>>,
}

impl Policies {
    /// Reads the policies that apply in a namespace, or in all. Returns a warning for each kind that cannot be read.
    pub(super) async fn read(client: &Client, namespace: Option<&str>) -> (Self, Vec<String>) {
        let mut warnings = Vec::new();
        let mut policies = Self {
            namespaced: all(client, namespace, "GracefulPolicies", &mut warnings).await,
            cluster: all(client, None, "ClusterGracefulPolicies", &mut warnings).await,
            ..Self::default()
        };
        if policies.cluster.iter().any(|policy| policy.spec.namespace_selector.is_some()) {
            let found: Vec<Arc<Namespace>> = all(client, None, "Namespaces", &mut warnings).await;
            let labels = |namespace: &Arc<Namespace>| (namespace.name_any(), namespace.labels().clone());
            policies.labels = found.iter().map(labels).collect();
        }
        (policies, warnings)
    }

    /// The context of a namespace.
    pub(super) fn namespace_context(&self, namespace: &str) -> NamespaceContext {
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

/// All readable objects of a kind. There are none if the kind isn't served.
async fn all<K: Resource<DynamicType = ()> + DeserializeOwned>(
    client: &Client,
    namespace: Option<&str>,
    kind: &str,
    warnings: &mut Vec<String>,
) -> Vec<Arc<K>> {
    let mut found = Vec::new();
    let add = |text: &[u8]| {
        let object = serde_json::from_slice::<LiveObject>(text).ok().map(DynamicObject::from);
        found.extend(object.and_then(|object| object.try_parse().ok()).map(Arc::new));
    };
    match for_each(client, &K::url_path(&(), namespace), Selectors::default(), add).await {
        Ok(()) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => warnings.push(format!(
            "{kind} cannot be listed, so workloads that only a policy opts in, and that are not injected yet, count as not \
             opted in: {error}"
        )),
    }
    found
}
