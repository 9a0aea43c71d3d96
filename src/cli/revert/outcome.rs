//! What became of workloads, in words and as JSON.

use std::fmt::Write as _;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::select::{Action, Target};

/// What became of a workload in its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub(super) enum Outcome {
    /// It is opted out, and its rollout is complete.
    Restored,
    /// It is opted out. Its pod template carried nothing.
    Annotated,
    /// It is opted out. Its rollout went on when the command was stopped.
    RollsOut,
    /// Nothing was done: the command was stopped before its turn.
    NotBegun,
    /// It was deleted meanwhile.
    Gone,
    /// It stays as it is.
    Left { reason: String },
    /// The API server refused the write.
    Refused { reason: String },
    /// It is opted out, and its rollout failed.
    #[serde(rename = "rolloutFailed", rename_all = "camelCase")]
    Failed {
        reason: String,
        /// Whether the workload was not available before either.
        was_broken: bool,
    },
    /// The API server didn't answer, or with an error.
    Unreachable { reason: String },
}

impl Outcome {
    /// Whether no other rollout begins after it.
    pub(super) fn stops(&self) -> bool {
        matches!(self, Self::Failed { was_broken: false, .. } | Self::Unreachable { .. })
    }

    /// Whether something is left to do for a person.
    fn is_failure(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Failed { .. } | Self::Unreachable { .. })
    }

    /// Whether the workload is opted out, or gone.
    fn is_out(&self) -> bool {
        matches!(self, Self::Restored | Self::Annotated | Self::RollsOut | Self::Gone | Self::Failed { .. })
    }
}

/// What happens to a workload.
#[derive(Debug)]
pub(super) enum Step<'a> {
    /// Its own rollout is waited for.
    Waits,
    /// Its pod template is restored.
    RollsOut,
    /// A person should know this.
    Warns(&'a str),
    /// This became of it.
    Done(&'a Outcome),
}

/// What a step means to a person.
fn sentence(step: &Step<'_>) -> String {
    match step {
        Step::Waits => "waiting for the rollout that goes on".into(),
        Step::RollsOut => "opted out, rolling out".into(),
        Step::Warns(warning) => format!("warning: {warning}"),
        Step::Done(outcome) => match outcome {
            Outcome::Restored => "opted out, rollout complete".into(),
            Outcome::Annotated => {
                "opted out; its pod template carries nothing. Pods that were injected as they were created keep that \
                 until they are replaced"
                    .into()
            }
            Outcome::RollsOut => "opted out; its rollout goes on".into(),
            Outcome::NotBegun => "not opted out: stopped before its turn".into(),
            Outcome::Gone => "deleted meanwhile".into(),
            Outcome::Left { reason } => format!("left as it is: {reason}"),
            Outcome::Refused { reason } => format!("not opted out, the API server refused it: {reason}"),
            Outcome::Failed { reason, was_broken: true } => {
                format!("opted out, but {reason}; it was not available before either")
            }
            Outcome::Failed { reason, .. } => format!("opted out, but {reason}"),
            Outcome::Unreachable { reason } => format!("not known to be opted out: {reason}"),
        },
    }
}

/// Tells of the steps as they come, and how far it is.
#[derive(Debug)]
pub(super) struct Teller {
    /// On standard error; nothing where that is no terminal.
    bar: ProgressBar,
    /// Whether lines are written to standard output.
    lines: bool,
}

impl Teller {
    pub(super) fn new(targets: usize, lines: bool) -> Self {
        let bar = ProgressBar::new(u64::try_from(targets).unwrap_or(u64::MAX));
        if let Ok(style) = ProgressStyle::with_template("{bar:30.cyan} {pos} of {len}, {elapsed:.dim}  {msg}")
        {
            bar.set_style(style);
        }
        Self { bar, lines }
    }

    pub(super) fn tell(&self, target: &Target, step: &Step<'_>) {
        let text = format!("{target}: {}", sentence(step));
        match step {
            Step::Done(_) => self.bar.inc(1),
            Step::Waits | Step::RollsOut => self.bar.set_message(text.clone()),
            Step::Warns(_) => {}
        }
        if self.lines {
            self.bar.suspend(|| crate::cli::show(text));
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// All that was done.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether every workload is opted out and its rollout complete.
    pub(super) complete: bool,
    /// Whether it was stopped by a person.
    pub(super) interrupted: bool,
    /// How many workloads were not begun with.
    pub(super) not_begun: usize,
    pub(super) workloads: Vec<Line>,
}

/// One workload.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    kind: &'static str,
    namespace: String,
    name: String,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report {
    pub(super) fn new(targets: usize, done: Vec<(Target, Outcome)>, interrupted: bool) -> Self {
        let begun = done.iter().filter(|(_, outcome)| *outcome != Outcome::NotBegun).count();
        let unfinished =
            |(_, outcome): &(Target, Outcome)| outcome.is_failure() || matches!(outcome, Outcome::RollsOut);
        Self {
            complete: begun == targets && !done.iter().any(unfinished),
            interrupted,
            not_begun: targets - begun,
            workloads: done
                .into_iter()
                .map(|(target, outcome)| Line {
                    kind: target.kind.as_str(),
                    namespace: target.namespace,
                    name: target.name,
                    outcome,
                })
                .collect(),
        }
    }

    /// How far it came, and what to do next.
    pub(super) fn summary(&self) -> String {
        let count = |is: fn(&Outcome) -> bool| self.workloads.iter().filter(|line| is(&line.outcome)).count();
        let all =
            self.workloads.iter().filter(|line| line.outcome != Outcome::NotBegun).count() + self.not_begun;
        let mut text = format!("{} of {} opted out", count(Outcome::is_out), workloads(all));
        for (number, what) in [
            (count(|outcome| matches!(outcome, Outcome::RollsOut)), "still rolling out"),
            (count(|outcome| matches!(outcome, Outcome::Failed { .. })), "with a failed rollout"),
            (count(|outcome| matches!(outcome, Outcome::Left { .. })), "left as they are"),
            (count(|outcome| matches!(outcome, Outcome::Refused { .. })), "refused"),
            (self.not_begun, "not begun"),
        ] {
            if number > 0 {
                // A String takes whatever is written to it.
                let _ = write!(text, ", {number} {what}");
            }
        }
        if !self.complete {
            text += if self.interrupted {
                ". Run the same command again to resume"
            } else {
                ". Fix what failed (kubectl describe shows the workload's events), and run the same command again to \
                 resume"
            };
        }
        text
    }
}

/// `1 workload`, `2 workloads`.
pub(super) fn workloads(count: usize) -> String {
    format!("{count} workload{}", if count == 1 { "" } else { "s" })
}

/// What would be done with a target.
pub(super) fn plan(target: &Target) -> String {
    let what = match &target.action {
        Action::Wait => "is opted out already; its rollout would be waited for".into(),
        Action::Restore => "would be opted out, and roll out".into(),
        Action::Annotate => "would be opted out, without a rollout".into(),
        Action::Leave(reason) => format!("would be left as it is: {reason}"),
    };
    format!("{target}: {what}")
}
