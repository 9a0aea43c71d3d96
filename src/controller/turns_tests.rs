use futures::FutureExt as _;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy},
    controller::{
        keys::{key, policy_key},
        test_support::context,
    },
    index::{
        caches::{Caches, hash_of},
        progress::patience,
    },
    plan::{self, Convergence, Source, Workload},
};

/// What there is, and a controller that leads.
struct Cluster {
    policies: Vec<Value>,
    workloads: Vec<(Kind, DynamicObject)>,
    context: Context,
}

fn policy(name: &str, spec: &Value) -> Value {
    policy_in("shop", name, spec)
}

fn policy_in(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn cluster_policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
        "metadata": {"name": name}, "spec": spec})
}

fn select(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// A Deployment in the namespace `shop`; those are the older whose names come first in the alphabet.
fn deployment(name: &str) -> (Kind, DynamicObject) {
    workload(Kind::Deployment, "shop", name)
}

fn workload(kind: Kind, namespace: &str, name: &str) -> (Kind, DynamicObject) {
    let (first, last) = (name.as_bytes()[0] - b'a', name.as_bytes()[name.len() - 1] % 60);
    let created = format!("2026-01-01T00:{first:02}:{last:02}Z");
    let object = json!({
        "metadata": {"name": name, "namespace": namespace, "generation": 1, "creationTimestamp": created},
        "spec": {"replicas": 1, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "app"}], "terminationGracePeriodSeconds": 30},
        }},
    });
    let mut workload = (kind, serde_json::from_value(object).unwrap());
    complete(&mut workload);
    workload
}

fn complete((kind, object): &mut (Kind, DynamicObject)) {
    let observed = object.metadata.generation;
    object.data["status"] = match kind {
        Kind::Deployment => {
            json!({"observedGeneration": observed, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1})
        }
        Kind::StatefulSet => {
            json!({"observedGeneration": observed, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": "b"})
        }
        Kind::DaemonSet => {
            json!({"observedGeneration": observed, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2})
        }
    };
}

/// In the middle of a rollout.
fn rolling((kind, object): &mut (Kind, DynamicObject)) {
    let observed = object.metadata.generation;
    object.data["status"] = match kind {
        Kind::Deployment => {
            json!({"observedGeneration": observed, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 1})
        }
        Kind::StatefulSet => {
            json!({"observedGeneration": observed, "replicas": 1, "currentRevision": "a", "updateRevision": "b"})
        }
        Kind::DaemonSet => {
            json!({"observedGeneration": observed, "desiredNumberScheduled": 2, "updatedNumberScheduled": 1, "numberAvailable": 1})
        }
    };
}

/// As a Deployment's controller says that it has given up.
fn failed(workload: &mut (Kind, DynamicObject)) {
    rolling(workload);
    workload.1.data["status"]["conditions"] = json!([{"type": "Progressing", "status": "False"}]);
}

fn with(
    change: fn(&mut (Kind, DynamicObject)),
    mut workload: (Kind, DynamicObject),
) -> (Kind, DynamicObject) {
    change(&mut workload);
    workload
}

fn annotated(key: &str, value: &str, mut workload: (Kind, DynamicObject)) -> (Kind, DynamicObject) {
    workload.1.annotations_mut().insert(format!("adieu.dev/{key}"), value.into());
    workload
}

fn caches(policies: &[Value], workloads: &[(Kind, DynamicObject)]) -> Caches {
    fn read<P: serde::de::DeserializeOwned>(kind: &str, policies: &[Value]) -> Vec<P> {
        let of_kind = policies.iter().filter(|policy| policy["kind"] == kind);
        of_kind.map(|policy| serde_json::from_value(policy.clone()).unwrap()).collect()
    }
    let in_namespaces: Vec<GracefulPolicy> = read("GracefulPolicy", policies);
    let of_cluster: Vec<ClusterGracefulPolicy> = read("ClusterGracefulPolicy", policies);
    Caches::fixed(in_namespaces, vec![], workloads.to_vec()).with_cluster_policies(of_cluster)
}

impl Cluster {
    fn new<const P: usize, const W: usize>(
        limit: usize,
        policies: [Value; P],
        workloads: [(Kind, DynamicObject); W],
    ) -> Self {
        let (policies, workloads) = (policies.to_vec(), workloads.to_vec());
        let context = context(caches(&policies, &workloads), limit);
        Self { policies, workloads, context }
    }

    /// What the watches brought.
    fn bring(&mut self) {
        self.context.caches = caches(&self.policies, &self.workloads);
        self.context.index.refresh(&self.context.caches);
    }

    /// With everything injected already.
    fn injected<const P: usize, const W: usize>(
        limit: usize,
        policies: [Value; P],
        workloads: [(Kind, DynamicObject); W],
    ) -> Self {
        let mut cluster = Self::new(limit, policies, workloads);
        for (kind, object) in &mut cluster.workloads {
            let around = cluster.context.caches.surroundings(&object.namespace().unwrap());
            if let Some(template) = plan::converge(&Workload::of(*kind, object), &around).template {
                object.data["spec"]["template"] = template;
            }
        }
        cluster.bring();
        cluster
    }

    /// Another replica leads by now.
    fn taken_over(self) -> Self {
        let context = context(caches(&self.policies, &self.workloads), self.context.turns.limit);
        Self { context, ..self }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut (Kind, DynamicObject))) {
        change(self.workloads.iter_mut().find(|(_, object)| object.name_any() == name).unwrap());
        self.bring();
    }

    fn policy(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.policies.iter_mut().find(|policy| policy["metadata"]["name"] == name).unwrap());
        self.bring();
    }

    fn says(&mut self, name: &str, spec: Value) {
        self.policy(name, |policy| policy["spec"] = spec);
    }

    /// As if the policy's status said so.
    fn stalls(&mut self, name: &str, message: &str) {
        let condition = json!({"type": "Stalled", "status": "True", "message": message, "reason": "RolloutFailed",
            "lastTransitionTime": "2026-01-01T00:00:00Z"});
        self.policy(name, |policy| policy["status"] = json!({"conditions": [condition]}));
    }

    fn find(&self, name: &str) -> (Kind, &DynamicObject, Convergence) {
        let (kind, object) = self.workloads.iter().find(|(_, object)| object.name_any() == name).unwrap();
        let around = self.context.caches.surroundings(&object.namespace().unwrap());
        (*kind, object, plan::converge(&Workload::of(*kind, object), &around))
    }

    async fn ask(&self, name: &str) -> Option<Turn> {
        let (kind, object, convergence) = self.find(name);
        assert!(
            convergence.template.is_some() && convergence.when == When::InTurn,
            "{name} has nothing to ask for"
        );
        advance(LOOK * 2).await;
        let planned = convergence.template.as_ref().map(hash_of).unwrap();
        let version = (object.metadata.uid.as_ref(), object.metadata.generation);
        self.context.turns.ask(&self.context, &key(kind, object), version, planned).await
    }

    async fn may_begin(&self, name: &str) -> bool {
        self.ask(name).await.is_some()
    }

    /// Those that may begin, each if no other did.
    async fn may(&self, names: &[&'static str]) -> Vec<&'static str> {
        let mut may = vec![];
        for name in names {
            if self.may_begin(name).await {
                may.push(*name);
            }
        }
        may
    }

    /// Begins the rollout, and brings what was written.
    async fn begin(&mut self, name: &str) {
        let turn = self.ask(name).await.unwrap_or_else(|| panic!("it isn't the turn of {name}"));
        let (_, object, convergence) = self.find(name);
        let mut written = object.clone();
        written.data["spec"]["template"] = convergence.template.unwrap();
        written.metadata.generation = written.metadata.generation.map(|generation| generation + 1);
        turn.take(&written);
        self.change(name, |(kind, object)| {
            *object = written;
            let mut workload = (*kind, object.clone());
            rolling(&mut workload);
            *object = workload.1;
        });
    }

    async fn failures(&self) -> Failures {
        advance(LOOK * 2).await;
        self.context.turns.follow(&self.context).await;
        self.context.turns.failures().await
    }

    async fn failed_for(&self, namespace: &str, policy: Source) -> Vec<String> {
        let failed = self.failures().await.remove(&policy_key(namespace, &policy));
        failed.unwrap_or_default().into_iter().collect()
    }
}

fn by(name: &str) -> Source {
    Source::Policy(name.into())
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_which_nobody_was_told_may_fail_its_policy() {
    let mut cluster = Cluster::new(10, [policy("all", &json!({"selector": {}}))], ["a", "b"].map(deployment));
    let turn = cluster.ask("a").await.unwrap();
    let convergence = cluster.find("a").2;
    turn.may_have_begun();
    let template = convergence.template.unwrap();
    cluster.change("a", |workload| {
        workload.1.data["spec"]["template"] = template;
        workload.1.metadata.generation = Some(2);
        rolling(workload);
    });
    assert!(!cluster.may_begin("b").await);
    cluster.change("a", failed);
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);
    assert!(!cluster.may_begin("b").await);
}

#[tokio::test(start_paused = true)]
async fn who_is_blocked_holds_no_place_and_tries_again_where_there_is_room() {
    let mut cluster = Cluster::new(10, [policy("all", &json!({"selector": {}}))], ["a", "b"].map(deployment));
    let (kind, object, _) = cluster.find("a");
    cluster.context.blocked.note(key(kind, object), "refused".into());
    assert_eq!(cluster.may(&["a", "b"]).await, ["a", "b"]);
    cluster.begin("b").await;
    assert!(!cluster.may_begin("a").await);
}

#[tokio::test(start_paused = true)]
async fn rollouts_of_users_take_none_of_the_clusters_room() {
    let nobody = policy("one", &json!({"selector": select("nobody")}));
    let users = annotated("graceful", "true", deployment("a"));
    let mut cluster = Cluster::injected(1, [nobody], [users, deployment("b"), deployment("c")]);
    assert!(cluster.failed_for("shop", by("one")).await.is_empty());
    cluster.change("a", rolling);
    cluster.says("one", json!({"selector": {}, "rollout": {"maxConcurrent": 3}}));
    assert_eq!(cluster.may(&["b", "c"]).await, ["b", "c"]);
    cluster.begin("b").await;
    assert!(!cluster.may_begin("c").await);
}

#[tokio::test(start_paused = true)]
async fn the_oldest_go_first_and_none_where_one_failed() {
    let all = |limit: i32| json!({"selector": {}, "rollout": {"maxConcurrent": limit}});
    let mut cluster = Cluster::new(10, [policy("all", &all(1))], ["c", "a", "b"].map(deployment));
    assert_eq!(cluster.may(&["a", "b", "c"]).await, ["a"]);
    cluster.says("all", all(2));
    assert_eq!(cluster.may(&["a", "b", "c"]).await, ["a", "b"]);
    cluster.begin("a").await;
    assert_eq!(cluster.may(&["b", "c"]).await, ["b"]);
    cluster.begin("b").await;
    assert!(!cluster.may_begin("c").await);
    cluster.change("a", complete);
    assert!(cluster.may_begin("c").await);
    cluster.change("b", failed);
    assert!(!cluster.may_begin("c").await);
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["b"]);

    // What its policy broke, its policy may mend.
    cluster.says("all", json!({"selector": {}, "drainSeconds": 20}));
    assert_eq!(cluster.may(&["a", "b", "c"]).await, ["a"]);
    cluster.begin("a").await;
    cluster.change("a", complete);
    assert_eq!(cluster.may(&["b", "c"]).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_reverts_one_workload_after_the_other() {
    let all = ["a", "b", "c"].map(deployment);
    let mut cluster = Cluster::injected(10, [policy("all", &json!({"selector": {}}))], all);
    cluster.says("all", json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    assert_eq!(cluster.may(&["a", "b", "c"]).await, ["a"]);
    cluster.begin("a").await;
    assert!(!cluster.may_begin("b").await, "it carries nothing any more, and its rollout counts");
    // The next leader knows as much.
    let mut cluster = cluster.taken_over();
    assert!(!cluster.may_begin("b").await);
    cluster.change("a", complete);
    assert_eq!(cluster.may(&["b", "c"]).await, ["b"]);
    cluster.begin("b").await;
    cluster.change("b", failed);
    assert!(!cluster.may_begin("c").await);
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_back_to_an_older_replica_set_counts_until_its_pods_are_available() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 1}});
    let status = |generation: i64, available: i64, said_at: &str| {
        json!({"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "availableReplicas": available,
            "conditions": [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
                "lastUpdateTime": said_at}]})
    };
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.change("a", |a| a.1.data["status"] = status(1, 1, "2026-01-01T00:00:00Z"));
    cluster.begin("a").await;
    cluster.change("a", |a| a.1.data["status"] = status(2, 0, "2026-01-01T00:00:00Z"));
    assert!(!cluster.may_begin("b").await);
    cluster.change("a", |a| a.1.data["status"] = status(2, 1, "2026-01-01T00:00:00Z"));
    assert!(cluster.may_begin("b").await);

    // What was complete since then, and broke, is no rollout any more.
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.change("a", |a| a.1.data["status"] = status(1, 1, "2026-01-01T00:00:00Z"));
    cluster.begin("a").await;
    cluster.change("a", |a| a.1.data["status"] = status(2, 0, "2026-01-01T00:01:00Z"));
    assert!(cluster.may_begin("b").await);
}

#[tokio::test(start_paused = true)]
async fn who_undoes_a_rollout_that_failed_is_not_rolled_into_it_again() {
    let all = |drain: i32| json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 2}});
    let mut cluster = Cluster::new(10, [policy("all", &all(20))], ["a", "b"].map(deployment));
    let before = cluster.find("a").1.data["spec"]["template"].clone();
    cluster.begin("a").await;
    cluster.change("a", failed);
    let broken = cluster.find("a").1.clone();
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);
    cluster.stalls("all", "the rollout of a failed: mend it, or change the policy");
    // Nor where another leads since it failed, or since it was undone.
    for another_leads in [false, true] {
        if another_leads {
            cluster.change("a", |(_, a)| *a = broken.clone());
            cluster = cluster.taken_over();
            assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);
        }
        for undone in [rolling, complete] {
            cluster.change("a", |workload| {
                workload.1.data["spec"]["template"] = before.clone();
                workload.1.metadata.generation = Some(3);
                undone(workload);
            });
            assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);
            assert_eq!(cluster.may(&["a", "b"]).await, [""; 0]);
        }
    }
    cluster = cluster.taken_over();
    assert_eq!(cluster.may(&["a", "b"]).await, [""; 0]);
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);

    cluster.says("all", all(30));
    assert_eq!(cluster.failed_for("shop", by("all")).await, [""; 0]);
    assert_eq!(cluster.may(&["a", "b"]).await, ["a", "b"]);
    cluster.policy("all", |policy| policy["metadata"]["generation"] = json!(2));
    let mut cluster = cluster.taken_over();
    assert_eq!(cluster.may(&["a", "b"]).await, ["a", "b"], "the policy was another when that failed");
    cluster.says("all", all(20));
    assert_eq!(cluster.may(&["a", "b"]).await, ["a", "b"], "a person asks for it once more");
}

#[tokio::test(start_paused = true)]
async fn whose_turn_it_is_is_called() {
    let all =
        json!({"selector": {}, "kinds": ["Deployment", "StatefulSet"], "rollout": {"maxConcurrent": 1}});
    let workloads = [workload(Kind::StatefulSet, "shop", "a"), deployment("b")];
    let mut cluster = Cluster::new(10, [policy("all", &all)], workloads);
    let mut called = Kind::ALL.map(|kind| cluster.context.turns.called(kind).boxed());
    let mut names = async || {
        let mut names = vec![];
        for called in &mut called {
            while let Some(Some(object)) = called.next().now_or_never() {
                names.push(object.name);
            }
        }
        names
    };
    assert_eq!(names().await, [""; 0]);
    // Of the two, only this one asks.
    assert!(!cluster.may_begin("b").await);
    assert_eq!(names().await, ["a"]);
    cluster.begin("a").await;
    cluster.change("a", complete);
    assert!(cluster.may_begin("b").await);
    assert_eq!(names().await, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn pods_that_take_their_time_to_end_are_no_failure() {
    let all = json!({"selector": {}, "kinds": ["StatefulSet"], "gracePeriodPolicy": "Exact"});
    let mut slow = workload(Kind::StatefulSet, "shop", "a");
    slow.1.data["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(3600);
    let mut cluster = Cluster::new(10, [policy("all", &all)], [slow]);
    let patience = |cluster: &Cluster| patience(Kind::StatefulSet, &cluster.workloads[0].1);
    let before = patience(&cluster);
    cluster.begin("a").await;
    assert!(patience(&cluster) < before);
    for part in [0, 9] {
        advance(before * part / 10).await;
        assert_eq!(cluster.failed_for("shop", by("all")).await, [""; 0]);
    }
    advance(before / 10).await;
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn the_clusters_limit_holds_whatever_policies_say() {
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
    cluster.begin("a").await;
    cluster.begin("b").await;
    assert!(!cluster.may_begin("c").await);
    cluster.change("a", complete);
    assert!(cluster.may_begin("c").await);
}

#[tokio::test(start_paused = true)]
async fn a_users_own_rollout_is_waited_for() {
    for kind in Kind::ALL {
        let all = json!({"selector": {}, "kinds": ["Deployment", "StatefulSet", "DaemonSet"]});
        let mut cluster = Cluster::new(
            10,
            [policy("all", &all)],
            [with(rolling, workload(kind, "shop", "a")), deployment("b")],
        );
        assert_eq!(cluster.may(&["a", "b"]).await, [""; 0], "{kind}");
        cluster.change("a", complete);
        assert_eq!(cluster.may(&["a", "b"]).await, ["a"], "{kind}");

        // One that doesn't come to an end holds up nobody, and is its user's to mend.
        cluster.change("a", rolling);
        assert_eq!(cluster.may(&["a", "b"]).await, [""; 0], "{kind}");
        advance(patience(kind, &cluster.workloads[0].1)).await;
        assert_eq!(cluster.may(&["a", "b"]).await, ["b"], "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")).await, [""; 0], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_nobody_opted_in_holds_up_nobody() {
    let left = |workload| annotated("graceful", "false", with(rolling, workload));
    let mut cluster = Cluster::new(
        1,
        [
            cluster_policy("defaults", &json!({"drainSeconds": 20, "maxGracePeriodSeconds": 300})),
            policy("web", &json!({"selector": select("web")})),
        ],
        [with(rolling, deployment("stranger")), left(deployment("left")), deployment("web")],
    );
    assert!(cluster.may_begin("web").await);
    cluster.change("stranger", failed);
    assert!(cluster.may_begin("web").await);
    assert_eq!(cluster.failures().await, Failures::new());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_roll_by_itself_holds_up_nobody() {
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
        still(Kind::Deployment, json!({"replicas": 0})),
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
        assert_eq!(cluster.may(&["a", "b"]).await, ["a"], "{spec}");
        cluster.begin("a").await;
        assert!(cluster.may_begin("b").await, "{spec}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_leads_next_knows_what_failed() {
    for kind in Kind::ALL {
        let all = json!({"selector": {}, "drainSeconds": 20, "kinds": ["Deployment", "StatefulSet", "DaemonSet"], "rollout": {"maxConcurrent": 2}});
        let fixed = [workload(kind, "shop", "a"), workload(kind, "shop", "b"), deployment("c")];
        let mut cluster = Cluster::new(10, [policy("all", &all)], fixed);
        cluster.begin("a").await;
        cluster.begin("b").await;
        // What goes on is taken for what whoever led before began.
        let mut cluster = cluster.taken_over();
        assert!(!cluster.may_begin("c").await, "{kind}");
        cluster.change("a", complete);
        assert!(cluster.may_begin("c").await, "{kind}");
        advance(patience(kind, &cluster.workloads[1].1)).await;
        assert!(!cluster.may_begin("c").await, "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")).await, ["b"], "{kind}");

        // And what had failed, for what had.
        cluster.change("a", rolling);
        cluster.stalls("all", "the rollouts of a, b failed, and 1 workloads wait");
        let mut cluster = cluster.taken_over();
        assert!(!cluster.may_begin("c").await, "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")).await, ["a", "b"], "{kind}");
        cluster.change("a", complete);
        assert_eq!(cluster.failed_for("shop", by("all")).await, ["b"], "{kind}");
        cluster.change("b", complete);
        assert!(cluster.may_begin("c").await, "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")).await, [""; 0], "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_deleted_and_created_anew_is_another() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 1}});
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.begin("a").await;
    cluster.change("a", |a| {
        *a = deployment("a");
        a.1.metadata.uid = Some("another".into());
    });
    assert_eq!(cluster.may(&["a", "b"]).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_namesake_in_another_namespace_has_not_failed() {
    let all = cluster_policy("all", &json!({"selector": {}, "drainSeconds": 20}));
    let in_namespaces =
        ["other", "shop"].map(|namespace| with(failed, workload(Kind::Deployment, namespace, "web")));
    let mut cluster = Cluster::injected(10, [all], in_namespaces);
    cluster.stalls("all", "the rollout of shop/web failed: mend it, or change the policy");
    assert_eq!(cluster.failed_for("", Source::ClusterPolicy("all".into())).await, ["shop/web"]);
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_leads_again_knows_what_another_found_meanwhile() {
    let all = policy("all", &json!({"selector": {}, "drainSeconds": 20}));
    let workloads = [with(failed, deployment("a")), deployment("b")];
    let mut cluster = Cluster::injected(1, [all], workloads);
    cluster.change("b", |b| *b = deployment("b"));
    assert!(cluster.failed_for("shop", by("all")).await.is_empty(), "its user's rollout failed");
    cluster.stalls("all", "the rollout of a failed: mend it, or change the policy");
    assert!(cluster.failed_for("shop", by("all")).await.is_empty());
    cluster.context.index.clear();
    assert!(!cluster.may_begin("b").await, "nothing is evaluated yet");
    cluster.bring();
    assert!(!cluster.may_begin("b").await);
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_rollout_that_somebody_else_began_is_looked_at_until_it_has_failed() {
    let all = policy("all", &json!({"selector": {}, "drainSeconds": 20}));
    let mut cluster = Cluster::injected(1, [all], ["a", "b"].map(deployment));
    let goes_on = async |cluster: &Cluster| {
        advance(LOOK * 2).await;
        cluster.context.turns.follow(&cluster.context).await
    };
    assert!(!goes_on(&cluster).await);
    cluster.change("a", rolling);
    assert!(goes_on(&cluster).await);
    advance(patience(Kind::Deployment, cluster.find("a").1)).await;
    assert!(!goes_on(&cluster).await, "what it does from then on is an event");
}

#[tokio::test(start_paused = true)]
async fn nobody_has_a_turn_before_all_are_listed() {
    let mut cluster = Cluster::injected(
        1,
        [policy("all", &json!({"selector": {}, "drainSeconds": 20}))],
        [with(failed, deployment("a")), deployment("b")],
    );
    cluster.stalls("all", "the rollout of a failed: mend it, or change the policy");
    cluster.change("b", |b| *b = deployment("b"));
    let complete = mem::take(&mut cluster.context.index);
    cluster.context.index.refresh(&caches(&cluster.policies, &[]).unfilled());
    assert!(!cluster.context.turns.follow(&cluster.context).await);
    assert!(!cluster.may_begin("b").await);

    cluster.context.index = complete;
    assert!(!cluster.may_begin("b").await);
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"], "it is still known what failed before");
}

/// Two teams with a policy each, under defaults and a cap of the cluster's.
fn teams<const W: usize>(workloads: [(Kind, DynamicObject); W]) -> Cluster {
    let all = json!({"selector": {}, "drainSeconds": 20, "rollout": {"maxConcurrent": 5}});
    let cluster_policies = [
        cluster_policy("defaults", &json!({"shutdownTimeoutSeconds": 40})),
        cluster_policy("cap", &json!({"maxGracePeriodSeconds": 300, "priority": -1})),
    ];
    let [defaults, cap] = cluster_policies;
    Cluster::injected(
        10,
        [defaults, cap, policy_in("a", "all", &all), policy_in("b", "all", &all)],
        workloads,
    )
}

#[tokio::test(start_paused = true)]
async fn a_rollout_counts_for_the_policies_that_asked_for_it() {
    let mut cluster = teams([
        workload(Kind::Deployment, "a", "a1"),
        workload(Kind::Deployment, "a", "a2"),
        workload(Kind::Deployment, "b", "b1"),
    ]);
    let says = |drain: i64| json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 5}});
    for namespace in [2, 3] {
        cluster.policies[namespace]["spec"] = says(30);
    }
    cluster.bring();
    cluster.begin("a1").await;
    cluster.change("a1", failed);
    assert_eq!(cluster.may(&["a2", "b1"]).await, ["b1"], "only its own policy is stalled");
    assert_eq!(cluster.failures().await.len(), 1);
    cluster.begin("b1").await;
    for name in ["a1", "b1"] {
        cluster.change(name, complete);
    }
    cluster.begin("a2").await;
    cluster.change("a2", complete);

    // A change of the cluster's policy is the cluster's, and its own limit holds.
    cluster.says("defaults", json!({"shutdownTimeoutSeconds": 50}));
    assert_eq!(cluster.may(&["a1", "a2", "b1"]).await, ["a1"]);
    cluster.begin("a1").await;
    assert_eq!(cluster.may(&["a2", "b1"]).await, [""; 0]);
    cluster.change("a1", failed);
    assert_eq!(cluster.may(&["a2", "b1"]).await, [""; 0]);
    let defaults = Source::ClusterPolicy("defaults".into());
    assert_eq!(cluster.failed_for("", defaults).await, ["a/a1"]);
    assert_eq!(cluster.failed_for("a", by("all")).await, ["a1"], "who opted it in");
    for unconcerned in [
        cluster.failed_for("b", by("all")).await,
        cluster.failed_for("", Source::ClusterPolicy("cap".into())).await,
    ] {
        assert_eq!(unconcerned, [""; 0]);
    }

    // Whoever leads next knows as much.
    cluster.stalls("defaults", "the rollout of a/a1 failed: mend it, or change the policy");
    let mut cluster = cluster.taken_over();
    assert_eq!(cluster.may(&["a2", "b1"]).await, [""; 0]);
    cluster.says("defaults", json!({"shutdownTimeoutSeconds": 40}));
    assert_eq!(cluster.may(&["a1"]).await, ["a1"], "what its policy broke, its policy may mend");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_stalled_policy_holds_up_nobody() {
    let mut cluster = teams([
        workload(Kind::Deployment, "b", "a0"),
        workload(Kind::Deployment, "a", "a1"),
        annotated("shutdown-timeout-seconds", "45", workload(Kind::Deployment, "a", "a2")),
    ]);
    cluster.says("defaults", json!({"shutdownTimeoutSeconds": 50}));
    cluster.begin("a0").await;
    cluster.change("a0", failed);
    // The older one waits for the defaults as well.
    cluster.says("all", json!({"selector": {}, "drainSeconds": 30}));
    assert_eq!(cluster.may(&["a1", "a2"]).await, ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn who_follows_with_the_next_update_holds_no_place() {
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
    cluster.says("defaults", json!({"drainSeconds": 30}));
    let (_, _, a) = cluster.find("a");
    assert_eq!((a.standing, a.when), (Standing::Pending, When::NextUpdate));
    assert!(cluster.may_begin("b").await);
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_daemon_set_that_come_and_go_hold_up_nobody() {
    let all = json!({"selector": {}, "kinds": ["Deployment", "DaemonSet"], "drainSeconds": 20});
    let mut daemons = workload(Kind::DaemonSet, "shop", "a");
    daemons.1.data["status"]["numberAvailable"] = json!(1);
    let mut cluster = Cluster::injected(10, [policy("all", &all)], [daemons, deployment("b")]);
    cluster.says("all", json!({"selector": {}, "kinds": ["Deployment", "DaemonSet"], "drainSeconds": 30}));
    assert_eq!(cluster.may(&["a", "b"]).await, ["b"]);

    // One whose rollout its policy began fails in time.
    cluster.change("a", complete);
    cluster.begin("a").await;
    for available in [1, 2].into_iter().cycle().take(10) {
        cluster.change("a", |(_, object)| object.data["status"]["numberAvailable"] = json!(available));
        assert!(!cluster.may_begin("b").await);
        advance(patience(Kind::DaemonSet, &cluster.workloads[0].1) / 8).await;
    }
    assert_eq!(cluster.failed_for("shop", by("all")).await, ["a"]);
}
