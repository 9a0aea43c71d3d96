use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::Method;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::annotations::INJECTED,
    plan::{self, NamespaceContext, Workload},
    runtime::test_support::{client_of_bodies, failure, not_found},
};

const ROLLOUT_LIMITS: RolloutLimits =
    RolloutLimits { max_concurrent: 2, progress_deadline: Duration::from_mins(10) };

/// An API server with Deployments. A rollout completes a number of reads after it started.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: Vec<Value>,
    /// The reads until a rollout completes.
    reads: i64,
    /// Workloads whose rollout never completes.
    stuck: Vec<&'static str>,
    /// Whether the controller has observed the template before it has a pod.
    observes_early: bool,
    /// Workloads whose pods become available and unavailable again and again.
    flapping: Vec<&'static str>,
    /// The maximum of concurrent rollouts.
    most: usize,
    /// The order in which rollouts started.
    begun: Vec<String>,
    /// The errors of writes, by name.
    refusals: Vec<(&'static str, u16, &'static str)>,
    writes: usize,
    /// The requests for `PodDisruptionBudget`s.
    budget_lists: usize,
    /// Whether an entry in managedFields was removed before them.
    released_first: bool,
}

fn deployment(name: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": name, "namespace": "shop", "uid": name, "generation": 1, "resourceVersion": "1",
            "annotations": {"team": "shop", "adieu.dev/graceful": "true", "adieu.dev/drain-seconds": "7"},
        },
        "spec": {"replicas": 1, "template": {
            "metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]},
        }},
        "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "observedGeneration": 1},
    });
    let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    let workload = Workload::of(Kind::Deployment, &parsed);
    object["spec"]["template"] = plan::evaluate(&workload, &NamespaceContext::default()).template.unwrap();
    object
}

fn target(name: &str) -> Target {
    let object = serde_json::from_value(deployment(name)).unwrap();
    Target::new(Kind::Deployment, &object, Action::Restore)
}

impl Server {
    fn new(names: &[&str], reads: i64) -> Self {
        let server = Self::default();
        {
            let mut state = server.state();
            state.objects = names.iter().map(|name| deployment(name)).collect();
            state.reads = reads;
        }
        server
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, name: &str) -> Value {
        let state = self.state();
        state.objects.iter().find(|object| object["metadata"]["name"] == name).unwrap().clone()
    }

    fn client(&self) -> Client {
        let server = self.clone();
        client_of_bodies(move |method, target, body| Some(server.state().answer(method, target, body)))
    }

    async fn opt_out(&self, names: &[&str], interrupted: &CancellationToken) -> Vec<(String, Outcome)> {
        let targets = names.iter().map(|name| target(name)).collect();
        let report = |_: &Target, step: &Step<'_>| {
            if matches!(step, Step::RollsOut) && self.state().stuck.contains(&"until interrupted") {
                interrupted.cancel();
            }
        };
        let done = opt_out(&self.client(), targets, ROLLOUT_LIMITS, interrupted, report).await;
        done.into_iter().map(|(target, outcome)| (target.name, outcome)).collect()
    }
}

impl State {
    fn answer(&mut self, method: &Method, target: &str, body: &[u8]) -> (u16, Value) {
        if target.contains("poddisruptionbudgets") {
            self.budget_lists += 1;
            return (200, json!({"metadata": {}, "items": []}));
        }
        let name = target.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        let Some(index) = self.objects.iter().position(|object| object["metadata"]["name"] == name) else {
            return (404, not_found());
        };
        if *method == Method::PATCH {
            return self.patch(index, &name, body);
        }
        let is_stuck = self.stuck.iter().any(|stuck| *stuck == name);
        let object = &mut self.objects[index];
        let left = object["left"].as_i64().unwrap_or(0);
        let is_flapping = self.flapping.iter().any(|flapping| *flapping == name);
        if left > 0 && is_flapping {
            let available = object["status"]["availableReplicas"].as_i64().unwrap();
            object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
            object["status"]["availableReplicas"] = json!(1 - available);
            object["status"]["updatedReplicas"] = json!(0);
        } else if left > 0 && !is_stuck {
            object["left"] = json!(left - 1);
            if left == 1 || self.observes_early {
                object["status"]["observedGeneration"] = object["metadata"]["generation"].clone();
            }
            object["status"]["updatedReplicas"] = json!(i32::from(left == 1));
        }
        (200, object.clone())
    }

    fn patch(&mut self, index: usize, name: &str, body: &[u8]) -> (u16, Value) {
        self.writes += 1;
        if let Some(at) = self.refusals.iter().position(|(refused, ..)| *refused == name) {
            let (_, code, message) = self.refusals[at];
            if code == 409 {
                self.refusals.remove(at);
            }
            return (code, failure(code, message));
        }
        let before = self.objects[index].clone();
        let object = &mut self.objects[index];
        let patch: json_patch::Patch = serde_json::from_slice(body).unwrap();
        let precondition = serde_json::to_value(&patch.0[0]).unwrap();
        assert_eq!(precondition["path"], "/metadata/resourceVersion");
        if precondition["value"] != before["metadata"]["resourceVersion"] {
            return (409, failure(409, "the object has been modified"));
        }
        json_patch::patch(object, &patch).unwrap();
        let version: i64 = before["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        object["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        let is_released = object["metadata"]["managedFields"] != before["metadata"]["managedFields"];
        self.released_first |= is_released && self.budget_lists == 0;
        if object["spec"] != before["spec"] {
            object["metadata"]["generation"] = json!(before["metadata"]["generation"].as_i64().unwrap() + 1);
            object["left"] = json!(self.reads);
            // The writer owns the fields.
            object["metadata"]["managedFields"] = json!([{"manager": "adieu", "operation": "Update"}]);
            self.begun.push(name.to_owned());
            let rolling = self.objects.iter().filter(|object| object["left"].as_i64() > Some(0)).count();
            self.most = self.most.max(rolling);
        }
        (200, self.objects[index].clone())
    }
}

#[tokio::test(start_paused = true)]
async fn workloads_are_opted_out_in_order_and_concurrency_and_ownership_are_limited() {
    let names = ["a", "b", "c", "d", "e"];
    let server = Server::new(&names, 3);
    let done = server.opt_out(&names, &CancellationToken::new()).await;
    assert!(done.iter().all(|(_, outcome)| *outcome == Outcome::Restored), "{done:?}");
    assert_eq!(done.len(), 5);
    assert_eq!(server.state().begun, names);
    assert_eq!(server.state().most, 2);
    for name in names {
        let object = server.object(name);
        let annotations = &object["metadata"]["annotations"];
        let expected = json!({"team": "shop", "adieu.dev/graceful": "false", "adieu.dev/drain-seconds": "7"});
        assert_eq!(*annotations, expected, "the user's own stay");
        let plain = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]}});
        assert_eq!(object["spec"]["template"], plain);
        assert_eq!(object["metadata"]["managedFields"], json!([]), "no later apply conflicts");
    }
}

#[tokio::test(start_paused = true)]
async fn no_rollout_starts_after_a_failed_one() {
    let names = ["a", "b", "c", "d"];
    let server = Server::new(&names, 3);
    server.state().stuck = vec!["a"];
    let begun = Instant::now();
    let done = server.opt_out(&["a"], &CancellationToken::new()).await;
    assert!(begun.elapsed() >= ROLLOUT_LIMITS.progress_deadline);
    assert!(
        matches!(&done[..], [(_, Outcome::Failed { reason, was_broken: false })] if reason.contains("600 s"))
    );
    // Rollouts in progress are waited for.
    server.state().refusals = vec![("c", 503, "etcd is unavailable")];
    let done = server.opt_out(&["b", "c", "d"], &CancellationToken::new()).await;
    let outcome = |name: &str| done.iter().find(|(of, _)| of == name).map(|(_, outcome)| outcome);
    assert!(matches!(outcome("c"), Some(Outcome::Unknown { .. })), "{done:?}");
    assert_eq!((outcome("b"), outcome("d")), (Some(&Outcome::Restored), None));
    assert!(server.object("d")["spec"]["template"]["metadata"]["annotations"][INJECTED].is_string());
}

#[tokio::test(start_paused = true)]
async fn workloads_that_were_broken_before_or_are_rejected_do_not_stop_others() {
    let names = ["broken", "denied", "fine"];
    let server = Server::new(&names, 1);
    server.state().stuck = vec!["broken"];
    server.state().objects[0]["status"]["availableReplicas"] = json!(0);
    server.state().refusals =
        vec![("denied", 403, "admission webhook \"freeze\" denied the request: not today")];
    let broken = {
        let object = serde_json::from_value(server.object("broken")).unwrap();
        Target::new(Kind::Deployment, &object, Action::Restore)
    };
    assert_eq!(broken.before, Before::Rolling);
    let targets = vec![broken, target("denied"), target("fine"), target("gone")];
    let limits = RolloutLimits { max_concurrent: 1, ..ROLLOUT_LIMITS };
    let done = opt_out(&server.client(), targets, limits, &CancellationToken::new(), |_, _| {}).await;
    let outcomes: Vec<_> = done.into_iter().map(|(_, outcome)| outcome).collect();
    assert!(
        matches!(&outcomes[..], [
        Outcome::Failed { was_broken: true, .. },
        Outcome::Rejected { reason },
        Outcome::Restored,
        Outcome::Deleted,
    ] if reason.contains("not today")),
        "{outcomes:?}"
    );
    assert_eq!(server.object("broken")["metadata"]["annotations"]["adieu.dev/graceful"], "false");
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_workload_without_a_rollout_is_not_waited_for() {
    let server = Server::new(&["broken"], 1);
    server.state().objects[0]["status"]["availableReplicas"] = json!(0);
    server.state().objects[0]["status"]["conditions"] =
        json!([{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]);
    server.state().stuck = vec!["broken"];
    let object = serde_json::from_value(server.object("broken")).unwrap();
    let broken = Target::new(Kind::Deployment, &object, Action::Restore);
    assert_eq!(broken.before, Before::Broken);
    let begun = Instant::now();
    let done =
        opt_out(&server.client(), vec![broken], ROLLOUT_LIMITS, &CancellationToken::new(), |_, _| {}).await;
    assert!(matches!(&done[..], [(_, Outcome::Failed { was_broken: true, .. })]), "{done:?}");
    assert!(
        begun.elapsed() < ROLLOUT_LIMITS.progress_deadline + 2 * INTERVAL,
        "only its own rollout is waited for"
    );
}

/// The Deployment controller keeps it while pods of an older ReplicaSet start again.
#[tokio::test(start_paused = true)]
async fn the_failure_of_the_previous_rollout_is_not_one_of_the_restored_template() {
    let server = Server::new(&["a"], 3);
    server.state().observes_early = true;
    server.state().objects[0]["status"]["conditions"] =
        json!([{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]);
    let done = server.opt_out(&["a"], &CancellationToken::new()).await;
    assert_eq!(done, [("a".to_owned(), Outcome::Restored)]);
}

#[tokio::test(start_paused = true)]
async fn pods_that_become_available_again_and_again_are_no_progress() {
    let server = Server::new(&["a"], 3);
    server.state().flapping = vec!["a"];
    let begun = Instant::now();
    let done = server.opt_out(&["a"], &CancellationToken::new()).await;
    assert!(
        matches!(&done[..], [(_, Outcome::Failed { reason, was_broken: false })] if reason.contains("600 s"))
    );
    assert!(begun.elapsed() < ROLLOUT_LIMITS.progress_deadline + 3 * INTERVAL);
}

#[test]
fn another_generation_with_fewer_updated_replicas_is_another_rollout() {
    let mut best = None;
    let counts = |updated, available, old| ReplicaCounts { desired: 3, updated, available, old };
    for (generation, counts, is_progress) in [
        (1, counts(0, 3, 3), true),
        (1, counts(2, 3, 1), true),
        (1, counts(2, 1, 1), false),
        (1, counts(1, 3, 2), false),
        (2, counts(2, 3, 1), false),
        (3, counts(0, 3, 3), true),
        (3, counts(1, 3, 2), true),
    ] {
        assert_eq!(Best::update(&mut best, Some(generation), counts), is_progress, "{generation} {counts:?}");
    }
}

/// Its controller replaces no pod while one of the older template isn't ready, so a later run would not help.
#[tokio::test(start_paused = true)]
async fn a_blocked_stateful_set_of_an_earlier_run_does_not_stop_others() {
    let server = Server::new(&["broken", "fine"], 1);
    server.state().stuck = vec!["broken"];
    server.state().objects[0] = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {
            "name": "broken", "namespace": "shop", "generation": 2, "resourceVersion": "1",
            "annotations": {"adieu.dev/graceful": "false"},
            "managedFields": [{"manager": "adieu", "operation": "Update"}],
        },
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "web"}]}}},
        "status": {
            "replicas": 1, "readyReplicas": 0, "observedGeneration": 2,
            "currentRevision": "a", "updateRevision": "b",
        },
    });
    let object = serde_json::from_value(server.object("broken")).unwrap();
    let waits = Target::new(Kind::StatefulSet, &object, Action::Wait);
    let limits = RolloutLimits { max_concurrent: 1, ..ROLLOUT_LIMITS };
    let targets = vec![waits, target("fine")];
    let done = opt_out(&server.client(), targets, limits, &CancellationToken::new(), |_, _| {}).await;
    let outcomes: Vec<_> = done.into_iter().map(|(_, outcome)| outcome).collect();
    assert!(
        matches!(&outcomes[..], [Outcome::Failed { was_broken: true, .. }, Outcome::Restored]),
        "{outcomes:?}"
    );
    assert_eq!(server.object("broken")["metadata"]["managedFields"], json!([]), "the fields of a killed run");
    assert_eq!(server.state().budget_lists, 2, "a killed run may have left a budget, too");
    assert!(!server.state().released_first, "then the entry would not make a later run delete the budget");
}

#[tokio::test(start_paused = true)]
async fn pods_that_are_not_replaced_cause_a_warning() {
    let server = Server::new(&["a"], 1);
    server.state().objects[0]["spec"]["paused"] = json!(true);
    let warnings = Mutex::new(vec![]);
    let report = |_: &Target, step: &Step<'_>| {
        if let Step::Warns(warning) = step {
            warnings.lock().unwrap().push((*warning).to_owned());
        }
    };
    let done =
        opt_out(&server.client(), vec![target("a")], ROLLOUT_LIMITS, &CancellationToken::new(), report).await;
    assert!(matches!(&done[..], [(_, Outcome::Restored)]), "{done:?}");
    let warnings = warnings.into_inner().unwrap();
    assert!(
        warnings.iter().any(|warning| warning.starts_with("it is paused: its pods keep")),
        "{warnings:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_write_is_retried_after_a_conflict() {
    let server = Server::new(&["a"], 1);
    server.state().refusals = vec![("a", 409, "the object has been modified"); 3];
    let done = server.opt_out(&["a"], &CancellationToken::new()).await;
    assert_eq!(done, [("a".to_owned(), Outcome::Restored)]);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_run_stops_between_writes_and_can_be_resumed() {
    let names = ["a", "b", "c", "d"];
    let server = Server::new(&names, 3);
    server.state().stuck = vec!["until interrupted"];
    let interrupted = CancellationToken::new();
    let done = server.opt_out(&names, &interrupted).await;
    assert_eq!(done.len(), 2, "{done:?}");
    assert!(done.iter().all(|(_, outcome)| *outcome == Outcome::RollsOut), "{done:?}");
    server.state().stuck.clear();
    // Rollouts in progress are waited for, and count against the limit.
    let waits = |name: &str| {
        let object = serde_json::from_value(server.object(name)).unwrap();
        Target::new(Kind::Deployment, &object, Action::Wait)
    };
    let targets = vec![waits("a"), waits("b"), target("c"), target("d")];
    let done = opt_out(&server.client(), targets, ROLLOUT_LIMITS, &CancellationToken::new(), |_, _| {}).await;
    assert!(done.iter().all(|(_, outcome)| *outcome == Outcome::Restored), "{done:?}");
    assert_eq!(server.state().begun, names);
    assert_eq!(server.state().most, 2);
}

#[test]
fn an_annotation_of_another_field_manager_causes_a_warning() {
    let by = |manager: &str, value: &str, operation: &str| -> DynamicObject {
        let fields = json!({"f:metadata": {"f:annotations": {"f:adieu.dev/graceful": {}}}});
        let entry = json!({"manager": manager, "operation": operation, "fieldsV1": fields});
        serde_json::from_value(json!({"metadata": {
            "name": "web", "annotations": {"adieu.dev/graceful": value}, "managedFields": [entry]}}))
        .unwrap()
    };
    let object = |value: &str, operation: &str| by("argocd-controller", value, operation);
    for manager in ["kubectl-client-side-apply", "helm"] {
        assert!(
            reapply_warning(&by(manager, "true", "Update")).is_some_and(|warning| warning.contains(manager))
        );
    }
    assert_eq!(reapply_warning(&by("kubectl-annotate", "true", "Update")), None);
    let warning = reapply_warning(&object("true", "Apply")).unwrap();
    assert!(warning.contains("argocd-controller") && warning.contains("change it there"), "{warning}");
    assert_eq!(reapply_warning(&object("true", "Update")), None);
    assert_eq!(reapply_warning(&object("false", "Apply")), None);
}
