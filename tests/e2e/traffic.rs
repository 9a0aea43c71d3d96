//! Workloads under load during a disruption.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};

use crate::{
    load::{Load, Outcome, open},
    support::{Scene, eventually, is_observed, workload},
};

/// Requests per second to each workload.
const RATE: u32 = 50;
/// Requests before and after the disruption.
const QUIET: u64 = 100;
/// Seconds of drain. The withdrawal of an endpoint takes about one here, and more on a busy machine.
pub const DRAIN: i64 = 8;

/// Annotations that opt a workload in.
pub fn managed() -> Value {
    json!({"adieu.dev/graceful": "true", "adieu.dev/drain-seconds": DRAIN.to_string()})
}

/// A workload whose pods answer on two nodes as soon as they are ready.
pub fn answering(kind: &str, name: &str, annotations: &Value, replicas: u32) -> Value {
    let mut object = workload(kind, name, annotations);
    if kind != "DaemonSet" {
        object["spec"]["replicas"] = json!(replicas);
    }
    let pod = &mut object["spec"]["template"]["spec"];
    pod["containers"][0]["readinessProbe"] =
        json!({"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1});
    pod["topologySpreadConstraints"] = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": name}},
    }]);
    object
}

/// Workloads, each with a Service, all of which answer.
pub struct Traffic<'a> {
    scene: &'a Scene,
    services: BTreeMap<String, SocketAddr>,
    before: BTreeSet<String>,
    load: Load,
}

impl<'a> Traffic<'a> {
    /// Creates the workloads, with Services that send to `port` of their pods.
    pub async fn to(scene: &'a Scene, workloads: &[Value], port: u16) -> Self {
        let mut services = BTreeMap::new();
        for workload in workloads {
            let name = workload["metadata"]["name"].as_str().unwrap();
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": port}]},
            });
            let service: Service = serde_json::from_value(scene.create(&service).await).unwrap();
            let ip = service.spec.unwrap().cluster_ip.unwrap();
            services.insert(name.to_owned(), SocketAddr::new(ip.parse().unwrap(), 80));
            scene.create(workload).await;
        }
        for workload in workloads {
            scene
                .settled(workload["kind"].as_str().unwrap(), workload["metadata"]["name"].as_str().unwrap())
                .await;
        }
        for address in services.values() {
            open(*address).await;
        }
        let mut traffic = Self { scene, services, before: BTreeSet::new(), load: Load::default() };
        traffic.before = traffic.pods().await.iter().filter_map(ResourceExt::uid).collect();
        traffic
    }

    /// The pods of all workloads.
    pub async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
        pods.list(&ListParams::default()).await.unwrap().items
    }

    /// Sends requests during `act`, and until all pods that it terminates are gone. Returns the outcome by workload.
    pub async fn during<F: Future<Output = ()>>(self, act: impl FnOnce() -> F) -> BTreeMap<String, Outcome> {
        let mut sending = Vec::new();
        for (name, address) in self.services.clone() {
            let load = self.load.clone();
            let sent = tokio::spawn(async move { load.run(address, RATE).await });
            sending.push((name, sent));
        }
        self.quiet().await;
        act().await;
        eventually("the pods that were asked to end to be gone", || async {
            let pods = self.pods().await;
            pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none())
        })
        .await;
        let after: BTreeSet<_> = self.pods().await.iter().filter_map(ResourceExt::uid).collect();
        assert!(!self.before.is_subset(&after), "nothing happened to any pod");
        self.quiet().await;
        self.load.stop();
        let mut outcomes = BTreeMap::new();
        for (name, sent) in sending {
            let outcome = sent.await.unwrap();
            println!("{name}: {} of {} lost {:?}", outcome.lost, outcome.requests, outcome.causes);
            outcomes.insert(name, outcome);
        }
        outcomes
    }

    /// Waits for some load without a disruption.
    async fn quiet(&self) {
        let enough = self.load.sent() + QUIET * self.services.len() as u64;
        eventually("requests to be sent", || async { self.load.sent() >= enough }).await;
    }
}

/// Asserts that this workload lost no request.
pub fn assert_none_lost(outcomes: &BTreeMap<String, Outcome>, name: &str) {
    let outcome = &outcomes[name];
    assert!(outcome.requests >= QUIET, "{name} was sent {} requests", outcome.requests);
    let losses: Vec<_> = outcome.losses.iter().take(10).collect();
    assert_eq!(outcome.lost, 0, "{name} lost {} of {}: {losses:?}", outcome.lost, outcome.requests);
}

/// Asserts that some of these workloads without adieu lost requests, or the test would prove nothing. Not each of
/// them: sometimes a single pod's endpoint is withdrawn before its process has ended.
pub fn assert_some_lost(outcomes: &BTreeMap<String, Outcome>, names: &[&str]) {
    let lost: u64 = names.iter().map(|&name| outcomes[name].lost).sum();
    assert!(lost > 0, "none of {names:?} lost a request without adieu");
}

impl Scene {
    /// Waits until a workload of any kind is rolled out, and all its pods are ready.
    pub async fn settled(&self, kind: &str, name: &str) {
        eventually(&format!("{kind} {name}"), || async {
            let object = serde_json::to_value(self.api("apps/v1", kind).get(name).await.unwrap()).unwrap();
            let status = &object["status"];
            let (wanted, counts) = match kind {
                "DaemonSet" => (
                    status["desiredNumberScheduled"].clone(),
                    ["currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"],
                ),
                _ => {
                    (object["spec"]["replicas"].clone(), ["replicas", "updatedReplicas", "availableReplicas"])
                }
            };
            is_observed(&object) && wanted != 0 && counts.iter().all(|count| status[count] == wanted)
        })
        .await;
    }
}
