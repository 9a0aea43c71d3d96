//! Failed rollouts of evaluated workloads, and what the next leader knows of them.

use kube::{ResourceExt as _, core::DynamicObject};
use serde_json::json;

use super::cluster::{
    Cluster, annotated, by, cluster_policy, complete, deployment, failed, policy, policy_in, policy_of_shop,
    rolling, with, workload,
};
use crate::{
    keys::policy_key,
    plan::{Kind, Source},
    scheduler::RolloutScheduler,
};

#[test]
fn a_failed_rollout_that_was_reverted_is_not_retried() {
    let all = |drain: i32| json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 2}});
    let mut cluster = Cluster::new(10, [policy("all", &all(20))], ["a", "b"].map(deployment));
    let before = cluster.find("a").1.data["spec"]["template"].clone();
    cluster.start("a");
    cluster.change("a", failed);
    let broken = cluster.find("a").1.clone();
    let failures = cluster.scheduler.failures_of(&policy_of_shop()).current;
    let recorded: Vec<_> = failures.into_iter().map(|failure| (policy_of_shop(), failure)).collect();
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
    // Also if another replica leads since the failure.
    for is_another_leader in [false, true] {
        if is_another_leader {
            let a = cluster.workloads.iter_mut().find(|(_, object)| object.name_any() == "a").unwrap();
            a.1 = broken.clone();
            cluster.recorded.clone_from(&recorded);
            cluster.lead();
            cluster.recorded.clear();
            assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
        }
        for reverted in [rolling, complete] {
            cluster.change("a", |workload| {
                workload.1.data["spec"]["template"] = before.clone();
                workload.1.metadata.generation = Some(3);
                reverted(workload);
            });
            assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
            assert_eq!(cluster.may(&["a", "b"]), [""; 0]);
        }
    }
    cluster = cluster.next_leader();
    assert_eq!(cluster.may(&["a", "b"]), [""; 0]);
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);

    cluster.set_spec("all", all(30));
    assert_eq!(cluster.failed_for("shop", by("all")), [""; 0]);
    assert_eq!(cluster.may(&["a", "b"]), ["a", "b"]);
    cluster.policy("all", |policy| policy["metadata"]["generation"] = json!(2));
    cluster.recorded = recorded;
    let mut cluster = cluster.next_leader();
    assert_eq!(cluster.may(&["a", "b"]), ["a", "b"], "the policy changed since the failure");
    cluster.set_spec("all", all(20));
    assert_eq!(cluster.may(&["a", "b"]), ["a", "b"], "the policy changed back");
}

#[test]
fn a_new_leader_restores_failed_rollouts() {
    for kind in Kind::ALL {
        let all = json!({"selector": {}, "drainSeconds": 20, "kinds": ["Deployment", "StatefulSet", "DaemonSet"], "rollout": {"maxConcurrent": 2}});
        let fixed = [workload(kind, "shop", "a"), workload(kind, "shop", "b"), deployment("c")];
        let mut cluster = Cluster::new(10, [policy("all", &all)], fixed);
        cluster.start("a");
        cluster.start("b");
        // A rollout in progress counts as started by the previous leader.
        let mut cluster = cluster.next_leader();
        assert!(!cluster.may_start("c"), "{kind}");
        cluster.change("a", complete);
        assert!(cluster.may_start("c"), "{kind}");
        cluster.advance(cluster.progress_deadline("b"));
        assert!(!cluster.may_start("c"), "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")), ["b"], "{kind}");

        // So do recorded failures.
        cluster.change("a", rolling);
        cluster.record(&policy_of_shop(), &[("shop", "a"), ("shop", "b")]);
        let mut cluster = cluster.next_leader();
        assert!(!cluster.may_start("c"), "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")), ["a", "b"], "{kind}");
        cluster.change("a", complete);
        assert_eq!(cluster.failed_for("shop", by("all")), ["b"], "{kind}");
        cluster.change("b", complete);
        assert!(cluster.may_start("c"), "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")), [""; 0], "{kind}");
    }
}

#[test]
fn a_new_leader_counts_no_rollout_of_a_user() {
    let all = json!({"selector": {}, "drainSeconds": 20, "rollout": {"maxConcurrent": 1}});
    let workloads = [deployment("a"), deployment("b")];
    let mut cluster = Cluster::new(10, [policy("all", &all)], workloads);
    cluster.start("a");
    cluster.change("a", |(_, object)| {
        // As the webhook answers a new image: the injection stays.
        object.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
    });
    cluster.change("a", rolling);
    let mut cluster = cluster.next_leader();
    assert!(cluster.may_start("b"));
    cluster.change("a", failed);
    assert_eq!(cluster.failed_for("shop", by("all")), [""; 0]);
}

#[test]
fn a_workload_that_was_created_again_has_no_failures() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 1}});
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.start("a");
    cluster.change("a", |a| {
        *a = deployment("a");
        a.1.metadata.uid = Some("another".into());
    });
    assert_eq!(cluster.may(&["a", "b"]), ["a"]);
}

#[test]
fn a_failure_stops_a_cluster_policy_in_its_namespace_only() {
    let all = cluster_policy("all", &json!({"selector": {}, "drainSeconds": 20}));
    let in_namespaces =
        ["other", "shop"].map(|namespace| with(failed, workload(Kind::Deployment, namespace, "web")));
    let mut cluster = Cluster::injected(10, [all], in_namespaces);
    cluster.record(&policy_key("", &Source::ClusterPolicy("all".into())), &[("shop", "web")]);
    cluster.lead();
    assert_eq!(cluster.failed_for("", Source::ClusterPolicy("all".into())), ["shop/web"]);
}

#[test]
fn a_replica_that_leads_again_restores_recorded_failures() {
    let all = policy("all", &json!({"selector": {}, "drainSeconds": 20}));
    let workloads = [with(failed, deployment("a")), deployment("b")];
    let mut cluster = Cluster::injected(1, [all], workloads);
    cluster.change("b", |b| *b = deployment("b"));
    assert!(cluster.failed_for("shop", by("all")).is_empty(), "the rollout of a user failed");
    cluster.record(&policy_of_shop(), &[("shop", "a")]);
    assert!(cluster.failed_for("shop", by("all")).is_empty());
    cluster.scheduler.reset();
    assert!(!cluster.may_start("b"), "nothing is observed yet");
    cluster.lead();
    assert!(!cluster.may_start("b"));
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
}

#[test]
fn no_slot_is_offered_before_all_workloads_are_observed() {
    let mut cluster = Cluster::injected(
        1,
        [policy("all", &json!({"selector": {}, "drainSeconds": 20}))],
        [with(failed, deployment("a")), deployment("b")],
    );
    cluster.record(&policy_of_shop(), &[("shop", "a")]);
    cluster.change("b", |b| *b = deployment("b"));
    let mut unfinished = RolloutScheduler::new(1);
    std::mem::swap(&mut unfinished, &mut cluster.scheduler);
    cluster.set_policies();
    let recorded = std::mem::take(&mut cluster.recorded);
    for (policy, failure) in &recorded {
        cluster.scheduler.restore(policy, [failure.clone()], cluster.now);
    }
    cluster.observe();
    assert!(!cluster.may_start("b") && cluster.scheduler.take_runnable(cluster.now).is_empty());

    cluster.scheduler.activate();
    assert!(!cluster.may_start("b"));
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"], "the failure is restored");
}

/// Two namespaces with a policy each, under defaults and a cap of the cluster.
fn teams<const W: usize>(workloads: [(Kind, DynamicObject); W]) -> Cluster {
    let all = json!({"selector": {}, "drainSeconds": 20, "rollout": {"maxConcurrent": 5}});
    let cluster_policies = [
        cluster_policy("defaults", &json!({"shutdownTimeoutSeconds": 40, "rollout": {"maxFailures": 1}})),
        cluster_policy("cap", &json!({"maxGracePeriodSeconds": 300, "priority": -1})),
    ];
    let [defaults, cap] = cluster_policies;
    Cluster::injected(
        10,
        [defaults, cap, policy_in("a", "all", &all), policy_in("b", "all", &all)],
        workloads,
    )
}

#[test]
fn a_rollout_counts_for_the_policies_that_asked_for_it() {
    let mut cluster = teams([
        workload(Kind::Deployment, "a", "a1"),
        workload(Kind::Deployment, "a", "a2"),
        workload(Kind::Deployment, "b", "b1"),
    ]);
    let spec = |drain: i64| json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 5}});
    for namespace in [2, 3] {
        cluster.policies[namespace]["spec"] = spec(30);
    }
    cluster.sync();
    cluster.start("a1");
    cluster.change("a1", failed);
    assert_eq!(cluster.may(&["a2", "b1"]), ["b1"], "only its own policy is stalled");
    assert_eq!(cluster.scheduler.counts().failed, 1);
    cluster.start("b1");
    for name in ["a1", "b1"] {
        cluster.change(name, complete);
    }
    cluster.start("a2");
    cluster.change("a2", complete);

    // A change of the cluster policy counts for the cluster policy, with its own limit.
    cluster.set_spec("defaults", json!({"shutdownTimeoutSeconds": 50, "rollout": {"maxFailures": 1}}));
    assert_eq!(cluster.may(&["a1", "a2", "b1"]), ["b1"], "a slot was offered in the other namespace since");
    cluster.start("b1");
    assert_eq!(cluster.may(&["a1", "a2"]), [""; 0]);
    cluster.change("b1", complete);
    assert_eq!(cluster.may(&["a1", "a2"]), ["a1"]);
    cluster.start("a1");
    cluster.change("a1", failed);
    assert_eq!(cluster.may(&["a2"]), [""; 0]);
    let defaults = Source::ClusterPolicy("defaults".into());
    assert_eq!(cluster.failed_for("", defaults), ["a/a1"]);
    assert_eq!(cluster.failed_for("a", by("all")), ["a1"], "the policy that opts it in");
    for other in
        [cluster.failed_for("b", by("all")), cluster.failed_for("", Source::ClusterPolicy("cap".into()))]
    {
        assert_eq!(other, [""; 0]);
    }

    // The next leader knows as much.
    let mut cluster = cluster.next_leader();
    assert_eq!(cluster.may(&["a2"]), [""; 0]);
    cluster.set_spec("defaults", json!({"shutdownTimeoutSeconds": 40, "rollout": {"maxFailures": 1}}));
    assert_eq!(cluster.may(&["a1"]), ["a1"], "a policy may fix its failure");
}

#[test]
fn a_restart_does_not_clear_a_failure() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 1}});
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.start("a");
    cluster.change("a", failed);
    cluster.change("a", |workload| {
        let annotations = &mut workload.1.data["spec"]["template"]["metadata"]["annotations"];
        annotations["kubectl.kubernetes.io/restartedAt"] = json!("2026-02-01T00:00:00Z");
        workload.1.metadata.generation = Some(3);
        rolling(workload);
    });
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
    let mut cluster = cluster.next_leader();
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
    cluster.change("a", complete);
    assert_eq!(cluster.failed_for("shop", by("all")), [""; 0]);
}

#[test]
fn a_policy_that_becomes_decodable_restores_its_failures() {
    let all = json!({"selector": {}, "drainSeconds": 20});
    let mut cluster =
        Cluster::injected(10, [policy("all", &all)], [with(failed, deployment("a")), deployment("b")]);
    cluster.change("b", |b| *b = deployment("b"));
    cluster.record(&policy_of_shop(), &[("shop", "a")]);
    let recorded = std::mem::take(&mut cluster.recorded);
    assert!(cluster.may_start("b"));
    let key = recorded[0].1.workload.clone();
    // Its workloads are evaluated before or after that.
    for is_observed in [true, false] {
        cluster.scheduler.remove(&key);
        if is_observed {
            cluster.sync();
        }
        for (policy, failure) in &recorded {
            cluster.scheduler.restore(policy, [failure.clone()], cluster.now);
        }
        cluster.sync();
        assert!(cluster.scheduler.has_failures(&key) && !cluster.may_start("b"), "{is_observed}");
        assert_eq!(cluster.failed_for("shop", by("all")), ["a"], "{is_observed}");
    }
}

#[test]
fn a_workload_that_waits_for_a_stopped_policy_delays_no_other() {
    let mut cluster = teams([
        workload(Kind::Deployment, "b", "a0"),
        workload(Kind::Deployment, "a", "a1"),
        annotated("shutdown-timeout-seconds", "45", workload(Kind::Deployment, "a", "a2")),
    ]);
    cluster.set_spec("defaults", json!({"shutdownTimeoutSeconds": 50, "rollout": {"maxFailures": 1}}));
    cluster.start("a0");
    cluster.change("a0", failed);
    // The older one waits for the defaults as well.
    cluster.set_spec("all", json!({"selector": {}, "drainSeconds": 30}));
    assert_eq!(cluster.may(&["a1", "a2"]), ["a2"]);
}
