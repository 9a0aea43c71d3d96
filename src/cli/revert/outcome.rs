//! The outcomes for workloads, as text and JSON.

use std::{collections::BTreeMap, fmt::Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    skip::SkipReason,
    target::{Action, Target},
};

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
    /// The API server didn't answer, or returned an error.
    Unknown { reason: String },
}

impl Outcome {
    /// Whether no other rollout starts after it.
    pub(super) fn stops(&self) -> bool {
        matches!(self, Self::Failed { was_broken: false, .. } | Self::Unknown { .. })
    }

    /// Whether the user has to fix something before the next run.
    fn is_failure(&self) -> bool {
        matches!(self, Self::Rejected { .. } | Self::Failed { .. } | Self::Unknown { .. })
    }

    /// Whether nothing is left to do for the workload.
    fn is_complete(&self) -> bool {
        matches!(self, Self::Restored | Self::Annotated | Self::Deleted)
    }

    /// Whether the workload is opted out or deleted.
    fn is_out(&self) -> bool {
        matches!(
            self,
            Self::Restored | Self::Annotated | Self::RollsOut | Self::Deleted | Self::Failed { .. }
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
            Outcome::Skipped { reason } => format!("skipped, keeps its injection: {reason}"),
            Outcome::Rejected { reason } => format!("not opted out, the API server rejected the write: {reason}"),
            Outcome::Failed { reason, was_broken: true } => {
                format!("opted out, but {reason}; it was not available before either")
            }
            Outcome::Failed { reason, .. } => format!("opted out, but {reason}"),
            Outcome::Unknown { reason } => format!("outcome unknown: {reason}"),
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
        let text = format!("{target}: {}", sentence(step));
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
    /// Whether every workload is opted out and its rollout complete.
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

    /// A summary, and the next step.
    pub(super) fn summary(&self) -> String {
        let count =
            |is: fn(&Outcome) -> bool| self.workloads.iter().filter(|workload| is(&workload.outcome)).count();
        let all = self.workloads.iter().filter(|workload| workload.outcome != Outcome::NotStarted).count()
            + self.not_started;
        let mut text = format!("{} of {} opted out", count(Outcome::is_out), workloads(all));
        for (number, what) in [
            (count(|outcome| matches!(outcome, Outcome::RollsOut)), "still rolling out"),
            (count(|outcome| matches!(outcome, Outcome::Failed { .. })), "with a failed rollout"),
            (count(|outcome| matches!(outcome, Outcome::Rejected { .. })), "rejected"),
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
        text
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
        Action::Wait => "is already opted out; its rollout would be awaited".into(),
        Action::Restore => "would be opted out, with a rollout".into(),
        Action::Annotate => "would be opted out, without a rollout".into(),
        Action::Skip(reason) => format!("would be skipped, and keep its injection: {reason}"),
    };
    format!("{target}: {what}")
}
