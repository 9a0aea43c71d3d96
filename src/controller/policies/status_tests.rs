use std::sync::Arc;

use kube::Resource as _;
use serde_json::{Value, json};

use super::*;
use crate::{
    api::{
        ClusterGracefulPolicy, GracefulPolicy, Mode, Rollout, RolloutFailureReason, RolloutMode,
        WorkloadCounts, check_status,
    },
    controller::{
        backoff::{Backoff, BlockReason},
        policies::{builder::Blockers, newly_true},
    },
    index::{EvaluatedWorkload, cached_workload::CachedWorkload},
    keys::{PolicyKeys, WorkloadKey as Key},
    plan::{self, Kind, NamespaceContext, Workload},
    scheduler::{FailedRollout, PolicyFailures},
};

fn policy(spec: Value) -> GracefulPolicy {
    serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "GracefulPolicy",
        "metadata": {"name": "all", "namespace": "shop", "generation": 3}, "spec": spec,
    }))
    .unwrap()
}

fn deployment(
    name: &str,
    namespace_context: &Arc<NamespaceContext>,
) -> (Kind, Arc<CachedWorkload>, Arc<NamespaceContext>) {
    let object = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "web"}]}}},
    });
    (Kind::Deployment, Arc::new(serde_json::from_value(object).unwrap()), namespace_context.clone())
}

/// Workloads, with the contexts of their namespaces.
type Candidates = Vec<(Kind, Arc<CachedWorkload>, Arc<NamespaceContext>)>;

fn builder<P: Policy>(policy: &P, candidates: &Candidates, blockers: &Blockers<'_>) -> StatusBuilder {
    let evaluated = candidates.iter().filter_map(|(kind, cached, context)| {
        let evaluation = EvaluatedWorkload::of(*kind, cached, context, &PolicyKeys::default())?;
        Some((Key::new(*kind, cached.meta()), Arc::new(evaluation)))
    });
    StatusBuilder::of(&policy.key(), &evaluated.collect::<Vec<_>>(), blockers)
}

/// With these failed rollouts, which stop the policy.
fn failed_in(mut built: StatusBuilder, namespace: &str, names: &[impl AsRef<str>]) -> StatusBuilder {
    let failure = |name: &str| FailedRollout {
        workload: Key { namespace: namespace.into(), kind: Kind::Deployment, name: name.into() },
        uid: Some("u".repeat(36)),
        generation: Some(3),
        desired_template: Some(1),
        template: Some(2),
        reason: RolloutFailureReason::ProgressDeadlineExceeded,
        time: at(1),
    };
    let current = names.iter().map(|name| failure(name.as_ref())).collect();
    built.set_failures(PolicyFailures { current, superseded: vec![], limit: 1, is_limit_reached: true });
    built
}

fn status<P: Policy>(policy: &P, candidates: &Candidates, now: Timestamp) -> GracefulPolicyStatus {
    let blockers = Blockers { is_stopped: &|_, _| false, backoff: &Backoff::default() };
    super::status(policy, builder(policy, candidates, &blockers), effective(policy), now)
}

fn effective<P: Policy>(policy: &P) -> EffectiveValues {
    plan::effective(policy.spec(), &NamespaceContext::default())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn the_status_counts_workloads_and_is_not_rewritten_unchanged() {
    let mut policy = policy(json!({"selector": {"matchLabels": {"app": "a"}}, "drainSeconds": 20}));
    let namespace_context = Arc::new(NamespaceContext {
        policies: vec![Arc::new(policy.clone())],
        ..NamespaceContext::default()
    });
    let mut workloads: Candidates =
        vec![deployment("a", &namespace_context), deployment("b", &namespace_context)];
    let pending = status(&policy, &workloads, at(1));
    assert_eq!(
        pending.workloads,
        Some(WorkloadCounts { matched: 1, pending: 1, ..WorkloadCounts::default() })
    );
    assert_eq!(pending.effective.as_ref().unwrap().grace_period_seconds, 55);
    let condition = &pending.conditions[0];
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "Progressing"));
    assert_eq!(condition.observed_generation, Some(3));

    let mut object = workloads[0].1.object();
    let template =
        plan::evaluate(&Workload::of(Kind::Deployment, &object), &namespace_context).template.unwrap();
    object.data["spec"]["template"] = template;
    workloads[0].1 = Arc::new(object.into());
    policy.status = Some(pending);
    let done = status(&policy, &workloads, at(2));
    assert_eq!(done.workloads, Some(WorkloadCounts { matched: 1, injected: 1, ..WorkloadCounts::default() }));
    assert_eq!(done.conditions[0].status, "True");
    policy.status = Some(done.clone());
    assert_eq!(status(&policy, &workloads, at(3)), done, "nothing to write");
}

#[test]
fn a_policy_that_inherits_the_mode_audit_counts_workloads_that_would_change() {
    let policy = policy(json!({"selector": {}}));
    let audit: ClusterGracefulPolicy = serde_json::from_value(json!({
        "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
        "metadata": {"name": "audit"}, "spec": {"mode": "Audit"},
    }))
    .unwrap();
    let context = Arc::new(NamespaceContext {
        policies: vec![Arc::new(policy.clone())],
        cluster_policies: vec![Arc::new(audit)],
        ..NamespaceContext::default()
    });
    let blockers = Blockers { is_stopped: &|_, _| false, backoff: &Backoff::default() };
    let built = builder(&policy, &vec![deployment("a", &context)], &blockers);
    let status = super::status(&policy, built, plan::effective(&policy.spec, &context), at(1));
    assert_eq!(status.effective.unwrap().mode, Mode::Audit);
    let ready = &status.conditions[0];
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("True", "Auditing"));
    assert_eq!(ready.message, "1 of 1 workloads would be changed");
}

#[test]
fn a_policy_that_loses_a_workload_is_conflicted() {
    let mut loser = policy(json!({"selector": {}}));
    loser.metadata.name = Some("loser".into());
    let winner = policy(json!({"selector": {}, "priority": 1}));
    let policies = vec![Arc::new(loser.clone()), Arc::new(winner.clone())];
    let namespace_context = Arc::new(NamespaceContext { policies, ..NamespaceContext::default() });
    let workloads: Candidates = vec![deployment("a", &namespace_context)];
    let (_, status, message) = conflicted(&loser, &workloads);
    assert_eq!(status, "True");
    assert!(message.contains("1 workload, for example a"), "{message}");
    assert_eq!(conflicted(&winner, &workloads), ("Conflicted".into(), "False".into(), String::new()));
}

fn conflicted<P: Policy>(policy: &P, workloads: &Candidates) -> (String, String, String) {
    let condition = status(policy, workloads, at(1)).conditions.remove(1);
    (condition.type_, condition.status, condition.message)
}

#[test]
fn a_cluster_policy_whose_defaults_are_not_used_is_conflicted() {
    let defaults = |name: &str, priority: i32| -> ClusterGracefulPolicy {
        serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
            "metadata": {"name": name}, "spec": {"drainSeconds": 20, "priority": priority},
        }))
        .unwrap()
    };
    let (loser, winner) = (defaults("loser", 0), defaults("winner", 1));
    let cluster_policies = vec![Arc::new(loser.clone()), Arc::new(winner.clone())];
    let policies = vec![Arc::new(policy(json!({"selector": {"matchLabels": {"app": "a"}}})))];
    let namespace_context =
        Arc::new(NamespaceContext { policies, cluster_policies, ..NamespaceContext::default() });
    let workloads: Candidates =
        vec![deployment("a", &namespace_context), deployment("b", &namespace_context)];
    let (_, is_conflicted, message) = conflicted(&loser, &workloads);
    assert_eq!(is_conflicted, "True");
    assert!(message.contains("1 workload, for example shop/a"), "{message}");
    assert_eq!(conflicted(&winner, &workloads).1, "False");
    let of_loser = status(&loser, &workloads, at(1)).workloads;
    assert_eq!(of_loser, Some(WorkloadCounts::default()), "none has its values");
}

#[test]
fn a_message_of_any_length_fits_into_the_status() {
    let mut policy = policy(json!({"selector": {}}));
    let namespace_context = Arc::new(NamespaceContext {
        policies: vec![Arc::new(policy.clone())],
        ..NamespaceContext::default()
    });
    let workloads: Candidates = vec![deployment("a", &namespace_context)];
    let backoff = Backoff::default();
    let key = Key::of(Kind::Deployment, &workloads[0].1.object());
    backoff.block(key, BlockReason::WriteRejected, "é".repeat(10_000));
    let failed: Vec<_> = (100..200).map(|n| format!("{}-{n}", "a".repeat(249))).collect();
    let blockers = Blockers { is_stopped: &|_, _| true, backoff: &backoff };
    let others = (b'a'..=b'z').map(|letter| Condition {
        type_: char::from(letter).to_string(),
        status: "True".into(),
        reason: "Other".into(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(at(0)),
    });
    policy.status = Some(GracefulPolicyStatus { conditions: others.collect(), ..Default::default() });
    let built = failed_in(builder(&policy, &workloads, &blockers), "shop", &failed);
    let status = super::status(&policy, built, effective(&policy), at(1));
    assert_eq!(status.workloads.unwrap().rollout_failed, 100);
    // Written also if it is empty: a merge patch keeps what it doesn't name.
    let none = serde_json::to_value(GracefulPolicyStatus::default()).unwrap();
    assert_eq!(none["failedRollouts"], json!([]));
    assert_eq!(status.failed_rollouts.len(), limits::FAILED_ROLLOUTS);
    let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_.as_str()).collect();
    let ours = ["Ready", "Conflicted", "Stalled", "Blocked", "DrainTooShort"];
    assert_eq!(types[types.len() - ours.len()..], ours);
    let [.., stalled, blocked, _] = &status.conditions[..] else { panic!("{status:?}") };
    assert!(failed.iter().take(10).all(|name| stalled.message.contains(name)), "{stalled:?}");
    assert!(blocked.message.ends_with('…') && blocked.message.contains("for example a: é"), "{blocked:?}");
    policy.status = Some(status);
    assert_eq!(check_status(&serde_json::to_value(&policy).unwrap()), []);
}

#[test]
fn failed_rollouts_and_rejected_writes_are_conditions() {
    let mut policy = policy(json!({"selector": {}}));
    let namespace_context = Arc::new(NamespaceContext {
        policies: vec![Arc::new(policy.clone())],
        ..NamespaceContext::default()
    });
    let workloads: Candidates = vec![deployment("a", &namespace_context)];
    let backoff = Backoff::default();
    let key = Key::of(Kind::Deployment, &workloads[0].1.object());
    backoff.block(key, BlockReason::WriteRejected, "denied".into());
    let blockers = Blockers { is_stopped: &|_, _| true, backoff: &backoff };
    let failed = |built| failed_in(built, "shop", &["b"]);
    let status =
        super::status(&policy, failed(builder(&policy, &workloads, &blockers)), effective(&policy), at(1));
    let condition = |type_: &str| {
        let found = status.conditions.iter().find(|condition| condition.type_ == type_).unwrap();
        (found.status.as_str(), found.reason.as_str(), found.message.as_str())
    };
    assert_eq!((condition("Ready").0, condition("Ready").1), ("False", "Stalled"));
    assert!(condition("Stalled").0 == "True" && condition("Stalled").2.contains("rollout of b failed"));
    assert!(condition("Blocked").0 == "True" && condition("Blocked").2.contains("for example a: denied"));
    assert!(newly_true(None, &status, "Stalled").is_some());
    policy.status = Some(status.clone());
    assert!(newly_true(policy.status.as_ref(), &status, "Stalled").is_none(), "it was true before");

    // Also if no workload waits.
    let status =
        super::status(&policy, failed(builder(&policy, &vec![], &blockers)), effective(&policy), at(2));
    let [ready, _, stalled, ..] = &status.conditions[..] else { panic!("{status:?}") };
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "Stalled"));
    assert_eq!(stalled.message, "the rollout of b failed: fix it, or change the policy");
}

#[test]
fn a_blocked_policy_has_the_reason_of_the_workload_that_it_names() {
    let policy = policy(json!({"selector": {}}));
    let policies = vec![Arc::new(policy.clone())];
    let context = Arc::new(NamespaceContext { policies, ..NamespaceContext::default() });
    let workloads: Candidates = vec![deployment("a", &context), deployment("b", &context)];
    let blocked = |reasons: &[BlockReason]| {
        let backoff = Backoff::default();
        for ((_, cached, _), reason) in workloads.iter().zip(reasons) {
            backoff.block(Key::of(Kind::Deployment, &cached.object()), *reason, "why".into());
        }
        let blockers = Blockers { is_stopped: &|_, _| false, backoff: &backoff };
        let built = builder(&policy, &workloads, &blockers);
        let conditions = super::status(&policy, built, effective(&policy), at(1)).conditions;
        conditions.into_iter().find(|condition| condition.type_ == "Blocked").unwrap()
    };
    for (reason, expected) in [
        (BlockReason::WriteRejected, "WriteRejected"),
        (BlockReason::InjectionReverted, "InjectionReverted"),
        (BlockReason::WriteConflict, "WriteConflict"),
    ] {
        let condition = blocked(&[reason, BlockReason::WriteRejected]);
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", expected));
        assert_eq!(condition.message, "2 workloads cannot be written, for example a: why");
    }
    assert_eq!(blocked(&[]).reason, "NotBlocked");
}

#[test]
fn the_status_names_the_stalled_policy_that_workloads_wait_for() {
    let mut own = policy(json!({"selector": {}}));
    let defaults = |drain: i64| -> ClusterGracefulPolicy {
        serde_json::from_value(json!({
            "apiVersion": "adieu.dev/v1alpha1", "kind": "ClusterGracefulPolicy",
            "metadata": {"name": "defaults"}, "spec": {"drainSeconds": drain},
        }))
        .unwrap()
    };
    let context = |drain, own: &GracefulPolicy| {
        let cluster_policies = vec![Arc::new(defaults(drain))];
        let policies = vec![Arc::new(own.clone())];
        Arc::new(NamespaceContext { policies, cluster_policies, ..NamespaceContext::default() })
    };
    let (before, now) = (context(20, &own), context(30, &own));
    let (kind, cached, _) = deployment("a", &before);
    let mut object = cached.object();
    object.data["spec"]["template"] = plan::evaluate(&Workload::of(kind, &object), &before).template.unwrap();
    let workloads: Candidates = vec![(kind, Arc::new(object.into()), now.clone())];
    let stopped = defaults(30).key();
    let blockers = Blockers { is_stopped: &|policy, _| *policy == stopped, backoff: &Backoff::default() };
    let conditions = |policy: &GracefulPolicy, workloads| {
        let [ready, _, stalled, ..] =
            &super::status(policy, builder(policy, workloads, &blockers), effective(policy), at(1))
                .conditions[..]
        else {
            panic!()
        };
        (ready.message.clone(), stalled.status.clone())
    };
    let waits =
        "0 of 1 workloads have the policy's values, 1 waits for cluster policy defaults, which is stalled";
    assert_eq!(conditions(&own, &workloads), (waits.into(), "False".into()));
    let cluster_policy = |is_limit_reached| {
        let mut built = failed_in(builder(&defaults(30), &workloads, &blockers), "other", &["b", "c"]);
        built.failures.is_limit_reached = is_limit_reached;
        super::status(&defaults(30), built, effective(&defaults(30)), at(1)).conditions[2].message.clone()
    };
    assert_eq!(
        cluster_policy(true),
        "the rollouts of other/b, other/c failed, and 1 workload waits: fix them, or change the policy"
    );
    assert_eq!(
        cluster_policy(false),
        "the rollouts of other/b, other/c failed, and no further rollout starts in other: fix them, or change the \
         policy"
    );

    // So are workloads that wait for their next update.
    own.spec.rollout = Some(Rollout { mode: Some(RolloutMode::NextUpdate), ..Rollout::default() });
    let workloads: Candidates = vec![deployment("a", &context(30, &own))];
    let later =
        "0 of 1 workloads have the policy's values, 1 gets them with the next change of its pod template";
    assert_eq!(conditions(&own, &workloads), (later.into(), "False".into()));
}

#[test]
fn a_policy_that_reverts_counts_the_remaining_workloads() {
    let injecting = policy(json!({"selector": {}}));
    let reverting = policy(json!({"selector": {}, "rollout": {"mode": "Revert"}}));
    let context = |policy: &GracefulPolicy| {
        Arc::new(NamespaceContext { policies: vec![Arc::new(policy.clone())], ..NamespaceContext::default() })
    };
    let injected = |name: &str, annotations: Value| {
        let (kind, cached, before) = deployment(name, &context(&injecting));
        let mut object = cached.object();
        object.metadata.annotations = serde_json::from_value(annotations).unwrap();
        let template = plan::evaluate(&Workload::of(kind, &object), &before).template.unwrap();
        object.data["spec"]["template"] = template;
        (kind, Arc::new(object.into()), context(&reverting))
    };
    let ready = |workloads: &Candidates| {
        let status = status(&reverting, workloads, at(1));
        let ready = &status.conditions[0];
        (ready.status.clone(), ready.reason.clone(), ready.message.clone(), status.workloads.unwrap())
    };
    let graceful = injected("c", json!({"adieu.dev/graceful": "true"}));
    let mut workloads: Candidates =
        vec![injected("a", json!({})), deployment("b", &context(&reverting)), graceful];
    let (status, reason, message, counts) = ready(&workloads);
    assert_eq!((status.as_str(), reason.as_str()), ("False", "Reverting"));
    assert!(message.starts_with("1 of 2 workloads are reverted, 1 left; 1 workload keeps"), "{message}");
    assert_eq!(counts, WorkloadCounts { matched: 3, injected: 1, pending: 1, ..WorkloadCounts::default() });
    workloads[0] = deployment("a", &context(&reverting));
    let (status, reason, message, _) = ready(&workloads);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Reverted"));
    assert!(message.starts_with("2 workloads are reverted, none left"), "{message}");
}

#[test]
fn an_invalid_selector_is_reported() {
    let policy = policy(json!({"selector": {"matchExpressions": [{"key": "app", "operator": "Near"}]}}));
    let namespace_context = Arc::new(NamespaceContext {
        policies: vec![Arc::new(policy.clone())],
        ..NamespaceContext::default()
    });
    let status = status(&policy, &vec![deployment("a", &namespace_context)], at(1));
    assert_eq!(status.conditions[0].reason, "InvalidSelector");
    assert!(status.conditions[0].message.starts_with("spec.selector: "), "{status:?}");
}

#[test]
fn a_superseded_failure_does_not_stall_the_policy() {
    let policy = policy(json!({"selector": {}}));
    let blockers = Blockers { is_stopped: &|_, _| false, backoff: &Backoff::default() };
    let mut built = failed_in(builder(&policy, &vec![], &blockers), "shop", &["b"]);
    let PolicyFailures { current: superseded, limit, .. } = std::mem::take(&mut built.failures);
    built.set_failures(PolicyFailures { current: vec![], superseded, limit, is_limit_reached: false });
    let status = super::status(&policy, built, effective(&policy), at(1));
    assert_eq!((status.failed_rollouts.len(), status.workloads.unwrap().rollout_failed), (1, 1));
    let [_, _, stalled, ..] = &status.conditions[..] else { panic!("{status:?}") };
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("False", "FailuresSuperseded"));
    assert_eq!(stalled.message, "the rollout of b failed before the policy changed");
}
