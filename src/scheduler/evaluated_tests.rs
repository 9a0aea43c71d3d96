//! Histories of policies and workloads as the API server has them, through the index.

use std::time::Duration;

use kube::{ResourceExt as _, core::DynamicObject};
use serde_json::{Value, json};

use super::{entry::later, *};
use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, RolloutFailureReason},
    index::{
        Index,
        caches::{Caches, hash_of},
        policy_key,
        progress::patience,
    },
    plan::{self, Evaluation, InjectionState, Kind, RolloutTiming, Source, Workload},
};

/// What there is, and the scheduler of a replica that leads.
struct Cluster {
    slots: usize,
    policies: Vec<Value>,
    workloads: Vec<(Kind, DynamicObject)>,
    caches: Caches,
    index: Index,
    scheduler: RolloutScheduler,
    now: Timestamp,
    /// What the status of policies records, beside what the scheduler says.
    recorded: Vec<(PolicyKey, FailedRollout)>,
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
        slots: usize,
        policies: [Value; P],
        workloads: [(Kind, DynamicObject); W],
    ) -> Self {
        let (policies, workloads) = (policies.to_vec(), workloads.to_vec());
        let mut cluster = Self {
            slots,
            caches: caches(&policies, &workloads),
            policies,
            workloads,
            index: Index::default(),
            scheduler: RolloutScheduler::new(slots),
            now: "2026-02-01T00:00:00Z".parse().unwrap(),
            recorded: vec![],
        };
        cluster.lead();
        cluster
    }

    /// With everything injected already.
    fn injected<const P: usize, const W: usize>(
        slots: usize,
        policies: [Value; P],
        workloads: [(Kind, DynamicObject); W],
    ) -> Self {
        let mut cluster = Self::new(slots, policies, workloads);
        for (kind, object) in &mut cluster.workloads {
            let around = cluster.caches.namespace_context(&object.namespace().unwrap());
            if let Some(template) = plan::evaluate(&Workload::of(*kind, object), &around).template {
                object.data["spec"]["template"] = template;
            }
        }
        cluster.bring();
        cluster
    }

    /// Restores what was recorded, and observes everything.
    fn lead(&mut self) {
        self.scheduler = RolloutScheduler::new(self.slots);
        self.index = Index::default();
        self.caches = caches(&self.policies, &self.workloads);
        self.index.refresh(&self.caches);
        self.set_policies();
        for (policy, failure) in &self.recorded {
            self.scheduler.restore(policy, [failure.clone()]);
        }
        self.observe();
        self.scheduler.activate();
    }

    /// Another replica leads by now.
    fn taken_over(mut self) -> Self {
        for policy in self.policy_keys() {
            let failures = self.scheduler.status_of(&policy).failures;
            if !self.recorded.iter().any(|(of, _)| *of == policy) {
                self.recorded.extend(failures.into_iter().map(|failure| (policy.clone(), failure)));
            }
        }
        self.lead();
        self.recorded.clear();
        self
    }

    fn policy_keys(&self) -> Vec<PolicyKey> {
        let key = |policy: &Value| {
            let name = policy["metadata"]["name"].as_str().unwrap().to_owned();
            match policy["metadata"]["namespace"].as_str() {
                Some(namespace) => policy_key(namespace, &Source::Policy(name)),
                None => policy_key("", &Source::ClusterPolicy(name)),
            }
        };
        self.policies.iter().map(key).collect()
    }

    fn set_policies(&mut self) {
        for (key, policy) in self.policy_keys().iter().zip(&self.policies) {
            let generation = policy["metadata"]["generation"].as_i64();
            let failures = policy["spec"]["rollout"]["maxFailures"].as_u64();
            let failures = failures.map_or(FailureLimit::Default, |number| {
                FailureLimit::Count(usize::try_from(number).unwrap())
            });
            self.scheduler.set_policy(key, generation, failures, self.now);
        }
    }

    fn observe(&mut self) {
        for (kind, object) in &self.workloads {
            let key = WorkloadKey::of(*kind, object);
            match self.index.get(&key).and_then(|evaluation| Snapshot::of(&evaluation)) {
                Some(snapshot) => self.scheduler.observe(&key, snapshot, self.now),
                None => self.scheduler.remove(&key),
            }
        }
    }

    /// What the watches brought.
    fn bring(&mut self) {
        self.caches = caches(&self.policies, &self.workloads);
        self.index.refresh(&self.caches);
        self.set_policies();
        self.observe();
    }

    fn advance(&mut self, by: Duration) {
        self.now = later(self.now, by);
        self.scheduler.expire(self.now);
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

    /// As if the status of the policy said so.
    fn records(&mut self, policy: &PolicyKey, workloads: &[(&str, &str)]) {
        for (namespace, name) in workloads {
            let is_it = |(_, object): &&(Kind, DynamicObject)| {
                object.name_any() == *name && object.namespace().as_deref() == Some(namespace)
            };
            let (kind, object) = self.workloads.iter().find(is_it).unwrap();
            let template = Some(hash_of(&object.data["spec"]["template"]));
            let failure = FailedRollout {
                workload: WorkloadKey::of(*kind, object),
                uid: object.uid(),
                generation: None,
                plan: template,
                template,
                reason: RolloutFailureReason::ProgressDeadlineExceeded,
                time: self.now,
            };
            self.recorded.push((policy.clone(), failure));
        }
    }

    fn find(&self, name: &str) -> (Kind, &DynamicObject, Evaluation) {
        let (kind, object) = self.workloads.iter().find(|(_, object)| object.name_any() == name).unwrap();
        let around = self.caches.namespace_context(&object.namespace().unwrap());
        (*kind, object, plan::evaluate(&Workload::of(*kind, object), &around))
    }

    fn reserve(&self, scheduler: &mut RolloutScheduler, name: &str) -> Option<Slot> {
        let (kind, object, evaluation) = self.find(name);
        assert!(
            evaluation.template.is_some() && evaluation.timing == RolloutTiming::Queued,
            "{name} has nothing to ask for"
        );
        let request = Request {
            uid: object.metadata.uid.as_deref(),
            generation: object.metadata.generation.unwrap(),
            plan: evaluation.template.as_ref().map(hash_of).unwrap(),
        };
        scheduler.reserve(&WorkloadKey::of(kind, object), request, self.now)
    }

    fn ask(&mut self, name: &str) -> Option<Slot> {
        let mut scheduler = self.scheduler.clone();
        let slot = self.reserve(&mut scheduler, name);
        self.scheduler = scheduler;
        slot
    }

    fn may_begin(&self, name: &str) -> bool {
        self.reserve(&mut self.scheduler.clone(), name).is_some()
    }

    /// Those that may begin, each if no other did.
    fn may(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.may_begin(name)).collect()
    }

    /// Begins the rollout, and brings what was written.
    fn begin(&mut self, name: &str) {
        let slot = self.ask(name).unwrap_or_else(|| panic!("{name} may not begin"));
        let (_, object, evaluation) = self.find(name);
        let mut written = object.clone();
        written.data["spec"]["template"] = evaluation.template.unwrap();
        written.metadata.generation = written.metadata.generation.map(|generation| generation + 1);
        let mark = RolloutMark {
            generation: written.metadata.generation.unwrap(),
            template: hash_of(&written.data["spec"]["template"]),
        };
        self.scheduler.commit(&slot, mark, self.now);
        self.change(name, |(kind, object)| {
            *object = written;
            let mut workload = (*kind, object.clone());
            rolling(&mut workload);
            *object = workload.1;
        });
    }

    fn failed_for(&self, namespace: &str, policy: Source) -> Vec<String> {
        let is_of_cluster = matches!(policy, Source::ClusterPolicy(_));
        let mut failures = self.scheduler.status_of(&policy_key(namespace, &policy)).failures;
        failures.sort_by(|a, b| a.workload.cmp(&b.workload));
        let name = |failure: FailedRollout| {
            let WorkloadKey { namespace, name, .. } = failure.workload;
            if is_of_cluster { format!("{namespace}/{name}") } else { name }
        };
        failures.into_iter().map(name).collect()
    }
}

fn by(name: &str) -> Source {
    Source::Policy(name.into())
}

fn all_of_shop() -> PolicyKey {
    policy_key("shop", &by("all"))
}

#[test]
fn a_rollout_of_unknown_outcome_counts_once_it_is_observed() {
    let mut cluster = Cluster::new(10, [policy("all", &json!({"selector": {}}))], ["a", "b"].map(deployment));
    let turn = cluster.ask("a").unwrap();
    let evaluation = cluster.find("a").2;
    cluster.scheduler.outcome_unknown(&turn, cluster.now);
    let template = evaluation.template.unwrap();
    cluster.change("a", |workload| {
        workload.1.data["spec"]["template"] = template;
        workload.1.metadata.generation = Some(2);
        rolling(workload);
    });
    assert!(!cluster.may_begin("b"));
    cluster.change("a", failed);
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
    assert!(!cluster.may_begin("b"));
}

#[test]
fn a_blocked_workload_holds_no_slot_and_may_reserve_a_free_one() {
    let mut cluster = Cluster::new(10, [policy("all", &json!({"selector": {}}))], ["a", "b"].map(deployment));
    let key = WorkloadKey::of(Kind::Deployment, cluster.find("a").1);
    cluster.scheduler.set_blocked(&key, true, cluster.now);
    assert_eq!(cluster.may(&["a", "b"]), ["b"]);
    cluster.begin("b");
    assert!(!cluster.may_begin("a"));
    cluster.change("b", complete);
    assert!(cluster.may_begin("a"));
}

#[test]
fn rollouts_of_others_hold_no_slot() {
    let nobody = policy("one", &json!({"selector": select("nobody")}));
    let users = annotated("graceful", "true", deployment("a"));
    let mut cluster = Cluster::injected(1, [nobody], [users, deployment("b"), deployment("c")]);
    assert!(cluster.failed_for("shop", by("one")).is_empty());
    cluster.change("a", rolling);
    cluster.says("one", json!({"selector": {}, "rollout": {"maxConcurrent": 3}}));
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
    cluster.begin("b");
    assert!(!cluster.may_begin("c"));
}

#[test]
fn the_oldest_start_first_and_none_after_a_failure() {
    let all = |limit: i32| json!({"selector": {}, "rollout": {"maxConcurrent": limit}});
    let mut cluster = Cluster::new(10, [policy("all", &all(1))], ["c", "a", "b"].map(deployment));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a"]);
    cluster.says("all", all(2));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a", "b"]);
    cluster.begin("a");
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
    cluster.begin("b");
    assert!(!cluster.may_begin("c"));
    cluster.change("a", complete);
    assert!(cluster.may_begin("c"));
    cluster.change("b", failed);
    assert!(!cluster.may_begin("c"));
    assert_eq!(cluster.failed_for("shop", by("all")), ["b"]);

    // What its policy broke, its policy may mend.
    cluster.says("all", json!({"selector": {}, "drainSeconds": 20}));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a"]);
    cluster.begin("a");
    cluster.change("a", complete);
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
}

#[test]
fn a_policy_reverts_one_workload_at_a_time() {
    let all = ["a", "b", "c"].map(deployment);
    let mut cluster = Cluster::injected(10, [policy("all", &json!({"selector": {}}))], all);
    cluster.says("all", json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    assert_eq!(cluster.may(&["a", "b", "c"]), ["a"]);
    cluster.begin("a");
    assert!(!cluster.may_begin("b"), "it carries nothing any more, and its rollout counts");
    // The next leader knows as much.
    let mut cluster = cluster.taken_over();
    assert!(!cluster.may_begin("b"));
    cluster.change("a", complete);
    assert_eq!(cluster.may(&["b", "c"]), ["b"]);
    cluster.begin("b");
    cluster.change("b", failed);
    assert!(!cluster.may_begin("c"));
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
    cluster.begin("a");
    cluster.change("a", |a| a.1.data["status"] = status(2, 0, "2026-01-01T00:00:00Z"));
    assert!(!cluster.may_begin("b"));
    cluster.change("a", |a| a.1.data["status"] = status(2, 1, "2026-01-01T00:00:00Z"));
    assert!(cluster.may_begin("b"));

    // What was complete since then, and broke, is no rollout any more.
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.change("a", |a| a.1.data["status"] = status(1, 1, "2026-01-01T00:00:00Z"));
    cluster.begin("a");
    cluster.change("a", |a| a.1.data["status"] = status(2, 0, "2026-01-01T00:01:00Z"));
    assert!(cluster.may_begin("b"));
}

#[test]
fn a_failed_rollout_that_was_undone_is_not_tried_again() {
    let all = |drain: i32| json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 2}});
    let mut cluster = Cluster::new(10, [policy("all", &all(20))], ["a", "b"].map(deployment));
    let before = cluster.find("a").1.data["spec"]["template"].clone();
    cluster.begin("a");
    cluster.change("a", failed);
    let broken = cluster.find("a").1.clone();
    let failures = cluster.scheduler.status_of(&all_of_shop()).failures;
    let recorded: Vec<_> = failures.into_iter().map(|failure| (all_of_shop(), failure)).collect();
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
    // Nor where another leads since it failed, or since it was undone.
    for another_leads in [false, true] {
        if another_leads {
            let a = cluster.workloads.iter_mut().find(|(_, object)| object.name_any() == "a").unwrap();
            a.1 = broken.clone();
            cluster.recorded.clone_from(&recorded);
            cluster.lead();
            cluster.recorded.clear();
            assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
        }
        for undone in [rolling, complete] {
            cluster.change("a", |workload| {
                workload.1.data["spec"]["template"] = before.clone();
                workload.1.metadata.generation = Some(3);
                undone(workload);
            });
            assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
            assert_eq!(cluster.may(&["a", "b"]), [""; 0]);
        }
    }
    cluster = cluster.taken_over();
    assert_eq!(cluster.may(&["a", "b"]), [""; 0]);
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);

    cluster.says("all", all(30));
    assert_eq!(cluster.failed_for("shop", by("all")), [""; 0]);
    assert_eq!(cluster.may(&["a", "b"]), ["a", "b"]);
    cluster.policy("all", |policy| policy["metadata"]["generation"] = json!(2));
    cluster.recorded = recorded;
    let mut cluster = cluster.taken_over();
    assert_eq!(cluster.may(&["a", "b"]), ["a", "b"], "the policy was another when that failed");
    cluster.says("all", all(20));
    assert_eq!(cluster.may(&["a", "b"]), ["a", "b"], "a person asks for it once more");
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
    // Of the two, only this one asks.
    assert!(!cluster.may_begin("b"));
    cluster.begin("a");
    assert_eq!(names(&mut cluster), [""; 0]);
    cluster.change("a", complete);
    assert_eq!(names(&mut cluster), ["b"]);
    assert!(cluster.may_begin("b"));
}

#[test]
fn the_grace_period_of_old_pods_counts_for_the_deadline() {
    let all = json!({"selector": {}, "kinds": ["StatefulSet"], "gracePeriodPolicy": "Exact"});
    let mut slow = workload(Kind::StatefulSet, "shop", "a");
    slow.1.data["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = json!(3600);
    let mut cluster = Cluster::new(10, [policy("all", &all)], [slow]);
    let patience = |cluster: &Cluster| patience(Kind::StatefulSet, &cluster.workloads[0].1);
    let before = patience(&cluster);
    cluster.begin("a");
    assert!(patience(&cluster) < before);
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
    cluster.begin("a");
    // The other slot is for those that hold none.
    assert_eq!(cluster.may(&["b", "c"]), ["c"]);
    cluster.begin("c");
    assert!(!cluster.may_begin("b"));
    cluster.change("a", complete);
    assert!(cluster.may_begin("b"));
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

        // One that doesn't come to an end is its owner's to fix.
        cluster.change("a", rolling);
        assert_eq!(cluster.may(&["a", "b"]), ["b"], "{kind}");
        cluster.advance(patience(kind, &cluster.workloads[0].1));
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
        [with(rolling, deployment("stranger")), left(deployment("left")), deployment("web")],
    );
    assert!(cluster.may_begin("web"));
    cluster.change("stranger", failed);
    assert!(cluster.may_begin("web"));
    assert_eq!(cluster.scheduler.failed_rollouts(), 0);
}

#[test]
fn workloads_that_do_not_roll_by_themselves_delay_no_other() {
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
        assert_eq!(cluster.may(&["a", "b"]), ["a"], "{spec}");
        cluster.begin("a");
        assert!(cluster.may_begin("b"), "{spec}");
    }
}

#[test]
fn the_next_leader_knows_what_failed() {
    for kind in Kind::ALL {
        let all = json!({"selector": {}, "drainSeconds": 20, "kinds": ["Deployment", "StatefulSet", "DaemonSet"], "rollout": {"maxConcurrent": 2}});
        let fixed = [workload(kind, "shop", "a"), workload(kind, "shop", "b"), deployment("c")];
        let mut cluster = Cluster::new(10, [policy("all", &all)], fixed);
        cluster.begin("a");
        cluster.begin("b");
        // What goes on is taken for what whoever led before began.
        let mut cluster = cluster.taken_over();
        assert!(!cluster.may_begin("c"), "{kind}");
        cluster.change("a", complete);
        assert!(cluster.may_begin("c"), "{kind}");
        cluster.advance(patience(kind, &cluster.workloads[1].1));
        assert!(!cluster.may_begin("c"), "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")), ["b"], "{kind}");

        // And what had failed, for what had.
        cluster.change("a", rolling);
        cluster.records(&all_of_shop(), &[("shop", "a"), ("shop", "b")]);
        let mut cluster = cluster.taken_over();
        assert!(!cluster.may_begin("c"), "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")), ["a", "b"], "{kind}");
        cluster.change("a", complete);
        assert_eq!(cluster.failed_for("shop", by("all")), ["b"], "{kind}");
        cluster.change("b", complete);
        assert!(cluster.may_begin("c"), "{kind}");
        assert_eq!(cluster.failed_for("shop", by("all")), [""; 0], "{kind}");
    }
}

#[test]
fn a_workload_that_was_created_again_is_another() {
    let all = json!({"selector": {}, "rollout": {"maxConcurrent": 1}});
    let mut cluster = Cluster::new(10, [policy("all", &all)], ["a", "b"].map(deployment));
    cluster.begin("a");
    cluster.change("a", |a| {
        *a = deployment("a");
        a.1.metadata.uid = Some("another".into());
    });
    assert_eq!(cluster.may(&["a", "b"]), ["a"]);
}

#[test]
fn a_failure_is_of_one_namespace() {
    let all = cluster_policy("all", &json!({"selector": {}, "drainSeconds": 20}));
    let in_namespaces =
        ["other", "shop"].map(|namespace| with(failed, workload(Kind::Deployment, namespace, "web")));
    let mut cluster = Cluster::injected(10, [all], in_namespaces);
    cluster.records(&policy_key("", &Source::ClusterPolicy("all".into())), &[("shop", "web")]);
    cluster.lead();
    assert_eq!(cluster.failed_for("", Source::ClusterPolicy("all".into())), ["shop/web"]);
}

#[test]
fn a_replica_that_leads_again_knows_what_another_recorded() {
    let all = policy("all", &json!({"selector": {}, "drainSeconds": 20}));
    let workloads = [with(failed, deployment("a")), deployment("b")];
    let mut cluster = Cluster::injected(1, [all], workloads);
    cluster.change("b", |b| *b = deployment("b"));
    assert!(cluster.failed_for("shop", by("all")).is_empty(), "its user's rollout failed");
    cluster.records(&all_of_shop(), &[("shop", "a")]);
    assert!(cluster.failed_for("shop", by("all")).is_empty());
    cluster.scheduler.reset();
    assert!(!cluster.may_begin("b"), "nothing is observed yet");
    cluster.lead();
    assert!(!cluster.may_begin("b"));
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
}

#[test]
fn no_slot_is_offered_before_all_workloads_are_observed() {
    let mut cluster = Cluster::injected(
        1,
        [policy("all", &json!({"selector": {}, "drainSeconds": 20}))],
        [with(failed, deployment("a")), deployment("b")],
    );
    cluster.records(&all_of_shop(), &[("shop", "a")]);
    cluster.change("b", |b| *b = deployment("b"));
    let mut unfinished = RolloutScheduler::new(1);
    std::mem::swap(&mut unfinished, &mut cluster.scheduler);
    cluster.set_policies();
    let recorded = std::mem::take(&mut cluster.recorded);
    for (policy, failure) in &recorded {
        cluster.scheduler.restore(policy, [failure.clone()]);
    }
    cluster.observe();
    assert!(!cluster.may_begin("b") && cluster.scheduler.take_runnable(cluster.now).is_empty());

    cluster.scheduler.activate();
    assert!(!cluster.may_begin("b"));
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"], "it is still known what failed before");
}

/// Two teams with a policy each, under defaults and a cap of the cluster's.
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
    let says = |drain: i64| json!({"selector": {}, "drainSeconds": drain, "rollout": {"maxConcurrent": 5}});
    for namespace in [2, 3] {
        cluster.policies[namespace]["spec"] = says(30);
    }
    cluster.bring();
    cluster.begin("a1");
    cluster.change("a1", failed);
    assert_eq!(cluster.may(&["a2", "b1"]), ["b1"], "only its own policy is stalled");
    assert_eq!(cluster.scheduler.failed_rollouts(), 1);
    cluster.begin("b1");
    for name in ["a1", "b1"] {
        cluster.change(name, complete);
    }
    cluster.begin("a2");
    cluster.change("a2", complete);

    // A change of the cluster's policy is the cluster's, and its own limit holds.
    cluster.says("defaults", json!({"shutdownTimeoutSeconds": 50, "rollout": {"maxFailures": 1}}));
    assert_eq!(cluster.may(&["a1", "a2", "b1"]), ["b1"], "a slot was offered in the other namespace since");
    cluster.begin("b1");
    assert_eq!(cluster.may(&["a1", "a2"]), [""; 0]);
    cluster.change("b1", complete);
    assert_eq!(cluster.may(&["a1", "a2"]), ["a1"]);
    cluster.begin("a1");
    cluster.change("a1", failed);
    assert_eq!(cluster.may(&["a2"]), [""; 0]);
    let defaults = Source::ClusterPolicy("defaults".into());
    assert_eq!(cluster.failed_for("", defaults), ["a/a1"]);
    assert_eq!(cluster.failed_for("a", by("all")), ["a1"], "who opted it in");
    for unconcerned in
        [cluster.failed_for("b", by("all")), cluster.failed_for("", Source::ClusterPolicy("cap".into()))]
    {
        assert_eq!(unconcerned, [""; 0]);
    }

    // Whoever leads next knows as much.
    let mut cluster = cluster.taken_over();
    assert_eq!(cluster.may(&["a2"]), [""; 0]);
    cluster.says("defaults", json!({"shutdownTimeoutSeconds": 40, "rollout": {"maxFailures": 1}}));
    assert_eq!(cluster.may(&["a1"]), ["a1"], "a policy may fix what it broke");
}

#[test]
fn a_workload_that_waits_for_a_stopped_policy_delays_no_other() {
    let mut cluster = teams([
        workload(Kind::Deployment, "b", "a0"),
        workload(Kind::Deployment, "a", "a1"),
        annotated("shutdown-timeout-seconds", "45", workload(Kind::Deployment, "a", "a2")),
    ]);
    cluster.says("defaults", json!({"shutdownTimeoutSeconds": 50, "rollout": {"maxFailures": 1}}));
    cluster.begin("a0");
    cluster.change("a0", failed);
    // The older one waits for the defaults as well.
    cluster.says("all", json!({"selector": {}, "drainSeconds": 30}));
    assert_eq!(cluster.may(&["a1", "a2"]), ["a2"]);
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
    cluster.says("defaults", json!({"drainSeconds": 30}));
    let (_, _, a) = cluster.find("a");
    assert_eq!((a.state, a.timing), (InjectionState::Pending, RolloutTiming::NextUpdate));
    assert!(cluster.may_begin("b"));
}

#[test]
fn pods_of_a_daemon_set_that_come_and_go_are_no_rollout() {
    let all = json!({"selector": {}, "kinds": ["Deployment", "DaemonSet"], "drainSeconds": 20});
    let mut daemons = workload(Kind::DaemonSet, "shop", "a");
    daemons.1.data["status"]["numberAvailable"] = json!(1);
    let mut cluster = Cluster::injected(10, [policy("all", &all)], [daemons, deployment("b")]);
    cluster.says("all", json!({"selector": {}, "kinds": ["Deployment", "DaemonSet"], "drainSeconds": 30}));
    assert_eq!(cluster.may(&["a", "b"]), ["b"]);

    // One whose rollout its policy began fails in time.
    cluster.change("a", complete);
    cluster.begin("a");
    for available in [1, 2].into_iter().cycle().take(10) {
        cluster.change("a", |(_, object)| object.data["status"]["numberAvailable"] = json!(available));
        assert!(!cluster.may_begin("b"));
        cluster.advance(patience(Kind::DaemonSet, &cluster.workloads[0].1) / 8);
    }
    assert_eq!(cluster.failed_for("shop", by("all")), ["a"]);
}
