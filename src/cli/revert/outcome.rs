//! The outcomes for workloads, as text and JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    skip::SkipReason,
    target::{Action, Target},
};
use crate::cli::manifests::escaped;

/// The outcome for a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub(super) enum Outcome {
    /// It is opted out, and its rollout is complete.
    Restored,
    /// It is opted out; its pod template had no injection.
    Annotated,
    /// It is opted out; its rollout was in progress when the command was stopped.
    RollsOut,
    /// It is unchanged: the command was stopped before it was written.
    NotStarted,
    /// It was deleted meanwhile.
    Deleted,
    /// It was opted in again, or created, meanwhile.
    OptedInAgain,
    /// It is skipped, and keeps its injection.
    Skipped { reason: SkipReason },
    /// The API server rejected the write.
    Rejected { reason: String },
    /// It is opted out, and its rollout failed.
    #[serde(rename = "rolloutFailed", rename_all = "camelCase")]
    Failed {
        reason: String,
        /// Whether the workload was not available before.
        was_broken: bool,
    },
    /// It was opted out already, and none of its pods has the injection: its rollout failed for another reason.
    UnrelatedFailure { reason: String },
    /// The API server returned an error, or didn't answer.
    Unknown {
        reason: String,
        /// Whether it didn't answer.
        unreachable: bool,
    },
}

/// What is stopped: no other workload of it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Namespace,
    Everything,
}

impl Outcome {
    /// What it stops. A namespace with a broken workload or a full quota stops no other.
    pub(super) fn stops(&self) -> Option<Stop> {
        match self {
            Self::Unknown { unreachable: true, .. } => Some(Stop::Everything),
            Self::Unknown { .. } | Self::Failed { was_broken: false, .. } => Some(Stop::Namespace),
            _ => None,
        }
    }

    /// Whether the user has to fix something before the next run.
    fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::Rejected { .. } | Self::Failed { .. } | Self::Unknown { .. } | Self::OptedInAgain
        )
    }

    /// Whether nothing is left to do for the workload.
    fn is_complete(&self) -> bool {
        matches!(self, Self::Restored | Self::Annotated | Self::Deleted | Self::UnrelatedFailure { .. })
    }

    /// Whether the workload is opted out or deleted.
    fn is_out(&self) -> bool {
        matches!(
            self,
            Self::Restored
                | Self::Annotated
                | Self::RollsOut
                | Self::Deleted
                | Self::Failed { .. }
                | Self::UnrelatedFailure { .. }
        )
    }
}

/// A step of opting out a workload.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// It waits for a rollout of the workload.
    Waits,
    /// Its pod template is restored.
    RollsOut,
    /// A warning.
    Warns(&'a str),
    /// The outcome.
    Done(&'a Outcome),
}

/// The text of a step.
fn sentence(step: &Step<'_>) -> String {
    match step {
        Step::Waits => "waiting for the rollout in progress".into(),
        Step::RollsOut => "opted out, rolling out".into(),
        Step::Warns(warning) => format!("warning: {warning}"),
        Step::Done(outcome) => match outcome {
            Outcome::Restored => "opted out, rollout complete".into(),
            Outcome::Annotated => {
                "opted out; its pod template has no injection. Pods that were injected when they were created keep it \
                 until they are replaced"
                    .into()
            }
            Outcome::RollsOut => "opted out; its rollout is in progress".into(),
            Outcome::NotStarted => "not opted out: interrupted".into(),
            Outcome::Deleted => "deleted meanwhile".into(),
            Outcome::OptedInAgain => {
                "opted in again meanwhile: change its annotations or policy where they are applied from, such as Git, or \
                 stop what applies them"
                    .into()
            }
            Outcome::Skipped { reason } => format!("skipped, keeps its injection: {reason}"),
            Outcome::Rejected { reason } => format!("not opted out, the API server rejected the write: {reason}"),
            Outcome::Failed { reason, was_broken: true } => {
                format!("opted out, but {reason}; it was not available before either")
            }
            Outcome::Failed { reason, .. } => format!("opted out, but {reason}"),
            Outcome::UnrelatedFailure { reason } => format!(
                "opted out already, and none of its pods has the injection; for another reason, {reason}"
            ),
            Outcome::Unknown { reason, .. } => format!("outcome unknown: {reason}"),
        },
    }
}

/// Reports steps, and the progress.
#[derive(Debug)]
pub(super) struct ProgressReporter {
    /// On standard error, if that is a terminal.
    bar: ProgressBar,
    /// Whether lines are written to standard output.
    lines: bool,
}

impl ProgressReporter {
    pub(super) fn new(targets: usize, lines: bool) -> Self {
        let bar = ProgressBar::new(u64::try_from(targets).unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan} {pos} of {len}, {elapsed:.dim}  {msg}")
        {
            bar.set_style(style);
        }
        Self { bar, lines }
    }

    pub(super) fn report(&self, target: &Target, step: &Step<'_>) {
        let text = escaped(&format!("{target}: {}", sentence(step))).into_owned();
        match step {
            Step::Done(_) => self.bar.inc(1),
            Step::Waits | Step::RollsOut => self.bar.set_message(text.clone()),
            Step::Warns(_) => {}
        }
        if self.lines {
            self.bar.suspend(|| crate::cli::print::to_stdout(text));
        }
    }
}

impl Drop for ProgressReporter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// The outcomes for all workloads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether every workload is opted out, and the rollout that reverts its injection is complete.
    pub(super) complete: bool,
    /// Whether the user stopped it.
    pub(super) interrupted: bool,
    /// The number of workloads that were not started.
    pub(super) not_started: usize,
    pub(super) workloads: Vec<WorkloadOutcome>,
}

/// The outcome for one workload.
#[derive(Debug, Serialize)]
pub(super) struct WorkloadOutcome {
    kind: &'static str,
    namespace: String,
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report {
    pub(super) fn new(targets: usize, done: Vec<(Target, Outcome)>, interrupted: bool) -> Self {
        let started = done.iter().filter(|(_, outcome)| *outcome != Outcome::NotStarted).count();
        Self {
            complete: started == targets && done.iter().all(|(_, outcome)| outcome.is_complete()),
            interrupted,
            not_started: targets - started,
            workloads: done
                .into_iter()
                .map(|(target, outcome)| WorkloadOutcome {
                    kind: target.kind.as_str(),
                    namespace: target.namespace,
                    name: target.name,
                    outcome,
                })
                .collect(),
        }
    }

    /// A summary, the next step, and the failures.
    pub(super) fn summary(&self) -> String {
        let count =
            |is: fn(&Outcome) -> bool| self.workloads.iter().filter(|workload| is(&workload.outcome)).count();
        let all = self.workloads.iter().filter(|workload| workload.outcome != Outcome::NotStarted).count()
            + self.not_started;
        let mut text = format!("{} of {} opted out", count(Outcome::is_out), workloads(all));
        for (number, what) in [
            (count(|outcome| matches!(outcome, Outcome::RollsOut)), "still rolling out"),
            (count(|outcome| matches!(outcome, Outcome::Failed { .. })), "with a failed rollout"),
            (
                count(|outcome| matches!(outcome, Outcome::UnrelatedFailure { .. })),
                "with a rollout that failed for another reason",
            ),
            (count(|outcome| matches!(outcome, Outcome::Rejected { .. })), "rejected"),
            (count(|outcome| matches!(outcome, Outcome::OptedInAgain)), "opted in again"),
            (count(|outcome| matches!(outcome, Outcome::Unknown { .. })), "with an unknown outcome"),
            (self.not_started, "not started"),
        ] {
            if number > 0 {
                // Writing to a String can't fail.
                let _ = write!(text, ", {number} {what}");
            }
        }
        text += &self.skipped();
        let failed = count(Outcome::is_failure) > 0;
        if self.interrupted && !self.complete {
            text += ". Run the same command again to resume";
        } else if failed || self.not_started > 0 {
            text += ". Fix what failed (kubectl describe shows the workload's events), and run the same command again \
                     to resume";
        } else if !self.complete {
            text += ". Follow the reason given for each skipped workload, and run the same command again";
        }
        if all > 1 {
            text.extend(self.failures().map(|failure| format!("\n  {failure}")));
        }
        text
    }

    /// A line for each workload that failed, with the reason.
    fn failures(&self) -> impl Iterator<Item = String> {
        let failed = self.workloads.iter().filter(|workload| workload.outcome.is_failure());
        failed.map(|WorkloadOutcome { kind, namespace, name, outcome }| {
            let text = format!("{kind} {namespace}/{name}: {}", sentence(&Step::Done(outcome)));
            escaped(&text).into_owned()
        })
    }

    /// How many workloads keep their injection, and why.
    fn skipped(&self) -> String {
        let reasons = self.workloads.iter().filter_map(|workload| match &workload.outcome {
            Outcome::Skipped { reason } => Some(reason.summary()),
            _ => None,
        });
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in reasons {
            *counts.entry(reason).or_default() += 1;
        }
        let number: usize = counts.values().sum();
        if number == 0 {
            return String::new();
        }
        let each: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let verb = if number == 1 { "keeps its" } else { "keep their" };
        format!(", {number} {verb} injection ({})", each.join(", "))
    }
}

/// `1 workload`, `2 workloads`.
pub(super) fn workloads(count: usize) -> String {
    format!("{count} workload{}", if count == 1 { "" } else { "s" })
}

/// The plan for a target.
pub(super) fn describe_plan(target: &Target) -> String {
    let what = match &target.action {
        Action::Wait => "is already opted out; would wait for its rollout".into(),
        Action::Restore => "would be opted out, with a rollout".into(),
        Action::Annotate => "would be opted out, without a rollout".into(),
        Action::Skip(reason) => format!("would be skipped, and keep its injection: {reason}"),
    };
    format!("{target}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;

    fn done(name: &str, outcome: Outcome) -> (Target, Outcome) {
        let object = serde_json::json!({"metadata": {"name": name, "namespace": "shop"}});
        let object = serde_json::from_value(object).unwrap();
        (Target::new(Kind::Deployment, &object, Action::Restore), outcome)
    }

    #[test]
    fn the_summary_names_each_failure() {
        let failed =
            |was_broken| Outcome::Failed { reason: "its rollout made no progress".into(), was_broken };
        let rejected = Outcome::Rejected { reason: "not today".into() };
        let unknown = Outcome::Unknown { reason: "etcd has no leader".into(), unreachable: false };
        let outcomes = vec![
            done("restored", Outcome::Restored),
            done("failed", failed(false)),
            done("broken", failed(true)),
            done("rejected", rejected.clone()),
            done("unknown", unknown),
        ];
        let report = Report::new(7, outcomes, false);
        let summary = report.summary();
        let lines: Vec<_> = summary.lines().collect();
        let counts = "3 of 7 workloads opted out, 2 with a failed rollout, 1 rejected, 1 with an unknown outcome, 2 not \
                      started. Fix what failed";
        assert!(lines[0].starts_with(counts), "{summary}");
        assert_eq!(
            lines[1..],
            [
                "  Deployment shop/failed: opted out, but its rollout made no progress",
                "  Deployment shop/broken: opted out, but its rollout made no progress; it was not available before either",
                "  Deployment shop/rejected: not opted out, the API server rejected the write: not today",
                "  Deployment shop/unknown: outcome unknown: etcd has no leader",
            ]
        );
        let single = Report::new(1, vec![done("rejected", rejected)], false).summary();
        assert_eq!(single.lines().count(), 1, "it was reported already: {single}");
    }

    #[test]
    fn an_unrelated_failure_is_counted_in_a_complete_report() {
        let unrelated = Outcome::UnrelatedFailure { reason: "its rollout made no progress".into() };
        let outcomes = vec![done("restored", Outcome::Restored), done("stuck", unrelated)];
        let report = Report::new(2, outcomes, false);
        assert!(report.complete);
        let summary = "2 of 2 workloads opted out, 1 with a rollout that failed for another reason";
        assert_eq!(report.summary(), summary);
        assert_eq!(serde_json::to_value(&report.workloads[1]).unwrap()["outcome"], "unrelatedFailure");
    }
}
