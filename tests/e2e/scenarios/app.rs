//! An application under load during a disruption.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use adieu::{
    disruption::{TargetWorkload, follow},
    plan::Kind,
};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::{Value, json};

use super::load::{Load, Report, Run, repeated_syns};
use crate::{
    load::open,
    support::{Scene, eventually, within},
};

/// The limit of a rollout: hundreds of pods, or some Java pods, on a small machine.
const ROLLOUT: Duration = Duration::from_mins(10);

/// An application with a Service in front of it.
pub struct App<'a> {
    pub scene: &'a Scene,
    pub name: String,
    /// The Service's port on a node.
    pub address: SocketAddr,
}

impl<'a> App<'a> {
    /// Creates the objects of tests/apps/APP/manifests.yaml with this name, annotations and `values` for other words,
    /// and waits until it answers.
    pub async fn deploy(
        scene: &'a Scene,
        app: &str,
        name: &str,
        annotations: Value,
        values: &[(&str, &str)],
    ) -> Self {
        let app = Self::deploy_without_http(scene, app, name, annotations, values).await;
        open(app.address).await;
        app
    }

    /// The same, without HTTP.
    pub async fn deploy_without_http(
        scene: &'a Scene,
        app: &str,
        name: &str,
        annotations: Value,
        values: &[(&str, &str)],
    ) -> Self {
        let file = format!("{}/tests/apps/{app}/manifests.yaml", env!("CARGO_MANIFEST_DIR"));
        let image = std::env::var(format!("ADIEU_TEST_{}_IMAGE", app.to_uppercase())).expect("an image");
        let mut text = std::fs::read_to_string(file).unwrap().replace("NAME", name).replace("IMAGE", &image);
        for (word, value) in values {
            text = text.replace(word, value);
        }
        let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for object in objects.iter_mut().filter(|object| object["kind"] == "Deployment") {
            object["metadata"]["annotations"] = annotations.clone();
        }
        Self::create(scene, name, &objects).await
    }

    /// Creates a Deployment of the sample application, and waits until it answers.
    pub async fn of(scene: &'a Scene, deployment: Value) -> Self {
        let name = deployment["metadata"]["name"].as_str().unwrap().to_owned();
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
        });
        let app = Self::create(scene, &name, &[service, deployment]).await;
        open(app.address).await;
        app
    }

    /// Opts it in, and waits until the rollout is complete.
    pub async fn opt_in(&self) {
        self.scene.annotate("Deployment", &self.name, "graceful", Some("true")).await.unwrap();
        self.rolled_out().await;
    }

    /// Creates a Deployment and a Service with this name, and waits until the rollout is complete.
    async fn create(scene: &'a Scene, name: &str, objects: &[Value]) -> Self {
        let mut address = None;
        // The Service first, so that adieu knows it.
        let (services, others): (Vec<_>, Vec<_>) =
            objects.iter().partition(|object| object["kind"] == "Service");
        for object in services.into_iter().chain(others) {
            let created = scene.create(object).await;
            if object["kind"] == "Service" {
                address = Some(scene.node_ports(&created).await[0]);
            }
        }
        let app = Self { scene, name: name.to_owned(), address: address.expect("a Service") };
        app.settled().await;
        app
    }

    /// The same application behind another Service: connections of an earlier run to deleted pods stay in the node's
    /// connection tracking, and affect others from the same port.
    pub async fn behind(&self, service: &str) -> Self {
        let mut spec = serde_json::to_value(self.scene.api("v1", "Service").get(&self.name).await.unwrap())
            .unwrap()["spec"]
            .take();
        for field in ["clusterIP", "clusterIPs"] {
            spec.as_object_mut().unwrap().remove(field);
        }
        spec["ports"][0].as_object_mut().unwrap().remove("nodePort");
        let object =
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}, "spec": spec});
        let created = self.scene.create(&object).await;
        eventually(&format!("{service} to name the pods that are there"), || async {
            self.pods().await == self.endpoints(service).await
        })
        .await;
        let address = self.scene.node_ports(&created).await[0];
        let app = Self { scene: self.scene, name: self.name.clone(), address };
        open(app.address).await;
        app
    }

    /// Sends `load` before and during `act`, and for some time after the last pod has terminated; at least `minimum`
    /// requests.
    pub async fn under<F: Future<Output = ()>>(
        &self,
        load: Load,
        minimum: usize,
        act: impl FnOnce() -> F,
    ) -> Report {
        let Scene { client, namespace, .. } = self.scene;
        let workload = TargetWorkload::find(client, Kind::Deployment, namespace, &self.name).await.unwrap().0;
        let syns = repeated_syns();
        let run = Run::new(self.address, minimum);
        let (timelines, following) = follow(client, &workload.namespace, &workload.selector, run.started);
        let following = tokio::spawn(following);
        let some = load.some();
        let sending = tokio::spawn(load.send(run.clone()));
        let quiet = async || {
            let enough = run.sent() + some;
            eventually("requests to be sent", || async { run.sent() >= enough }).await;
        };
        quiet().await;
        act().await;
        self.settled().await;
        quiet().await;
        run.stop();
        let samples = sending.await.unwrap();
        following.abort();
        let timelines = timelines.borrow().all();
        Report::of(samples, timelines, repeated_syns() - syns)
    }

    /// Updates the pod template repeatedly, each time waiting until the rollout is complete.
    pub async fn update(&self, times: usize) {
        static UPDATE: AtomicUsize = AtomicUsize::new(0);
        for _ in 0..times {
            let update = UPDATE.fetch_add(1, Ordering::Relaxed);
            let (deployment, variable) = (format!("deployment/{}", self.name), format!("UPDATE={update}"));
            self.scene.kubectl(&["set", "env", &deployment, &variable]).await;
            self.rolled_out().await;
        }
    }

    /// Scales it in one step.
    pub async fn scale(&self, replicas: u32) {
        let deployment = format!("deployment/{}", self.name);
        self.scene.kubectl(&["scale", &deployment, &format!("--replicas={replicas}")]).await;
        self.rolled_out().await;
    }

    /// Waits until every pod is new and available.
    pub async fn rolled_out(&self) {
        self.scene.rolled_out_within(ROLLOUT, &self.name).await;
    }

    /// Waits until it is rolled out, and no pod is terminating.
    pub async fn settled(&self) {
        self.rolled_out().await;
        let ours = ListParams::default().labels(&format!("app={}", self.name));
        let pods: Api<Pod> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
        within(ROLLOUT, &format!("the old pods of {} to be gone", self.name), || async {
            let pods = pods.list(&ours).await.unwrap().items;
            pods.iter().all(|pod| pod.metadata.deletion_timestamp.is_none())
        })
        .await;
    }

    /// The uids of its pods.
    async fn pods(&self) -> BTreeSet<String> {
        let pods: Api<Pod> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
        let ours = ListParams::default().labels(&format!("app={}", self.name));
        pods.list(&ours).await.unwrap().into_iter().filter_map(|pod| pod.uid()).collect()
    }

    /// The uids of the Service's endpoints.
    async fn endpoints(&self, service: &str) -> BTreeSet<String> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.scene.client.clone(), &self.scene.namespace);
        let its = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
        let endpoints = slices.list(&its).await.unwrap().into_iter().flat_map(|slice| slice.endpoints);
        endpoints.filter_map(|endpoint| endpoint.target_ref?.uid).collect()
    }
}
