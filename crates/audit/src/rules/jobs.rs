//! Jobs.

use serde_json::Value;

use crate::{
    Finding, Rule, Severity, container::Container, pod::DEFAULT_GRACE_PERIOD_SECONDS, subject::Subject,
};

/// An evicted pod counts as a failure, unless a pod failure policy ignores disruptions; with a `backoffLimit` of 0 it
/// fails the Job.
pub(super) fn job_without_grace(subject: &Subject<'_>) -> Option<Finding> {
    // A CronJob repeats what failed.
    let spec = Some(&subject.workload.object["spec"]).filter(|_| subject.is("Job"))?;
    let rules = spec["podFailurePolicy"]["rules"].as_array().into_iter().flatten();
    let ignores_disruption = |rule: &Value| {
        let conditions = rule["onPodConditions"].as_array().into_iter().flatten();
        rule["action"] == "Ignore"
            && conditions.into_iter().any(|condition| condition["type"] == "DisruptionTarget")
    };
    if spec["backoffLimit"] != 0 || rules.into_iter().any(ignores_disruption) {
        return None;
    }
    let grace = subject.pod.spec["terminationGracePeriodSeconds"].as_i64();
    // A command that only waits ignores SIGTERM, and completes.
    let completes = |container: &Container<'_>| {
        container.waiting_seconds().is_some_and(|seconds| seconds < DEFAULT_GRACE_PERIOD_SECONDS)
    };
    let containers = &subject.pod.containers;
    if grace.is_some() || !containers.is_empty() && containers.iter().all(completes) {
        return None;
    }
    let found = subject.finding(Rule::JobWithoutGrace, Severity::Warning, "spec.backoffLimit");
    Some(found.says(
        "a node drain fails this Job: its pod has 30 s to end, and backoffLimit is 0, so it is not started again",
        "add a podFailurePolicy that ignores DisruptionTarget, raise backoffLimit, or set terminationGracePeriodSeconds to the \
         time that one run takes",
    ))
}
