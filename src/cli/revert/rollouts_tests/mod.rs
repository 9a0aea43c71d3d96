mod server;

use std::sync::Mutex;

use serde_json::json;
use server::{Server, target};

use super::{super::resume, *};
use crate::{api::annotations::INJECTED, runtime::client::LIMIT};

const ROLLOUT_LIMITS: RolloutLimits =
    RolloutLimits { max_concurrent: 2, progress_deadline: Duration::from_mins(10) };

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
async fn a_failed_rollout_is_reported_after_the_progress_deadline() {
    let server = Server::new(&["a"], 3);
    server.state().stuck = vec!["a"];
    let begun = Instant::now();
    let done = server.opt_out(&["a"], &CancellationToken::new()).await;
    assert!(begun.elapsed() >= ROLLOUT_LIMITS.progress_deadline);
    assert!(
        matches!(&done[..], [(_, Outcome::Failed { reason, was_broken: false })] if reason.contains("600 s"))
    );
}

/// The outcomes of `a1`, `b1`, `a2` and `b2` in this order, in the namespaces `a` and `b`; `None` for those that are not
/// started.
async fn of_two_namespaces(server: &Server, max_concurrent: usize) -> [Option<Outcome>; 4] {
    let names = ["a1", "b1", "a2", "b2"];
    let targets = names.map(|name| Target { namespace: name[..1].into(), ..target(name) }).into();
    let limits = RolloutLimits { max_concurrent, ..ROLLOUT_LIMITS };
    let done = opt_out(&server.client(), targets, limits, &CancellationToken::new(), |_, _| {}).await;
    names.map(|name| done.iter().find(|(target, _)| target.name == name).map(|(_, outcome)| outcome.clone()))
}

#[tokio::test(start_paused = true)]
async fn a_failure_stops_its_namespace_and_no_other() {
    let names = ["a1", "b1", "a2", "b2"];
    for max_concurrent in [1, 2] {
        let server = Server::new(&names, 3);
        server.state().stuck = vec!["a1"];
        let [a1, b1, a2, b2] = of_two_namespaces(&server, max_concurrent).await;
        assert!(matches!(a1, Some(Outcome::Failed { was_broken: false, .. })), "{a1:?}");
        assert_eq!((b1, b2), (Some(Outcome::Restored), Some(Outcome::Restored)));
        assert_eq!(a2.is_none(), max_concurrent == 1, "{a2:?}");
    }
    let server = Server::new(&names, 3);
    server.state().refusals = vec![("a1", 500, "etcdserver: request is too large")];
    let [a1, b1, a2, b2] = of_two_namespaces(&server, 1).await;
    assert!(matches!(a1, Some(Outcome::Unknown { unreachable: false, .. })), "{a1:?}");
    assert_eq!((b1, b2), (Some(Outcome::Restored), Some(Outcome::Restored)));
    assert_eq!(a2, None);
    assert!(server.object("a2")["spec"]["template"]["metadata"]["annotations"][INJECTED].is_string());
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_api_server_stops_everything() {
    let server = Server::new(&["a1", "b1", "a2", "b2"], 60);
    server.state().silent = vec!["b1"];
    let begun = Instant::now();
    let [a1, b1, a2, b2] = of_two_namespaces(&server, 2).await;
    assert_eq!(a1, Some(Outcome::Restored), "a rollout in progress is waited for");
    assert!(matches!(b1, Some(Outcome::Unknown { unreachable: true, .. })), "{b1:?}");
    assert_eq!((a2, b2), (None, None));
    assert!(begun.elapsed() > LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_later_run_deletes_the_budget_that_could_not_be_deleted() {
    for (code, is_repeated) in [(500, true), (403, false)] {
        let server = Server::new(&["a"], 1);
        server.state().budgets = vec!["a"];
        server.state().budget_error = Some(code);
        let done = server.opt_out(&["a"], &CancellationToken::new()).await;
        assert_eq!(done, [("a".to_owned(), Outcome::Restored)]);
        assert_eq!(server.state().budgets, ["a"]);

        let object = serde_json::from_value(server.object("a")).unwrap();
        let action = resume::action_if_opted_out(Kind::Deployment, &object);
        assert_eq!(action, is_repeated.then_some(Action::Wait), "{code}");
        let Some(action) = action else { continue };
        server.state().budget_error = None;
        let targets = vec![Target::new(Kind::Deployment, &object, action)];
        opt_out(&server.client(), targets, ROLLOUT_LIMITS, &CancellationToken::new(), |_, _| {}).await;
        assert_eq!(server.state().budgets, [""; 0]);
        assert_eq!(server.object("a")["metadata"]["managedFields"], json!([]), "nothing is left to repeat");
    }
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
async fn flapping_pods_do_not_count_as_progress() {
    let server = Server::new(&["a"], 3);
    server.state().flapping = vec!["a"];
    let begun = Instant::now();
    let done = server.opt_out(&["a"], &CancellationToken::new()).await;
    assert!(
        matches!(&done[..], [(_, Outcome::Failed { reason, was_broken: false })] if reason.contains("600 s"))
    );
    assert!(begun.elapsed() < ROLLOUT_LIMITS.progress_deadline + 3 * INTERVAL);
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

/// Its image can't be pulled, for example.
#[tokio::test(start_paused = true)]
async fn a_stuck_workload_that_was_opted_out_before_stops_its_namespace_only_if_pods_may_be_injected() {
    for (injected_pods, is_stopped) in [(Some(false), false), (Some(true), true), (None, true)] {
        let server = Server::new(&["stuck", "fine"], 1);
        {
            let mut state = server.state();
            (state.stuck, state.injected_pods) = (vec!["stuck"], injected_pods);
            let object = &mut state.objects[0];
            object["metadata"]["annotations"] = json!({"adieu.dev/graceful": "false"});
            object["spec"]["template"] = json!({"spec": {"containers": [{"name": "web", "image": "none"}]}});
            object["status"]["availableReplicas"] = json!(0);
        }
        let object = serde_json::from_value(server.object("stuck")).unwrap();
        let action = resume::action_if_opted_out(Kind::Deployment, &object).unwrap();
        let targets = vec![Target::new(Kind::Deployment, &object, action), target("fine")];
        let warnings = Mutex::new(vec![]);
        let report = |_: &Target, step: &Step<'_>| {
            if let Step::Warns(warning) = step {
                warnings.lock().unwrap().push((*warning).to_owned());
            }
        };
        let limits = RolloutLimits { max_concurrent: 1, ..ROLLOUT_LIMITS };
        let done = opt_out(&server.client(), targets, limits, &CancellationToken::new(), report).await;
        let outcomes: Vec<_> = done.into_iter().map(|(_, outcome)| outcome).collect();
        if is_stopped {
            assert!(matches!(&outcomes[..], [Outcome::Failed { was_broken: false, .. }]), "{outcomes:?}");
        } else {
            let reason = "its rollout made no progress for 600 s".into();
            assert_eq!(outcomes, [Outcome::UnrelatedFailure { reason }, Outcome::Restored]);
        }
        let warnings = warnings.into_inner().unwrap();
        assert_eq!(warnings.iter().any(|warning| warning.contains("forbidden")), injected_pods.is_none());
    }
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
    for manager in ["kubectl-client-side-apply", "helm", "argocd-controller"] {
        assert!(
            reapply_warning(&by(manager, "true", "Update")).is_some_and(|warning| warning.contains(manager))
        );
    }
    assert_eq!(reapply_warning(&by("kubectl-annotate", "true", "Update")), None);
    let warning = reapply_warning(&object("true", "Apply")).unwrap();
    assert!(warning.contains("argocd-controller") && warning.contains("change it there"), "{warning}");
    assert_eq!(reapply_warning(&object("false", "Apply")), None);
}
