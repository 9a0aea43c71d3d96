//! Outages of the operator, the API server and etcd, and the recovery.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::{process::Command, time::Instant};

use super::target::Target;
use crate::{
    admissions::Admissions,
    figures::figure,
    nodes::cluster,
    operations::{LEADERLESS, policy},
    operator::Operator,
    processes::signal,
    support::{Scene, drain, eventually, run, web, within},
};

/// A firewall rule that drops packets from a pod to the API server.
struct CutOff(String);

impl CutOff {
    async fn from_api_server(pod: &Pod) -> Self {
        let address = pod.status.as_ref().unwrap().pod_ip.clone().unwrap();
        let cut = Self(address);
        cut.rule("--insert").await;
        cut
    }

    async fn remove(self) {
        self.rule("--delete").await;
    }

    async fn rule(&self, action: &str) {
        let mut iptables = Command::new("iptables");
        iptables.args(["--wait", action, "INPUT", "--source", &self.0, "--protocol", "tcp"]);
        iptables.args(["--destination-port", "6443", "--jump", "DROP"]);
        run(iptables, String::new()).await.unwrap();
    }
}

/// Waits until another replica leads, and no longer `before`.
async fn another_leads(operator: &Operator, before: &Pod) {
    within(LEADERLESS, "another leader", || async {
        operator.leader().await.is_some_and(|now| now != before.name_any())
    })
    .await;
    assert!(!operator.reports_leading(before).await, "two lead at the same time");
}

/// Waits until a replica admits with these seconds of drain of the policy.
async fn admits_with(drains: i64, scene: &Scene, operator: &Operator, replica: &Pod) {
    let target = Target::of(scene, &operator.name, replica).await;
    eventually("the former leader to admit by the policy as it is now", || async {
        target.drain(&scene.namespace, &json!({"adieu.dev/policy": "all"})).await == Some(drains)
    })
    .await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_leader_that_crashes_or_is_cut_off_is_replaced_and_writes_nothing_more() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    operator.scale_from_zero(2).await;
    scene.create(&policy(&json!({"selector": {}, "drainSeconds": 1}))).await;
    scene.create(&web("web", &json!({}))).await;
    eventually("the injection", || async { drain(&scene.deployment("web").await) == Some(1) }).await;
    scene.rolled_out("web").await;

    for (how, drains) in [("was killed", 2), ("was cut off from the API server", 3)] {
        let before = operator.led().await;
        operator.has(2).await;
        let revisions = scene.revisions("web").await;
        let started = Instant::now();
        let cut = if how == "was killed" {
            assert!(signal(&before, Signal::SIGKILL));
            None
        } else {
            Some(CutOff::from_api_server(&before).await)
        };
        let changed = json!({"spec": {"drainSeconds": drains}});
        scene.patch("GracefulPolicy", "all", &changed).await.unwrap();
        let mut found = Vec::new();
        if cut.is_some() {
            another_leads(&operator, &before).await;
            found.push(format!("a new leader after {:.1} s", started.elapsed().as_secs_f64()));
        }
        // The container of a killed one restarts in the same pod, which may lead again.
        eventually("the new leader's writes", || async {
            drain(&scene.deployment("web").await) == Some(drains)
        })
        .await;
        let followed = started.elapsed();
        found.push(format!("a policy change was applied after {:.1} s", followed.as_secs_f64()));
        if let Some(cut) = cut {
            assert_ne!(operator.leader().await, Some(before.name_any()));
            cut.remove().await;
            let restored = Instant::now();
            admits_with(drains, &scene, &operator, &before).await;
            found.push(format!(
                "{:.1} s after the network was restored the former leader admits with the changed policy",
                restored.elapsed().as_secs_f64()
            ));
            assert!(!operator.reports_leading(&before).await, "two lead at the same time");
        }
        scene.rolled_out("web").await;
        operator.has(2).await;
        figure(&format!("The leader {how}"), &found.join("; "));
        assert!(how != "was killed" || followed < LEADERLESS, "{how}");
        // The former leader must not act on outdated state.
        let marked = operator.led().await;
        assert!(how == "was killed" || marked.name_any() != before.name_any());
        assert_eq!(scene.revisions("web").await, revisions + 1, "{how}");
    }
    operator.scale_down(1).await;
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_killed_replica_fails_admissions_until_its_endpoint_is_removed() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    operator.scale_from_zero(2).await;
    operator.set_failure_policy("Fail").await;
    let admissions = Admissions::start(&scene);
    for pod in operator.pods().await {
        admissions.further(100).await;
        assert!(signal(&pod, Signal::SIGKILL));
        operator.restarted(&pod).await;
    }
    let meanwhile = admissions.end().await;
    let admissions = Admissions::start(&scene);
    admissions.further(200).await;
    let afterwards = admissions.end().await;
    operator.set_failure_policy("Ignore").await;
    operator.scale_down(1).await;
    figure(
        "2 of 2 replicas killed, one after the other, under failurePolicy Fail",
        &format!(
            "{} of {} admissions failed during the outage, none afterwards",
            meanwhile.failed.len(),
            meanwhile.count
        ),
    );
    assert_eq!(afterwards.failed, Vec::<String>::new());
    scene.end().await;
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn adieu_recovers_with_the_api_server_and_etcd_without_a_wrong_write() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    operator.scale_from_zero(2).await;
    let selects_one = json!({"selector": {"matchLabels": {"app": "web"}}, "drainSeconds": 1});
    scene.create(&policy(&selects_one)).await;
    scene.create(&web("web", &json!({}))).await;
    scene.create(&web("unmanaged", &json!({}))).await;
    eventually("the injection", || async { drain(&scene.deployment("web").await) == Some(1) }).await;
    scene.rolled_out("web").await;
    scene.rolled_out("unmanaged").await;
    let unmanaged = scene.deployment("unmanaged").await;

    for (component, drains) in [("kube-apiserver", 2), ("etcd", 3)] {
        let revisions = scene.revisions("web").await;
        // While adieu applies it.
        let changed = json!({"spec": {"drainSeconds": drains}});
        scene.patch("GracefulPolicy", "all", &changed).await.unwrap();
        assert!(cluster(&["restart", component]).await.is_some(), "this cluster is ours");
        let back = Instant::now();
        eventually("the policy to be followed", || async {
            let found = scene.api("apps/v1", "Deployment").get("web").await;
            found.is_ok_and(|found| drain(&serde_json::to_value(found).unwrap()) == Some(drains))
        })
        .await;
        let followed = back.elapsed();
        operator.has(2).await;
        operator.led().await;
        scene.rolled_out("web").await;
        assert_eq!(scene.revisions("web").await, revisions + 1, "{component}");
        figure(
            &format!("{component} restarts during a policy change"),
            &format!("one rollout, {:.1} s after it was available again", followed.as_secs_f64()),
        );
    }
    assert_eq!(scene.deployment("unmanaged").await["spec"], unmanaged["spec"]);
    operator.scale_down(1).await;
    scene.end().await;
}
