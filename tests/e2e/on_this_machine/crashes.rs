//! The leader is killed right after each of its writes. The next leader makes the same decisions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::DeleteParams,
    core::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use crate::{
    figures::figure,
    operations::policy,
    operator::Operator,
    support::{Scene, drain, eventually, is_rolled_out, pods_of, web},
};

/// The limit for all rollouts. After each crash the Lease has to expire.
const LIMIT: Duration = Duration::from_mins(6);
/// The least number of crashes: after the write to each of three Deployments, after a PodDisruptionBudget, and after a
/// status. While a leader is dead, the next one has written nothing yet. A leader may write again before it is killed:
/// `leaders_that_crash_at_every_write_decide_the_same` misses no write, of a mock API server.
const CRASHES: usize = 5;
/// The Deployments in the order of their rollouts: by age, and by name if they were created in the same second. The
/// rollout of `stuck` fails, which stops the policy.
const NAMES: [&str; 4] = ["first", "second", "stuck", "third"];

/// The writes of the leader, as a watch has reported them.
#[derive(Debug, Default)]
struct Written {
    drains: BTreeMap<String, i64>,
    /// The PodDisruptionBudgets.
    budgets: BTreeSet<String>,
    /// The status of the policy.
    status: Value,
    /// The Deployments whose rollout is in progress.
    rolling: BTreeMap<String, bool>,
}

impl Written {
    /// Returns whether the leader has written something new.
    fn update(&mut self, object: &DynamicObject) -> bool {
        let value = serde_json::to_value(object).unwrap();
        if !value["spec"]["maxUnavailable"].is_null() {
            return self.budgets.insert(object.uid().unwrap());
        }
        if value["spec"]["template"].is_null() {
            let changed = self.status != value["status"];
            self.status = value["status"].clone();
            return changed;
        }
        self.rolling.insert(object.name_any(), drain(&value).is_some() && !is_rolled_out(&value));
        drain(&value).is_some_and(|drain| self.drains.insert(object.name_any(), drain) != Some(drain))
    }

    fn in_progress(&self) -> usize {
        self.rolling.values().filter(|rolling| **rolling).count()
    }

    /// The names in `failedRollouts`, with their reasons.
    fn failed(&self) -> Vec<[&str; 2]> {
        let failed = self.status["failedRollouts"].as_array().into_iter().flatten();
        failed.map(|rollout| ["name", "reason"].map(|field| rollout[field].as_str().unwrap())).collect()
    }
}

/// The changes of the scene's Deployments and PodDisruptionBudgets, and of its policy.
fn changes(scene: &Scene) -> impl Stream<Item = DynamicObject> + Unpin + use<> {
    let kinds = [
        ("apps/v1", "Deployment"),
        ("policy/v1", "PodDisruptionBudget"),
        ("adieu.dev/v1alpha1", "GracefulPolicy"),
    ];
    let watched = kinds.map(|(version, kind)| {
        watcher(scene.api(version, kind), watcher::Config::default())
            .default_backoff()
            .applied_objects()
            .filter_map(async |object| object.ok())
            .boxed()
    });
    futures::stream::select_all(watched)
}

/// Kills the leader. Its pod is replaced, because the kubelet delays the restart of a container that crashed often.
/// Returns false if there was none: the one that wrote is dead already.
async fn kill_leader(operator: &Operator) -> bool {
    let (leader, pods) = (operator.leader().await, operator.pods().await);
    let Some(pod) = pods.iter().find(|pod| Some(pod.name_any()) == leader) else { return false };
    operator.kill(pod).await
}

/// Creates the Deployments. New pods of `stuck` fit no node.
async fn deployments(scene: &Scene) {
    let there = format!("{}=there", scene.namespace);
    scene.kubectl(&["label", "nodes", "--all", &there]).await;
    for name in NAMES {
        let mut deployment = web(name, &json!({}));
        if name == "stuck" {
            deployment["spec"]["template"]["spec"]["nodeSelector"] =
                json!({scene.namespace.as_str(): "there"});
        }
        scene.create(&deployment).await;
        scene.rolled_out(name).await;
    }
    scene.kubectl(&["label", "nodes", "--all", &format!("{}-", scene.namespace)]).await;
    let deadline = json!({"spec": {"progressDeadlineSeconds": 15}});
    scene.patch("Deployment", "stuck", &deadline).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn leaders_that_are_killed_after_each_write_decide_the_same() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    operator.scale_from_zero(2).await;
    deployments(&scene).await;

    let (mut changes, deadline) = (changes(&scene), Instant::now() + LIMIT);
    let (mut written, mut crashes, started) = (Written::default(), 0, Instant::now());
    let budget = json!({"maxUnavailable": 1});
    let rollout = json!({"maxConcurrent": 1});
    let all = json!({"selector": {}, "drainSeconds": 1, "rollout": rollout, "disruptionBudget": budget});
    scene.create(&policy(&all)).await;
    let failed = ["stuck", "ProgressDeadlineExceeded"];
    while written.failed() != [failed] {
        let object = timeout_at(deadline, changes.next()).await;
        let object =
            object.unwrap_or_else(|_| unreachable!("not complete: {written:?}")).expect("a watch never ends");
        let is_write = written.update(&object);
        assert!(written.in_progress() <= 1, "more than maxConcurrent: {written:?}");
        if is_write && kill_leader(&operator).await {
            crashes += 1;
        }
    }
    figure(
        "The leader was killed after each of its writes, during three rollouts for a policy, the last of which fails",
        &format!(
            "killed {crashes} times; each Deployment was rolled out once, one at a time, and none after the failed one; \
             {:.0} s in all",
            started.elapsed().as_secs_f64()
        ),
    );
    assert!(crashes >= CRASHES, "killed only {crashes} times");
    assert!(written.budgets.len() <= NAMES.len(), "created again: {written:?}");

    // The next leader is not the one that saw the failure.
    operator.has(2).await;
    operator.waits_again(&scene, &["third"]).await;
    let expected = [(Some(1), 2), (Some(1), 2), (Some(1), 2), (None, 1)];
    for (name, expected) in NAMES.into_iter().zip(expected) {
        assert_eq!((drain(&scene.deployment(name).await), scene.revisions(name).await), expected, "{name}");
    }
    eventually("the status", || async {
        let status = scene.policy("all").await["status"].take();
        let expected =
            json!({"matched": 4, "injected": 3, "pending": 1, "unsatisfiable": 0, "rolloutFailed": 1});
        status["workloads"] == expected
    })
    .await;
    operator.scale_down(1).await;
    scene.end().await;
}

/// The pod terminates for longer than the Lease is valid.
#[tokio::test]
#[ignore = "needs a cluster: cargo xtask test"]
async fn a_termination_that_a_killed_leader_observed_is_counted_once_by_the_next() {
    let scene = Scene::new().await;
    let operator = Operator::find(&scene.client).await;
    operator.scale_from_zero(2).await;
    let mut deployment = web("slow", &json!({}));
    let pod = &mut deployment["spec"]["template"]["spec"];
    pod["terminationGracePeriodSeconds"] = 60.into();
    pod["containers"][0]["args"] = json!(["stop", "30", "0"]);
    scene.create(&deployment).await;
    scene.rolled_out("slow").await;
    let pods: Api<Pod> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let target_pod = pods_of(&scene, "slow").await.remove(0);
    let first = operator.led().await.name_any();
    pods.delete(&target_pod.name_any(), &DeleteParams::default()).await.unwrap();
    assert!(kill_leader(&operator).await);
    eventually("another leader", || async { operator.leader().await.is_some_and(|leader| leader != first) })
        .await;
    let now = pods.get_opt(&target_pod.name_any()).await.unwrap();
    assert!(now.is_some_and(|now| now.uid() == target_pod.uid()), "it ended before there was another leader");
    let api = scene.api("adieu.dev/v1alpha1", "TerminationProfile");
    eventually("the profile", || async { api.get_opt("deployment-slow").await.unwrap().is_some() }).await;
    eventually("its status", || async {
        let profile = api.get("deployment-slow").await.unwrap();
        profile.data["status"]["terminations"] == 1
    })
    .await;
    let status = api.get("deployment-slow").await.unwrap().data["status"].clone();
    assert_eq!(
        (&status["outcomes"]["Completed"], &status["causes"]["Deletion"]),
        (&json!(1), &json!(1)),
        "{status}"
    );
    let shutdown = status["shutdownSeconds"]["max"].as_i64().unwrap();
    assert!((shutdown - 30).abs() <= 1, "{status}");
    operator.scale_down(1).await;
    scene.end().await;
}
