//! Policies and workloads as the API server has them, evaluated by the index, and the scheduler of a leader.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use kube::{ResourceExt as _, core::DynamicObject};
use serde_json::{Value, json};

use crate::{
    api::{ClusterGracefulPolicy, GracefulPolicy, RolloutFailureReason, annotations::ROLLOUT},
    index::{Index, caches::Caches, rollout_mark, template_hash},
    keys::{PolicyKey, WorkloadKey, policy_key},
    plan::{self, Evaluation, Kind, PodTemplate, RolloutTiming, Source, Workload},
    scheduler::{
        FailedRollout, FailureLimit, RolloutScheduler, SlotRequest, SlotReservation, WrittenRevision,
        progress::RolloutProgress,
    },
};

/// A cluster, and the scheduler of its leader.
pub(super) struct Cluster {
    slots: usize,
    pub(super) policies: Vec<Value>,
    pub(super) workloads: Vec<(Kind, DynamicObject)>,
    caches: Caches,
    index: Index,
    pub(super) scheduler: RolloutScheduler,
    pub(super) now: Timestamp,
    /// Failures that the status of policies records, beside those of the scheduler.
    pub(super) recorded: Vec<(PolicyKey, FailedRollout)>,
}

pub(super) fn policy(name: &str, spec: &Value) -> Value {
    policy_in("shop", name, spec)
}

pub(super) fn policy_in(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

pub(super) fn cluster_policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
        "metadata": {"name": name}, "spec": spec})
}

pub(super) fn select(name: &str) -> Value {
    json!({"matchLabels": {"app": name}})
}

/// A Deployment in the namespace `shop`. Those whose names come first in the alphabet are the older.
pub(super) fn deployment(name: &str) -> (Kind, DynamicObject) {
    workload(Kind::Deployment, "shop", name)
}

pub(super) fn workload(kind: Kind, namespace: &str, name: &str) -> (Kind, DynamicObject) {
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

pub(super) fn complete((kind, object): &mut (Kind, DynamicObject)) {
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

/// With a rollout in progress.
pub(super) fn rolling((kind, object): &mut (Kind, DynamicObject)) {
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

/// With a rollout that the Deployment controller reports as failed.
pub(super) fn failed(workload: &mut (Kind, DynamicObject)) {
    rolling(workload);
    workload.1.data["status"]["conditions"] = json!([{"type": "Progressing", "status": "False"}]);
}

pub(super) fn with(
    change: fn(&mut (Kind, DynamicObject)),
    mut workload: (Kind, DynamicObject),
) -> (Kind, DynamicObject) {
    change(&mut workload);
    workload
}

pub(super) fn annotated(
    key: &str,
    value: &str,
    mut workload: (Kind, DynamicObject),
) -> (Kind, DynamicObject) {
    workload.1.annotations_mut().insert(format!("adieu.dev/{key}"), value.into());
    workload
}

pub(super) fn caches(policies: &[Value], workloads: &[(Kind, DynamicObject)]) -> Caches {
    fn read<P: serde::de::DeserializeOwned>(kind: &str, policies: &[Value]) -> Vec<P> {
        let of_kind = policies.iter().filter(|policy| policy["kind"] == kind);
        of_kind.map(|policy| serde_json::from_value(policy.clone()).unwrap()).collect()
    }
    let in_namespaces: Vec<GracefulPolicy> = read("GracefulPolicy", policies);
    let cluster_policies: Vec<ClusterGracefulPolicy> = read("ClusterGracefulPolicy", policies);
    // As Argo Rollouts leaves it for a Rollout with the pod template of "a": it selects no pods of the Deployment.
    let selector = json!({"app": "a", "rollouts-pod-template-hash": "687d76d795"});
    let service = json!({"metadata": {"name": "a", "namespace": "shop"}, "spec": {"selector": selector}});
    let services = vec![serde_json::from_value(service).unwrap()];
    Caches::fixed(in_namespaces, services, workloads.to_vec()).with_cluster_policies(cluster_policies)
}

impl Cluster {
    pub(super) fn new<const P: usize, const W: usize>(
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

    /// With everything injected.
    pub(super) fn injected<const P: usize, const W: usize>(
        slots: usize,
        policies: [Value; P],
        workloads: [(Kind, DynamicObject); W],
    ) -> Self {
        let mut cluster = Self::new(slots, policies, workloads);
        for (kind, object) in &mut cluster.workloads {
            let context = cluster.caches.namespace_context(&object.namespace().unwrap());
            if let Some(template) = plan::evaluate(&Workload::of(*kind, object), &context).template {
                object.data["spec"]["template"] = template;
            }
        }
        cluster.sync();
        cluster
    }

    /// Restores the recorded failures, and observes everything.
    pub(super) fn lead(&mut self) {
        self.scheduler = RolloutScheduler::new(self.slots);
        self.index = Index::default();
        self.caches = caches(&self.policies, &self.workloads);
        self.index.refresh(&self.caches);
        self.set_policies();
        for (policy, failure) in &self.recorded {
            self.scheduler.restore(policy, [failure.clone()], self.now);
        }
        self.observe();
        self.scheduler.activate();
    }

    /// The same with another leader.
    pub(super) fn next_leader(mut self) -> Self {
        for policy in self.policy_keys() {
            let failures = self.scheduler.failures_of(&policy);
            let failures = failures.current.into_iter().chain(failures.superseded);
            if !self.recorded.iter().any(|(of, _)| *of == policy) {
                self.recorded.extend(failures.map(|failure| (policy.clone(), failure)));
            }
        }
        self.lead();
        self.recorded.clear();
        self
    }

    pub(super) fn policy_keys(&self) -> Vec<PolicyKey> {
        let key = |policy: &Value| {
            let name = policy["metadata"]["name"].as_str().unwrap().to_owned();
            match policy["metadata"]["namespace"].as_str() {
                Some(namespace) => policy_key(namespace, &Source::Policy(name)),
                None => policy_key("", &Source::ClusterPolicy(name)),
            }
        };
        self.policies.iter().map(key).collect()
    }

    pub(super) fn set_policies(&mut self) {
        for (key, policy) in self.policy_keys().iter().zip(&self.policies) {
            let generation = policy["metadata"]["generation"].as_i64();
            let failures = policy["spec"]["rollout"]["maxFailures"].as_u64();
            let failures = failures.map_or(FailureLimit::Default, |number| {
                FailureLimit::Count(usize::try_from(number).unwrap())
            });
            self.scheduler.set_policy(key, generation, failures, self.now);
        }
    }

    pub(super) fn observe(&mut self) {
        for (kind, object) in &self.workloads {
            let key = WorkloadKey::of(*kind, object);
            match self.index.get(&key).and_then(|evaluation| evaluation.snapshot()) {
                Some(snapshot) => self.scheduler.observe(&key, snapshot, self.now),
                None => self.scheduler.remove(&key),
            }
        }
    }

    /// Evaluates and observes everything.
    pub(super) fn sync(&mut self) {
        self.caches = caches(&self.policies, &self.workloads);
        self.index.refresh(&self.caches);
        self.set_policies();
        self.observe();
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.now += by;
        self.scheduler.expire(self.now);
    }

    pub(super) fn change(&mut self, name: &str, change: impl FnOnce(&mut (Kind, DynamicObject))) {
        change(self.workloads.iter_mut().find(|(_, object)| object.name_any() == name).unwrap());
        self.sync();
    }

    pub(super) fn policy(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.policies.iter_mut().find(|policy| policy["metadata"]["name"] == name).unwrap());
        self.sync();
    }

    pub(super) fn set_spec(&mut self, name: &str, spec: Value) {
        self.policy(name, |policy| policy["spec"] = spec);
    }

    /// Adds failures to the status of the policy.
    pub(super) fn record(&mut self, policy: &PolicyKey, workloads: &[(&str, &str)]) {
        for (namespace, name) in workloads {
            let is_it = |(_, object): &&(Kind, DynamicObject)| {
                object.name_any() == *name && object.namespace().as_deref() == Some(namespace)
            };
            let (kind, object) = self.workloads.iter().find(is_it).unwrap();
            let template = Some(template_hash(&object.data["spec"]["template"]));
            let failure = FailedRollout {
                workload: WorkloadKey::of(*kind, object),
                uid: object.uid(),
                generation: None,
                desired_template: template,
                template,
                reason: RolloutFailureReason::ProgressDeadlineExceeded,
                time: self.now,
            };
            self.recorded.push((policy.clone(), failure));
        }
    }

    pub(super) fn find(&self, name: &str) -> (Kind, &DynamicObject, Evaluation) {
        let (kind, object) = self.workloads.iter().find(|(_, object)| object.name_any() == name).unwrap();
        let context = self.caches.namespace_context(&object.namespace().unwrap());
        (*kind, object, plan::evaluate(&Workload::of(*kind, object), &context))
    }

    /// The time without progress after which a rollout of the workload fails.
    pub(super) fn progress_deadline(&self, name: &str) -> Duration {
        let (kind, object, _) = self.find(name);
        RolloutProgress::of(kind, object, || false).progress_deadline
    }

    pub(super) fn reserve_in(&self, scheduler: &mut RolloutScheduler, name: &str) -> Option<SlotReservation> {
        let (kind, object, evaluation) = self.find(name);
        assert!(
            evaluation.template.is_some() && evaluation.timing == RolloutTiming::Queued,
            "{name} is not queued"
        );
        let request = SlotRequest {
            uid: object.metadata.uid.as_deref(),
            generation: object.metadata.generation.unwrap(),
            desired_template: evaluation.template.as_ref().map(template_hash).unwrap(),
        };
        scheduler.reserve(&WorkloadKey::of(kind, object), request, self.now)
    }

    pub(super) fn reserve(&mut self, name: &str) -> Option<SlotReservation> {
        let mut scheduler = self.scheduler.clone();
        let slot = self.reserve_in(&mut scheduler, name);
        self.scheduler = scheduler;
        slot
    }

    pub(super) fn may_start(&self, name: &str) -> bool {
        self.reserve_in(&mut self.scheduler.clone(), name).is_some()
    }

    /// Those that may start, each if no other does.
    pub(super) fn may(&self, names: &[&'static str]) -> Vec<&'static str> {
        names.iter().copied().filter(|name| self.may_start(name)).collect()
    }

    /// Starts the rollout, and observes the written workload.
    pub(super) fn start(&mut self, name: &str) {
        let slot = self.reserve(name).unwrap_or_else(|| panic!("{name} may not start"));
        let (_, object, evaluation) = self.find(name);
        let mut written = object.clone();
        written.data["spec"]["template"] = evaluation.template.unwrap();
        let mark = rollout_mark(&PodTemplate::new(&written.data["spec"]["template"]));
        written.annotations_mut().extend(mark.map(|mark| (ROLLOUT.to_owned(), mark)));
        written.metadata.generation = written.metadata.generation.map(|generation| generation + 1);
        let revision = WrittenRevision {
            generation: written.metadata.generation.unwrap(),
            template: template_hash(&written.data["spec"]["template"]),
        };
        self.scheduler.commit(&slot, revision, self.now);
        self.change(name, |(kind, object)| {
            *object = written;
            let mut workload = (*kind, object.clone());
            rolling(&mut workload);
            *object = workload.1;
        });
    }

    pub(super) fn failed_for(&self, namespace: &str, policy: Source) -> Vec<String> {
        let is_cluster_scoped = matches!(policy, Source::ClusterPolicy(_));
        let mut failures = self.scheduler.failures_of(&policy_key(namespace, &policy)).current;
        failures.sort_by(|a, b| a.workload.cmp(&b.workload));
        let name = |failure: FailedRollout| {
            let WorkloadKey { namespace, name, .. } = failure.workload;
            if is_cluster_scoped { format!("{namespace}/{name}") } else { name }
        };
        failures.into_iter().map(name).collect()
    }
}

pub(super) fn by(name: &str) -> Source {
    Source::Policy(name.into())
}

pub(super) fn policy_of_shop() -> PolicyKey {
    policy_key("shop", &by("all"))
}
