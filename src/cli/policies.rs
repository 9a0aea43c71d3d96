//! The policies of a cluster that opt workloads in.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    core::{ApiResource, DynamicObject},
};
use serde::de::DeserializeOwned;

use super::live_object::LiveObject;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    plan::{self, NamespaceContext},
};

/// The page size for policies and namespaces: each may take 100 KiB.
const PAGE: u32 = 100;

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
        let own = match namespace {
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
            let namespaces: Api<LiveObject> = Api::all_with(client.clone(), &of::<Namespace>());
            let found: Vec<Arc<Namespace>> = all(&namespaces, "Namespaces", &mut warnings).await;
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

fn of<K: kube::Resource<DynamicType = ()>>() -> ApiResource {
    ApiResource::erase::<K>(&())
}

/// All readable objects of a kind. There are none if the kind isn't served.
async fn all<K: kube::Resource + DeserializeOwned>(
    api: &Api<LiveObject>,
    kind: &str,
    warnings: &mut Vec<String>,
) -> Vec<Arc<K>> {
    let (mut found, mut parameters) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        match api.list(&parameters).await {
            Ok(page) => {
                let objects = page.items.into_iter().map(DynamicObject::from);
                found.extend(objects.filter_map(|object| object.try_parse().ok().map(Arc::new)));
                parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                if parameters.continue_token.is_none() {
                    return found;
                }
            }
            Err(kube::Error::Api(status)) if status.code == 404 => return found,
            Err(error) => {
                warnings.push(format!(
                    "{kind} cannot be listed, so workloads that only a policy opts in, and that are not injected yet, \
                     count as not opted in: {error}"
                ));
                return found;
            }
        }
    }
}
