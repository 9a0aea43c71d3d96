//! The installed operator: its replicas, leader and metrics.

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment, coordination::v1::Lease,
    core::v1::Pod,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::process::Command;

use crate::{
    processes::signal,
    support::{Scene, drain, eventually, found, run, web},
};

/// The seconds in which a new leader lists the pods.
const LISTED: i64 = 5;

/// The namespace of adieu.
pub const ADIEU: &str = "adieu-system";

pub struct Operator {
    client: Client,
    /// The name of its Deployment, Lease and other singletons.
    pub name: String,
}

impl Operator {
    pub async fn find(client: &Client) -> Self {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), ADIEU);
        let name = deployments.list(&ours()).await.unwrap().items[0].name_any();
        Self { client: client.clone(), name }
    }

    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), ADIEU)
    }

    pub async fn pods(&self) -> Vec<Pod> {
        Api::namespaced(self.client.clone(), ADIEU).list(&ours()).await.unwrap().items
    }

    /// How many replicas it is to have. More pods may be listed: some terminate.
    pub async fn replicas(&self) -> usize {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), ADIEU);
        let deployment = deployments.get(&self.name).await.unwrap();
        deployment.spec.unwrap().replicas.unwrap().try_into().unwrap()
    }

    /// Scales it, and waits until it has this many ready pods and no other, and is reachable if there is one.
    pub async fn scale(&self, replicas: usize) {
        self.set_replicas(replicas).await;
        self.has(replicas).await;
        if replicas > 0 {
            self.is_reachable().await;
        }
    }

    async fn set_replicas(&self, replicas: usize) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), ADIEU);
        let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        deployments.patch(&self.name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Scales it to zero, without its drain.
    pub async fn stop(&self) {
        self.scale_down(0).await;
    }

    /// Scales it down, and kills the pods that terminate if this is possible: their drain takes some 20 s, and the
    /// kubelet ignores a shorter grace period (kubernetes#83916). Releases the Lease of such a leader, as it does after
    /// its drain.
    pub async fn scale_down(&self, replicas: usize) {
        self.set_replicas(replicas).await;
        eventually("its pods to terminate", || async {
            self.pods().await.iter().filter(|pod| !is_terminating(pod)).count() == replicas
        })
        .await;
        let mut killed = Vec::new();
        if std::env::var_os("ADIEU_TEST_CLUSTER").is_some() {
            for pod in self.pods().await.into_iter().filter(is_terminating) {
                if replicas > 0 {
                    is_withdrawn(&pod).await;
                }
                self.kill(&pod).await;
                killed.push(pod);
            }
        }
        self.has(replicas).await;
        // kube-proxy doesn't withdraw the last endpoint before it is gone, and the API server would wait for it.
        for pod in &killed {
            is_withdrawn(pod).await;
        }
        let (leader, left) = (self.leader().await, self.pods().await);
        if leader.is_some() && left.iter().all(|pod| Some(pod.name_any()) != leader) {
            let released = Patch::Merge(json!({"spec": {"holderIdentity": null}}));
            self.leases().patch(&self.name, &PatchParams::default(), &released).await.unwrap();
        }
        if replicas > 0 {
            self.is_reachable().await;
        }
    }

    /// Kills a pod on this machine, and removes it: the kubelet would wait for the sleep of its preStop hook. False if it
    /// has ended already.
    pub async fn kill(&self, pod: &Pod) -> bool {
        if !signal(pod, Signal::SIGKILL) {
            return false;
        }
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), ADIEU);
        // It may be gone.
        let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        true
    }

    /// Waits until the API server reaches its webhook: kube-proxy updates endpoints some time after they are ready,
    /// and much later if its watch has ended.
    pub async fn is_reachable(&self) {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "default");
        let annotated: Deployment =
            serde_json::from_value(web("asked", &json!({"adieu.dev/graceful": "true"}))).unwrap();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        eventually("the API server to ask the operator", || async {
            let created = deployments.create(&dry_run, &annotated).await;
            created.is_ok_and(|created| drain(&serde_json::to_value(created).unwrap()).is_some())
        })
        .await;
    }

    /// Scales it, with only new pods: the kubelet delays the restart of a pod that crashed often by minutes.
    pub async fn scale_from_zero(&self, replicas: usize) {
        self.stop().await;
        self.scale(replicas).await;
    }

    /// Waits until it has this many ready pods and no other.
    pub async fn has(&self, replicas: usize) {
        eventually(&format!("{replicas} replicas of the operator"), || async {
            let pods = self.pods().await;
            pods.len() == replicas && pods.iter().all(is_ready)
        })
        .await;
    }

    /// Waits until a killed pod has restarted its container.
    pub async fn restarted(&self, pod: &Pod) {
        let before = restarts(pod);
        eventually(&format!("{} to restart", pod.name_any()), || async {
            let pods = self.pods().await;
            pods.iter().any(|now| now.name_any() == pod.name_any() && restarts(now) > before && is_ready(now))
        })
        .await;
    }

    /// The pod that leads, or led last.
    pub async fn leader(&self) -> Option<String> {
        self.leases().get_opt(&self.name).await.unwrap()?.spec?.holder_identity
    }

    /// Whether a pod's metrics report it as the leader.
    pub async fn reports_leading(&self, pod: &Pod) -> bool {
        self.metric(pod, "adieu_leader_status").await == Some(1)
    }

    /// How often the leader has reconciled a Deployment that must wait.
    pub async fn waiting_reconciles(&self) -> u64 {
        let name = r#"adieu_reconciles_total{kind="Deployment",result="waiting"}"#;
        self.metric(&self.led().await, name).await.unwrap_or(0)
    }

    /// Makes the leader reconcile these Deployments twice more while they must wait.
    pub async fn waits_again(&self, scene: &Scene, names: &[&str]) {
        for round in ["1", "2"] {
            for name in names {
                let waited = self.waiting_reconciles().await;
                let touched = json!({"metadata": {"annotations": {"example.com/reconciled": round}}});
                scene.patch("Deployment", name, &touched).await.unwrap();
                // A new leader counts from 0.
                eventually("the leader to let it wait", || async {
                    let now = self.waiting_reconciles().await;
                    now > 0 && now != waited
                })
                .await;
            }
        }
    }

    /// A pod's metric, by its name and all its labels.
    async fn metric(&self, pod: &Pod, name: &str) -> Option<u64> {
        let ports = pod.spec.as_ref().unwrap().containers[0].ports.as_ref().unwrap();
        let admin = ports.iter().find(|port| port.name.as_deref() == Some("admin")).unwrap().container_port;
        let path = format!("/api/v1/namespaces/{ADIEU}/pods/{}:{admin}/proxy/metrics", pod.name_any());
        let metrics = self.client.request_text(http::Request::get(path).body(vec![]).unwrap()).await.unwrap();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map(|value| value.parse().unwrap())
    }

    /// Deletes the leader's Lease.
    pub async fn delete_lease(&self) {
        self.leases().delete(&self.name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until an existing pod leads, and all are ready.
    pub async fn led(&self) -> Pod {
        found("a leader among pods that are ready", || async {
            let (holder, pods) = (self.leader().await, self.pods().await);
            if !pods.iter().all(is_ready) {
                return None;
            }
            pods.into_iter().find(|pod| Some(pod.name_any()) == holder)
        })
        .await
    }

    /// Waits until the leader has led for some seconds: a new one has listed the pods by then, and misses no termination.
    pub async fn observes(&self) {
        self.led().await;
        eventually("the leader to have led for some seconds", || async {
            let lease = self.leases().get(&self.name).await.unwrap().spec.unwrap();
            let times = lease.acquire_time.zip(lease.renew_time);
            times.is_some_and(|(acquired, renewed)| renewed.0.as_second() - acquired.0.as_second() >= LISTED)
        })
        .await;
    }

    /// Sets the failurePolicy of the webhooks.
    pub async fn set_failure_policy(&self, policy: &str) {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let patch = json!({"metadata": {"annotations": {"adieu.dev/failure-policy": policy}}});
        configurations.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        eventually("the failure policy", || async {
            let webhooks = configurations.get(&self.name).await.unwrap().webhooks.unwrap();
            webhooks[0].failure_policy.as_deref() == Some(policy)
        })
        .await;
    }
}

fn ours() -> ListParams {
    ListParams::default().labels("app.kubernetes.io/name=adieu")
}

/// Waits until kube-proxy sends no more connections of the API server to a pod.
async fn is_withdrawn(pod: &Pod) {
    let Some(ip) = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref()) else { return };
    let destinations = [format!("--to-destination {ip}:"), format!("dnat to {ip}:")];
    eventually("kube-proxy to withdraw the endpoint of a replica", || async {
        let sends_to = |rules: String| destinations.iter().any(|destination| rules.contains(destination));
        proxy_rules().await.is_ok_and(|rules| !sends_to(rules))
    })
    .await;
}

/// The rules of kube-proxy on this node, in its mode.
async fn proxy_rules() -> Result<String, String> {
    let mut iptables = Command::new("iptables-save");
    iptables.args(["--table", "nat"]);
    let rules = run(iptables, String::new()).await?;
    if rules.contains("KUBE-SERVICES") {
        return Ok(rules);
    }
    let mut nftables = Command::new("nft");
    nftables.args(["list", "table", "ip", "kube-proxy"]);
    run(nftables, String::new()).await
}

/// The memory limit of a pod's container, in MiB.
pub fn memory_limit(pod: &Pod) -> f64 {
    let resources = pod.spec.as_ref().unwrap().containers[0].resources.as_ref().unwrap();
    resources.limits.as_ref().unwrap()["memory"].0.strip_suffix("Mi").unwrap().parse().unwrap()
}

pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    statuses.map(|status| status.restart_count).sum()
}

fn is_terminating(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True");
    !is_terminating(pod) && ready.next().is_some()
}
