use serde_json::json;

use super::*;
use crate::{
    cli::changed_values::tests::{change, sleep},
    plan::{BeforeAfter, GRACE_PERIOD_FIELD, Kind, PRE_STOP_FIELD},
};

fn unchanged(state: ManagementState) -> ComparedWorkload {
    ComparedWorkload {
        kind: Kind::Deployment,
        namespace: "shop".into(),
        name: "web".into(),
        exists: true,
        is_on_delete: false,
        diff: InjectionDiff { containers: 2, ..InjectionDiff::unchanged(state, None) },
    }
}

/// A workload of which drain and grace period change from and to these, in seconds.
fn changed(before: Option<i64>, after: Option<i64>) -> ComparedWorkload {
    let mut workload = unchanged(ManagementState::Injected);
    let hook = |drain: Option<i64>| drain.map(sleep).unwrap_or_default();
    let grace = |drain: Option<i64>| json!(drain.map_or(30, |drain| drain + 35));
    workload.diff.changes = vec![
        change(PRE_STOP_FIELD, Some("web"), hook(before), hook(after)),
        change(PRE_STOP_FIELD, Some("log"), hook(before), hook(after)),
        change(GRACE_PERIOD_FIELD, None, grace(before), grace(after)),
    ];
    workload.diff.injected = BeforeAfter { before: before.is_some(), after: after.is_some() };
    workload.diff.opted_in = workload.diff.injected;
    workload.diff.rollout = Some(RolloutTiming::Immediate);
    workload
}

#[track_caller]
fn assert_line(workload: &ComparedWorkload, expected: &str) {
    assert_eq!(line(workload), format!("Deployment shop/web: {expected}\n"));
}

#[test]
fn changed_values_are_shown_with_those_before() {
    let mut workload = changed(Some(10), Some(20));
    assert_line(&workload, "drain 10 s → 20 s, grace period 45 s → 55 s; pods will be replaced");
    workload.is_on_delete = true;
    assert_line(&workload, "drain 10 s → 20 s, grace period 45 s → 55 s; pods get it once you delete them");
    workload.diff.rollout = Some(RolloutTiming::Queued);
    workload.diff.changes.remove(1);
    let slot = "pods will be replaced once a rollout slot is free";
    assert_line(&workload, &format!("drain 10 s → 20 s (web), grace period 45 s → 55 s; {slot}"));
    workload.diff.rollout = Some(RolloutTiming::NextUpdate);
    workload.diff.changes.truncate(1);
    assert_line(&workload, "drain 10 s → 20 s (web); with the next change of the pod template");
    workload.diff.rollout = None;
    workload.diff.state = ManagementState::PodInjection;
    assert_line(&workload, "drain 10 s → 20 s (web); new pods only");
}

#[test]
fn first_injections_and_opt_outs_are_sentences() {
    let mut workload = changed(None, Some(10));
    assert_line(&workload, "will be injected with drain 10 s, grace period 45 s; pods will be replaced");
    workload.exists = false;
    workload.diff.rollout = None;
    let injected = "not in the cluster yet: will be injected with drain 10 s, grace period 45 s";
    assert_line(&workload, injected);
    workload.diff.rollout = Some(RolloutTiming::Queued);
    assert_line(&workload, &format!("{injected}; once a rollout slot is free"));

    let mut reverted = changed(Some(10), None);
    let values = "drain 10 s → none, grace period 45 s → 30 s";
    assert_line(&reverted, &format!("the injection will be reverted: {values}; pods will be replaced"));
    reverted.diff.reason = Some("why".into());
    assert_line(&reverted, &format!("the injection will be reverted: {values}; why; pods will be replaced"));
}

#[test]
fn without_a_change_the_reason_is_shown() {
    assert_line(&unchanged(ManagementState::Injected), "no change");
    assert_line(&unchanged(ManagementState::NotManaged), "no change: not opted in");
    assert_line(&unchanged(ManagementState::OptedOut), "no change: opted out");
    assert_line(
        &unchanged(ManagementState::Queued),
        "no change: an earlier change is still to be rolled out",
    );
    let mut workload = unchanged(ManagementState::Injected);
    workload.diff.rollout = Some(RolloutTiming::Immediate);
    assert_line(&workload, "no change; pods will be replaced because of other changes");
    workload.diff.rollout = None;
    workload.diff.reason = Some("a reason\u{1b}[2J".into());
    assert_line(&workload, "no change: a reason\\u{1b}[2J");
    workload.diff.opted_in.after = true;
    workload.exists = false;
    assert_line(&workload, "not in the cluster yet: opted in: a reason\\u{1b}[2J");
    let mut new = unchanged(ManagementState::NotManaged);
    new.exists = false;
    assert_line(&new, "not in the cluster yet: nothing will be injected: not opted in");
}
