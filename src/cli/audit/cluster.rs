//! Audits a cluster, which needs nothing installed.

use adieu_audit::{Inventory, Limit, Options, Report, audit as audit_inventory};
use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client, Resource as _,
    api::ListParams,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::arguments::Arguments;
use crate::{
    cli::{
        connection::connect, manifests::warn, node_shutdown::by_kubeadm, policies::Policies,
        traffic_objects::TrafficObjects,
    },
    index::list::{Selectors, for_each},
    kube_version::KubeVersion,
};

/// How many nodes are read: those of a cluster are usually alike.
const NODES: u32 = 100;
/// The kinds that rules read: those that are audited, and others.
const WORKLOADS: [(&str, &str, &str); 5] = [
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "DaemonSet"),
    ("batch", "v1", "CronJob"),
    ("batch", "v1", "Job"),
];
const OTHERS: [(&str, &str, &str); 3] = [
    ("", "v1", "Service"),
    ("policy", "v1", "PodDisruptionBudget"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
];

/// # Errors
/// If no workloads can be listed.
pub(super) async fn audit(arguments: &Arguments) -> anyhow::Result<Report> {
    let client = connect().await?;
    let namespace = (!arguments.all_namespaces)
        .then(|| arguments.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned()));
    let mut cluster = Cluster { client, namespace, inventory: Inventory::new(""), unreadable: vec![] };
    let mut is_any_listed = false;
    for kind in WORKLOADS {
        is_any_listed |= cluster.list(kind, arguments.selector.as_deref()).await?;
    }
    if !is_any_listed {
        bail!("no workloads can be listed: {}", cluster.unreadable.join("; "));
    }
    let mut budgets_unknown = false;
    for kind in OTHERS {
        let is_listed = cluster.list(kind, None).await?;
        budgets_unknown |= kind.2 == "PodDisruptionBudget" && !is_listed;
    }
    // They may be in other namespaces than the workloads.
    let traffic = TrafficObjects::read(&cluster.client, cluster.namespace.as_deref()).await;
    traffic.report_skipped();
    cluster.inventory.add_traffic(traffic.objects);
    let kubelets = cluster.kubelets().await;
    let mut limits = arguments.limits.clone();
    if !limits.iter().any(|limit| limit.is_node_shutdown()) {
        limits.extend(by_kubeadm(&cluster.client).await.map(Limit::node_shutdown));
    }
    let (policies, warnings) = Policies::read(&cluster.client, cluster.namespace.as_deref()).await;
    cluster.unreadable.into_iter().chain(warnings).for_each(|warning| warn(&warning));
    let mut inventory = cluster.inventory;
    let native_sleep = kubelets
        .iter()
        .filter_map(|version| version.parse::<KubeVersion>().ok())
        .all(KubeVersion::has_native_sleep);
    inventory.inject(|namespace| {
        let mut context = policies.namespace_context(namespace);
        context.native_sleep = native_sleep;
        context
    });
    Ok(audit_inventory(&inventory, &Options { limits, kubelets, budgets_unknown }))
}

/// An object with the fields that rules read. `managedFields` may be of any size, and take many times that as values.
#[derive(Serialize, Deserialize)]
struct Listed {
    metadata: ListedMetadata,
    #[serde(default)]
    spec: Value,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListedMetadata {
    name: Value,
    namespace: Value,
    annotations: Value,
    labels: Value,
    owner_references: Value,
}

struct Cluster {
    client: Client,
    /// `None`: all.
    namespace: Option<String>,
    inventory: Inventory,
    /// The kinds that can't be listed, and objects that can't be read, with the reason.
    unreadable: Vec<String>,
}

impl Cluster {
    /// Adds all objects of a kind. One that isn't served has none. Whether it may be listed.
    async fn list(
        &mut self,
        (group, version, kind): (&str, &str, &str),
        labels: Option<&str>,
    ) -> anyhow::Result<bool> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let path = DynamicObject::url_path(&resource, self.namespace.as_deref());
        let add = |text: &[u8]| {
            let object = match serde_json::from_slice::<Listed>(text).and_then(serde_json::to_value) {
                Ok(object) => object,
                Err(error) => return self.unreadable.push(format!("a {kind} cannot be read: {error}")),
            };
            if let Err(error) = self.inventory.add(0, &resource.api_version, kind, &object) {
                self.unreadable.push(format!("{kind} {}: {error}", object["metadata"]["name"]));
            }
        };
        let listed = for_each(&self.client, &path, Selectors { labels, ..Selectors::default() }, add).await;
        match listed {
            Ok(()) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                self.unreadable.push(format!("{kind}s cannot be listed: {}", status.message));
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("cannot list {kind}s")),
        }
    }

    /// The versions of the kubelets, each once; empty without the right to list nodes.
    async fn kubelets(&self) -> Vec<String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let Ok(nodes) = nodes.list(&ListParams::default().limit(NODES)).await else { return vec![] };
        let versions =
            nodes.items.into_iter().filter_map(|node| Some(node.status?.node_info?.kubelet_version));
        let mut versions: Vec<_> = versions.collect();
        versions.sort();
        versions.dedup();
        versions
    }
}
