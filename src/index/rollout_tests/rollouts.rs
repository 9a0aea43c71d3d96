//! Which evaluated workloads roll out, and when.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{
    Cluster, annotated, by, cluster_policy, complete, deployment, failed, policy, policy_in, rolling, select,
    with, workload,
};
use crate::{
    keys::WorkloadKey,
    plan::{InjectionState, Kind, RolloutTiming},
};

#[test]
fn a_rollout_of_unknown_outcome_counts_once_it_is_observed() {
    let mut cluster = Cluster::new(10, [policy("all", &json!({"selector": {}}))], ["a", "b"].map(deployment));
    let slot = cluster.reserve("a").unwrap();
    let evaluation = cluster.find("a").2;
    cluster.scheduler.outcome_unknown(&slot, cluster.now);
    let template = evaluation.template.unwrap();
    cluster.change("a", |workload| {
        workload.1.data["spec"]["template"] = template;
        workload.1.metadata.generation = Some(2);
        rolling(workload);
    });
    assert!(!cluster.may_start("b"));
    cluster.change("a", failed);
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
    assert!(!cluster.may_start("b"));
}

#[test]
fn a_blocked_workload_holds_no_slot_and_may_reserve_a_free_one() {
    let mut cluster = Cluster::new(10, [policy("all", &json!({"selector": {}}))], ["a", "b"].map(deployment));
    let key = WorkloadKey::of(Kind::Deployment, cluster.find("a").1);
    cluster.scheduler.set_blocked(&key, true, cluster.now);
    assert_eq!(cluster.may(&["a", "b"]), ["b"]);
    cluster.start("b");
    assert!(!cluster.may_start("a"));
    cluster.change("b", complete);
    assert!(cluster.may_start("a"));
}

#[test]
fn rollouts_by_other_clients_hold_no_slot() {
    let unmatched = policy("one", &json!({"selector": select("none")}));
    let users = annotated("graceful", "true", deployment("a"));
    let mut cluster = Cluster::injected(1, [unmatched], [users, deployment("b"), deployment("c")]);
    assert!(cluster.failed_for("shop", by("one")).is_empty());
    cluster.change("a", rolling);
    cluster.set_spec("one", json!({"selector": {}, "rollout": {"maxConcurrent": 3}}));
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
    cluster.start("b");
    assert!(!cluster.may_start("c"));
}

#[test]
fn the_oldest_start_first_and_none_after_a_failure() {
    let all = |limit: i32| json!({"selector": {}, "rollout": {"maxConcurrent": limit}});
    let mut cluster = Cluster::new(10, [policy("all", &all(1))], ["c", "a", "b"].map(deployment));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a"]);
    cluster.set_spec("all", all(2));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a", "b"]);
    cluster.start("a");
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
    cluster.start("b");
    assert!(!cluster.may_start("c"));
    cluster.change("a", complete);
    assert!(cluster.may_start("c"));
    cluster.change("b", failed);
    assert!(!cluster.may_start("c"));
    assert_eq!(cluster.failed_for("shop", by("all")), ["b"]);

    // The policy may fix its failure.
    cluster.set_spec("all", json!({"selector": {}, "drainSeconds": 20}));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a"]);
    cluster.start("a");
    cluster.change("a", complete);
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
}

#[test]
fn a_policy_reverts_one_workload_at_a_time() {
    let all = ["a", "b", "c"].map(deployment);
    let mut cluster = Cluster::injected(10, [policy("all", &json!({"selector": {}}))], all);
    cluster.set_spec("all", json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a"]);
    cluster.start("a");
    assert!(!cluster.may_start("b"), "it is reverted, and its rollout counts");
    // The next leader counts it, too.
    let mut cluster = cluster.next_leader();
    assert!(!cluster.may_start("b"));
    cluster.change("a", complete);
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
    cluster.start("b");
    cluster.change("b", failed);
    assert!(!cluster.may_start("c"));
    assert_eq!(cluster.failed_for("shop", by("all")), ["b"]);
}

#[test]
fn a_rollout_back_to_an_older_replica_set_counts_until_its_pods_are_available() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 1}});
    let status = |generation: i64, available: i64, said_at: &str| {
        json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
                "lastUpdateTime": said_at}]})
    };
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.change("a", |a| a.1.data["status"] = status(1, 1, "2026-01-01T00:00:00Z"));
    cluster.start("a");
    cluster.change("a", |a| a.1.data["status"] = status(2, 0, "2026-01-01T00:00:00Z"));
    assert!(!cluster.may_start("b"));
    cluster.change("a", |a| a.1.data["status"] = status(2, 1, "2026-01-01T00:00:00Z"));
    assert!(cluster.may_start("b"));

    // A workload that was complete since, and broke, is not rolling out.
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.change("a", |a| a.1.data["status"] = status(1, 1, "2026-01-01T00:00:00Z"));
    cluster.start("a");
    cluster.change("a", |a| a.1.data["status"] = status(2, 0, "2026-01-01T00:01:00Z"));
    assert!(cluster.may_start("b"));
}

#[test]
fn each_runnable_workload_is_taken_once() {
    let all =
        json!({"selector": {}, "kinds": ["Deployment", "StatefulSet"], "rollout": {"maxConcurrent": 1}});
    let workloads = [workload(Kind::StatefulSet, "shop", "a"), deployment("b")];
    let mut cluster = Cluster::new(10, [policy("all", &all)], workloads);
    let names = |cluster: &mut Cluster| -> Vec<String> {
        let runnable = cluster.scheduler.take_runnable(cluster.now);
        runnable.into_iter().map(|key| key.name).collect()
    };
    assert_eq!(names(&mut cluster), ["a"]);
    assert_eq!(names(&mut cluster), [""; 0]);
    // Only b requests a slot.
    assert!(!cluster.may_start("b"));
    cluster.start("a");
    assert_eq!(names(&mut cluster), [""; 0]);
    cluster.change("a", complete);
    assert_eq!(names(&mut cluster), ["b"]);
    assert!(cluster.may_start("b"));
}

#[test]
fn the_grace_period_of_old_pods_counts_for_the_deadline() {
    let all = json!({"selector": {}, "kinds": ["StatefulSet"], "gracePeriodPolicy": "Exact"});
    let mut slow = workload(Kind::StatefulSet, "shop", "a");
    slow.1.data["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(3600);
    let mut cluster = Cluster::new(10, [policy("all", &all)], [slow]);
    let before = cluster.progress_deadline("a");
    cluster.start("a");
    assert!(cluster.progress_deadline("a") < before);
    for part in [0, 9] {
        cluster.advance(before * part / 10);
        assert_eq!(cluster.failed_for("shop", by("all")), [""; 0]);
    }
    cluster.advance(before / 10);
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
}

#[test]
fn the_slots_of_the_cluster_limit_all_policies() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 10}});
    let mut cluster = Cluster::new(
        2,
        [policy("all", &all), policy_in("other", "all", &all)],
        [
            deployment("a"),
            deployment("b"),
            workload(Kind::StatefulSet, "shop", "unmanaged"),
            workload(Kind::Deployment, "other", "c"),
        ],
    );
    cluster.start("a");
    // The other slot is for namespaces that hold none.
    assert_eq!(cluster.may(&["b", "c"]), ["c"]);
    cluster.start("c");
    assert!(!cluster.may_start("b"));
    cluster.change("a", complete);
    assert!(cluster.may_start("b"));
}

#[test]
fn a_rollout_of_others_is_waited_for_and_delays_no_other_workload() {
    for kind in Kind::ALL {
        let all = json!({"selector": {}, "kinds": ["Deployment", "StatefulSet", "DaemonSet"]});
        let mut cluster = Cluster::new(
            10,
            [policy("all", &all)],
            [with(rolling, workload(kind, "shop", "a")), deployment("b")],
        );
        assert_eq!(cluster.may(&["a", "b"]), ["b"], "{kind}");
        cluster.change("a", complete);
        assert_eq!(cluster.may(&["a", "b"]), ["a"], "{kind}");

        // One that never completes is for its owner to fix.
        cluster.change("a", rolling);
        assert_eq!(cluster.may(&["a", "b"]), ["b"], "{kind}");
        cluster.advance(cluster.progress_deadline("a"));
        assert_eq!(cluster.may(&["a", "b"]), ["b"], "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")), [""; 0], "{kind}");
    }
}

#[test]
fn unmanaged_workloads_delay_no_other() {
    let left = |workload| annotated("graceful", "false", with(rolling, workload));
    let mut cluster = Cluster::new(
        1,
        [
            cluster_policy("defaults", &json!({"drainSeconds": 20, "maxGracePeriodSeconds": 300})),
            policy("web", &json!({"selector": select("web")})),
        ],
        [with(rolling, deployment("unmanaged")), left(deployment("left")), deployment("web")],
    );
    assert!(cluster.may_start("web"));
    cluster.change("unmanaged", failed);
    assert!(cluster.may_start("web"));
    assert_eq!(cluster.scheduler.counts().failed, 0);
}

#[test]
fn workloads_that_replace_no_pods_delay_no_other() {
    let kinds = json!(["Deployment", "StatefulSet", "DaemonSet"]);
    let still = |kind, spec: Value| {
        let mut workload = with(rolling, workload(kind, "shop", "a"));
        for (field, value) in spec.as_object().unwrap() {
            workload.1.data["spec"][field] = value.clone();
        }
        workload
    };
    for workload in [
        still(Kind::Deployment, json!({"paused": true})),
        still(Kind::StatefulSet, json!({"updateStrategy": {"type": "OnDelete"}})),
        still(Kind::StatefulSet, json!({"updateStrategy": {"rollingUpdate": {"partition": 1}}})),
        still(Kind::DaemonSet, json!({"updateStrategy": {"type": "OnDelete"}})),
    ] {
        let spec = workload.1.data["spec"].clone();
        let mut cluster = Cluster::new(
            1,
            [policy("all", &json!({"selector": {}, "kinds": kinds}))],
            [workload, deployment("b")],
        );
        assert_eq!(cluster.may(&["a", "b"]), ["a"], "{spec}");
        cluster.start("a");
        assert!(cluster.may_start("b"), "{spec}");
    }
}
#[test]
fn workloads_that_wait_for_their_next_update_hold_no_slot() {
    let later = json!({"selector": select("a"), "rollout": {"mode": "NextUpdate"}});
    let mut cluster = Cluster::injected(
        10,
        [
            cluster_policy("defaults", &json!({"drainSeconds": 20})),
            policy("later", &later),
            policy("b", &json!({"selector": select("b")})),
        ],
        [deployment("a"), deployment("b")],
    );
    cluster.set_spec("defaults", json!({"drainSeconds": 30}));
    let (_, _, a) = cluster.find("a");
    assert_eq!((a.state, a.timing), (InjectionState::Pending, RolloutTiming::NextUpdate));
    assert!(cluster.may_start("b"));
}

#[test]
fn restarting_daemon_set_pods_do_not_count_as_a_rollout() {
    let all = json!({"selector": {}, "kinds": ["Deployment", "DaemonSet"], "drainSeconds": 20});
    let mut daemons = workload(Kind::DaemonSet, "shop", "a");
    daemons.1.data["status"]["numberAvailable"] = json!(1);
    let mut cluster = Cluster::injected(10, [policy("all", &all)], [daemons, deployment("b")]);
    cluster
        .set_spec("all", json!({"selector": {}, "kinds": ["Deployment", "DaemonSet"], "drainSeconds": 30}));
    assert_eq!(cluster.may(&["a", "b"]), ["b"]);

    // A rollout that its policy started fails at its deadline.
    cluster.change("a", complete);
    cluster.start("a");
    for available in [1, 2].into_iter().cycle().take(10) {
        cluster.change("a", |(_, object)| object.data["status"]["numberAvailable"] = json!(available));
        assert!(!cluster.may_start("b"));
        cluster.advance(cluster.progress_deadline("a") / 8);
    }
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
}

#[test]
fn a_deployment_without_replicas_behind_a_service_rolls_out_last_and_keeps_its_slot() {
    let empty = |name: &str| {
        let mut empty = deployment(name);
        empty.1.data["spec"]["replicas"] = json!(0);
        empty
    };
    let all = policy("all", &json!({"selector": {}}));
    let cluster = Cluster::new(1, [all.clone()], [empty("b"), deployment("c")]);
    assert_eq!(cluster.may(&["b", "c"]), ["b"], "it has no Service");
    let empty = empty("a");
    let mut cluster = Cluster::new(1, [all], [empty, deployment("b")]);
    assert_eq!(cluster.may(&["a", "b"]), ["b"]);
    cluster.start("b");
    cluster.change("b", complete);
    cluster.start("a");
    cluster.set_spec("all", json!({"selector": {}, "drainSeconds": 20}));
    assert!(!cluster.may_start("b"), "a canary tool may roll out its template elsewhere");
    cluster.advance(Duration::from_mins(1));
    assert!(cluster.may_start("b"));
}

#[test]
fn a_cluster_policy_limits_the_rollouts_of_a_namespace() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 10}});
    let limit = json!({"rollout": {"maxConcurrentPerNamespace": 2}});
    let workloads = ["a", "b", "c"].map(deployment);
    let mut cluster = Cluster::new(10, [policy("all", &all), cluster_policy("limit", &limit)], workloads);
    cluster.start("a");
    cluster.start("b");
    assert!(!cluster.may_start("c"));
    cluster.set_spec("limit", json!({"rollout": {"maxConcurrentPerNamespace": 3}}));
    assert!(cluster.may_start("c"));
}
