//! The shutdown timeout that a policy has to set for a workload.

use super::wanted::WantedTime;
use crate::{
    api::{Recommendation, TerminationProfileStatus, annotations::SHUTDOWN_TIMEOUT_SECONDS, limits},
    plan::{Setting, Source},
    text::counted,
};

/// Timeouts are rounded up to one of these, so that fewer policies are needed.
const STEPS: [i64; 12] = [5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300];
/// Longer ones are rounded up to a multiple of this.
const LONG_STEP: i64 = 300;

/// The timeout that a policy sets now; `None` if an annotation does, of a user or with a recommendation.
pub(super) fn present(setting: &Setting<i64>) -> Option<i64> {
    let is_fixed = setting.from.is_annotation() || matches!(setting.from, Source::Recommendation(_));
    (!is_fixed).then_some(setting.value)
}

/// The timeout that the terminations need. Without a recommendation it is the present one.
pub(super) fn wanted(setting: &Setting<i64>, profile: Option<&TerminationProfileStatus>) -> WantedTime {
    let Setting { value, from } = setting;
    let recommended = profile.and_then(recommended).map(|seconds| {
        let rounded = rounded_up(seconds);
        // A shorter time isn't rounded up to a longer one.
        if seconds < *value { rounded.min(*value) } else { rounded }
    });
    let observed = profile.map_or_else(|| "no termination was observed, so it is kept".to_owned(), observed);
    if present(setting).is_none() {
        let short = recommended.filter(|seconds| seconds > value && from.is_annotation());
        let note = short.map(|seconds| {
            format!(
                "annotation {SHUTDOWN_TIMEOUT_SECONDS}: {value} s are too short ({observed}): set it to \"{seconds}\""
            )
        });
        let evidence = format!("shutdown timeout {value} s: {from}; {observed}");
        return WantedTime { seconds: None, evidence, note };
    }
    let seconds = recommended.unwrap_or(*value);
    // The same whether it was applied already or not.
    let evidence = format!("shutdown timeout {seconds} s: {observed}");
    WantedTime { seconds: Some(seconds), evidence, note: None }
}

/// The recommended shutdown timeout of a profile, in seconds.
fn recommended(profile: &TerminationProfileStatus) -> Option<i64> {
    let Recommendation { field, recommended_seconds, .. } = profile.recommendation.as_ref()?;
    // Otherwise it is a grace period, which the preStop hook counts against.
    let is_timeout = field == Recommendation::SHUTDOWN_TIMEOUT;
    let hook = profile.requested.filter(|_| !is_timeout).map_or(0, |times| times.pre_stop_seconds);
    Some((recommended_seconds - hook).max(1))
}

fn rounded_up(seconds: i64) -> i64 {
    let long = (seconds + LONG_STEP - 1) / LONG_STEP * LONG_STEP;
    let rounded = STEPS.into_iter().find(|step| *step >= seconds).unwrap_or(long);
    rounded.min(limits::SHUTDOWN_TIMEOUT_SECONDS)
}

/// How the pods terminated.
fn observed(profile: &TerminationProfileStatus) -> String {
    let outcomes = profile.current_outcomes;
    let terminations = counted(usize::try_from(outcomes.sum()).unwrap_or_default(), "termination");
    let times = profile.shutdown_seconds.map_or_else(
        || format!("{terminations} observed"),
        |quantiles| format!("p99 of {terminations} is {} s", quantiles.p99),
    );
    let problem = profile.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default();
    format!("{times}, {} killed{problem}", outcomes.killed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn profile(recommendation: &Value) -> TerminationProfileStatus {
        let mut profile = TerminationProfileStatus::default();
        profile.current_outcomes.completed = 213;
        profile.current_outcomes.killed = 1;
        profile.recommendation = serde_json::from_value(recommendation.clone()).unwrap();
        let times = json!({"gracePeriodSeconds": 30, "preStopSeconds": 5, "shutdownTimeoutSeconds": null});
        profile.requested = Some(serde_json::from_value(times).unwrap());
        let quantiles = json!({"p50": 1, "p90": 2, "p99": 9, "max": 11});
        profile.shutdown_seconds = Some(serde_json::from_value(quantiles).unwrap());
        profile
    }

    fn recommendation(field: &str, seconds: i64) -> Value {
        json!({
            "summary": "", "field": field, "currentSeconds": 30, "recommendedSeconds": seconds, "confidence": "High",
        })
    }

    #[test]
    fn a_recommended_timeout_is_rounded_up_and_otherwise_it_is_kept() {
        let timeout = |seconds| recommendation("shutdownTimeoutSeconds", seconds);
        let grace_period = |seconds| recommendation("terminationGracePeriodSeconds", seconds);
        for (present, recommendation, expected) in [
            (30, timeout(12), 15),
            (30, timeout(55), 60),
            (30, timeout(1), 5),
            (30, timeout(400), 600),
            (30, timeout(86_400), 86_400),
            // Not to a longer time than the present one.
            (22, timeout(21), 22),
            (3, timeout(2), 3),
            // Its preStop hook takes 5 s.
            (30, grace_period(15), 10),
            (30, grace_period(4), 5),
            (42, Value::Null, 42),
        ] {
            let setting = Setting { value: present, from: Source::Default };
            let wanted = wanted(&setting, Some(&profile(&recommendation)));
            assert_eq!((wanted.seconds, wanted.note), (Some(expected), None), "{recommendation}");
            let evidence = format!("shutdown timeout {expected} s: p99 of 214 terminations is 9 s, 1 killed");
            assert_eq!(wanted.evidence, evidence);
        }
        let setting = Setting { value: 30, from: Source::Default };
        let evidence = "shutdown timeout 30 s: no termination was observed, so it is kept";
        assert_eq!(wanted(&setting, None).evidence, evidence);
    }

    #[test]
    fn an_annotation_is_kept_and_reported_if_it_is_too_short() {
        let profile = profile(&recommendation("shutdownTimeoutSeconds", 55));
        for (value, from, note) in [
            (30, Source::WorkloadAnnotation, true),
            (90, Source::WorkloadAnnotation, false),
            (30, Source::Recommendation(Box::new(Source::Policy("p".into()))), false),
        ] {
            let wanted = wanted(&Setting { value, from }, Some(&profile));
            assert_eq!((wanted.seconds, wanted.note.is_some()), (None, note), "{value}");
        }
    }
}
