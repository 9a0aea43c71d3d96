//! The figures, and the limits for adieu.

use std::fmt::{self, Display, Formatter};
use std::iter::once;
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::criterion::{Criterion, Limit, Outcome, Unit};
use super::fleet::Size;
use super::terminations::{Arm, Terminations};
use crate::bench::scale::report::{MEMORY, MIB};
use crate::bench::statistics::Percentiles;
use crate::figures::Figures;

/// The limits for the leader's CPU time, as shares of one core: at rest, and under status events.
const IDLE_CPU: f64 = 0.01;
const CPU_UNDER_EVENTS: f64 = 0.05;
/// The limit for the p99 of admission during a policy change, and while pods end, as a multiple of the one at rest.
const ADMISSION: f64 = 1.5;
/// The limit in seconds for evaluating this number of workloads after a policy change; in proportion for others, but
/// at least as long as the leader's metrics can resolve.
const EVALUATED: (f64, u32) = (1.0, 5000);
const EVALUATED_AT_LEAST: f64 = 0.2;
/// The minimal rate of rollouts that are complete immediately.
const ROLLOUTS: f64 = 30.0;

/// The arms beside which the p99 of admission is judged, if they exceed the limit too.
const REPLAY: &str = "the replay";
const WITHOUT_OBSERVER: &str = "the arm without the observer";

/// The limit in seconds for evaluating all workloads after a policy change.
pub fn evaluation_limit(size: Size) -> f64 {
    let (seconds, of) = EVALUATED;
    (seconds * f64::from(size.deployments) / f64::from(of)).max(EVALUATED_AT_LEAST)
}

/// The figures at each size that is measured so far.
pub struct Report {
    /// The number of Deployments at full size.
    full: u32,
    pub stages: Vec<Stage>,
}

/// The figures at one size.
#[derive(Clone, Debug)]
pub struct Stage {
    pub size: Size,
    /// Shares of one core.
    pub cpu_at_rest: f64,
    pub cpu_under_events: f64,
    pub events_per_second: f64,
    pub admission: Admission,
    /// The share of CPU time in which the machine was idle while admission was at rest.
    pub idle_at_rest: f64,
    /// Admission while the load of policy changes is replayed, with this CPU time for each.
    pub replay: Percentiles,
    pub replayed_cpu: Duration,
    /// The leader's CPU time until all were evaluated after the median change.
    pub evaluation_cpu: Duration,
    pub delays: Delays,
    pub terminations: Terminations,
    /// The largest working set of a replica, in bytes.
    pub memory: f64,
    pub rollouts_per_second: f64,
}

/// Seconds of dry-run creates of opted-in Deployments.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Admission {
    pub at_rest: Percentiles,
    pub beside_change: Percentiles,
}

/// Seconds from a policy change.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delays {
    /// Until every workload is evaluated.
    evaluated: Spread,
    /// Until every policy's status is written.
    reported: Spread,
}

/// The median and the largest of several values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    largest: f64,
}

impl Display for Delays {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Spread { median, largest } = self.evaluated;
        write!(f, "after {median:.2} s (median) to {largest:.2} s")
    }
}

impl Delays {
    pub fn new(evaluated: Vec<f64>, reported: Vec<f64>) -> Self {
        Self { evaluated: Spread::of(evaluated), reported: Spread::of(reported) }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self { median: at(values.len().saturating_sub(1) / 2), largest: at(values.len().saturating_sub(1)) }
    }

    fn show(self) -> String {
        format!("{:.2} s ({:.2} s)", self.median, self.largest)
    }
}

impl Stage {
    fn admission_ratio(&self) -> f64 {
        self.admission.beside_change.p99 / self.admission.at_rest.p99
    }

    fn replay_ratio(&self) -> f64 {
        self.replay.p99 / self.admission.at_rest.p99
    }

    /// The p99 of admission during a policy change, relative to the one during a replay.
    fn change_to_replay(&self) -> f64 {
        self.admission.beside_change.p99 / self.replay.p99
    }

    /// The share of the terminations that the leader counted.
    fn counted(&self) -> f64 {
        self.terminations.with_observer.counted / f64::from(self.terminations.deleted)
    }

    fn criteria(&self) -> [Criterion; 8] {
        use Limit::{AtLeast, AtMost};
        let Terminations { with_observer, without_observer, .. } = &self.terminations;
        [
            Criterion::new(
                "leader's CPU at rest, of a core",
                self.cpu_at_rest,
                AtMost(IDLE_CPU),
                Unit::Percent,
            ),
            Criterion::new(
                "leader's CPU under status events, of a core",
                self.cpu_under_events,
                AtMost(CPU_UNDER_EVENTS),
                Unit::Percent,
            ),
            Criterion::new(
                "admission p99 during a policy change, relative to rest",
                self.admission_ratio(),
                AtMost(ADMISSION),
                Unit::Times,
            )
            .beside(REPLAY, self.replay_ratio(), self.change_to_replay()),
            Criterion::new(
                "admission p99 while a tenth of the pods end within a minute, relative to rest",
                with_observer.ratio(),
                AtMost(ADMISSION),
                Unit::Times,
            )
            .beside(
                WITHOUT_OBSERVER,
                without_observer.ratio(),
                self.terminations.observer_ratio(),
            ),
            Criterion::new("terminations that are counted", self.counted(), AtLeast(1.0), Unit::Times),
            Criterion::new("memory of a replica", self.memory / MIB, AtMost(MEMORY), Unit::Mebibytes),
            Criterion::new(
                "all evaluated after a policy change, median",
                self.delays.evaluated.median,
                AtMost(evaluation_limit(self.size)),
                Unit::Seconds,
            ),
            Criterion::new(
                "rollouts that are complete immediately, with ten slots",
                self.rollouts_per_second,
                AtLeast(ROLLOUTS),
                Unit::PerSecond,
            ),
        ]
    }

    /// Figures without a limit.
    fn others(&self) -> [(&'static str, String); 26] {
        let ms = |p: Percentiles| format!("{:.1} ms / {:.1} ms", p.p50 * 1e3, p.p99 * 1e3);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let mib = |bytes: f64| format!("{:.1} MiB", bytes / MIB);
        let times = |ratio: f64| format!("{ratio:.2}");
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        let Terminations { deleted, with_observer: with, without_observer: without } = &self.terminations;
        [
            ("namespaces, each with a policy", self.size.namespaces().to_string()),
            ("Services", self.size.services().to_string()),
            ("status events", format!("{:.1}/s", self.events_per_second)),
            ("admission at rest, p50 / p99", ms(self.admission.at_rest)),
            ("machine idle while admission is at rest", percent(self.idle_at_rest)),
            ("admission during a policy change, p50 / p99", ms(self.admission.beside_change)),
            ("leader's CPU time until all are evaluated, median", seconds(self.evaluation_cpu)),
            ("CPU time in each replay of a policy change", seconds(self.replayed_cpu)),
            ("admission during a replay, p50 / p99", ms(self.replay)),
            ("admission p99 during a replay, relative to rest", times(self.replay_ratio())),
            (
                "admission p99 during a policy change, relative to that during a replay",
                times(self.change_to_replay()),
            ),
            ("pods that end within a minute", deleted.to_string()),
            ("admission in the minute before, p50 / p99", ms(with.at_rest)),
            ("admission while pods end, p50 / p99", ms(with.beside_deletions)),
            ("machine idle while pods end", percent(with.idle)),
            ("memory of a replica while pods end", mib(with.memory)),
            ("all of these terminations counted", format!("{:.0} s", with.took.as_secs_f64())),
            ("writes of TerminationProfiles meanwhile", self.profile_writes().to_string()),
            ("without the observer: admission in the minute before, p50 / p99", ms(without.at_rest)),
            ("without the observer: admission while pods end, p50 / p99", ms(without.beside_deletions)),
            ("without the observer: machine idle while pods end", percent(without.idle)),
            ("without the observer: memory of a replica while pods end", mib(without.memory)),
            ("without the observer: admission p99 while pods end, relative to rest", times(without.ratio())),
            (
                "admission p99 while pods end, relative to that without the observer",
                times(self.terminations.observer_ratio()),
            ),
            ("all evaluated after a policy change, median (largest)", self.delays.evaluated.show()),
            ("every status written after a policy change, median (largest)", self.delays.reported.show()),
        ]
    }

    /// Requests that create or change profiles.
    fn profile_writes(&self) -> u32 {
        let requests = &self.terminations.with_observer.requests;
        let of_profiles = requests.iter().filter(|(request, _)| request.contains("terminationprofiles"));
        of_profiles.filter(|(request, _)| !request.starts_with("list")).map(|(_, count)| count).sum()
    }

    fn json(&self) -> Value {
        let with = |of: fn(Outcome) -> bool| {
            let found = self.criteria().into_iter().filter(|criterion| of(criterion.outcome()));
            found.map(|criterion| criterion.what).collect::<Vec<_>>()
        };
        json!({
            "deployments": self.size.deployments,
            "namespaces": self.size.namespaces(),
            "services": self.size.services(),
            "policies": self.size.policies(),
            "cpuAtRest": self.cpu_at_rest,
            "cpuUnderEvents": self.cpu_under_events,
            "eventsPerSecond": self.events_per_second,
            "admissionSeconds": self.admission,
            "admissionRatioP99": self.admission_ratio(),
            "machineIdleAtRest": self.idle_at_rest,
            "evaluationCpuSeconds": self.evaluation_cpu.as_secs_f64(),
            "replay": {
                "cpuSeconds": self.replayed_cpu.as_secs_f64(),
                "admissionSeconds": self.replay,
                "admissionRatioP99": self.replay_ratio(),
                "changeRatioP99": self.change_to_replay(),
            },
            "policyChangeSeconds": self.delays,
            "terminations": {
                "deleted": self.terminations.deleted,
                "withObserver": arm_json(&self.terminations.with_observer),
                "withoutObserver": arm_json(&self.terminations.without_observer),
                "observerRatioP99": self.terminations.observer_ratio(),
            },
            "memoryBytes": self.memory,
            "rolloutsPerSecond": self.rollouts_per_second,
            "missed": with(|outcome| outcome != Outcome::Met),
            "missedByArmToo": with(|outcome| matches!(outcome, Outcome::MissedByArmToo(_))),
        })
    }
}

impl Report {
    /// No figures yet, for these sizes; the last one is the full one.
    pub fn new(sizes: &[u32]) -> Self {
        Self { full: sizes.last().copied().unwrap_or_default(), stages: Vec::new() }
    }

    fn is_full(&self, stage: &Stage) -> bool {
        stage.size.deployments == self.full
    }

    pub fn figures(&self) -> Figures {
        let sizes = self.stages.iter().map(|stage| if self.is_full(stage) { "full" } else { "half" });
        let mut figures = Figures::new(once("").chain(sizes).chain(["limit", "result"]));
        let mut row = |what: &str, of: &dyn Fn(&Stage) -> String, limit: String, outcome: String| {
            let cells = self.stages.iter().map(of);
            figures.row(once(what.to_owned()).chain(cells).chain([limit, outcome]));
        };
        let none = String::new;
        row("Deployments", &|stage| stage.size.deployments.to_string(), none(), none());
        let Some(last) = self.stages.last() else { return figures };
        for (number, (what, _)) in last.others().into_iter().enumerate() {
            row(what, &|stage| stage.others()[number].1.clone(), none(), none());
        }
        for (number, criterion) in last.criteria().into_iter().enumerate() {
            let outcomes = self.stages.iter().map(|stage| stage.criteria()[number].outcome());
            let worst = outcomes.max().map(|outcome| outcome.to_string()).unwrap_or_default();
            row(criterion.what, &|stage| stage.criteria()[number].shown(), criterion.limit_shown(), worst);
        }
        let cores = available_parallelism().map_or(1, usize::from);
        let (seconds, of) = EVALUATED;
        figures.remarks.push(format!(
            "{cores} cores for everything. Each limit must be met at each size. The limit for evaluation is {seconds} s for \
             {of} Deployments, and in proportion for other numbers."
        ));
        figures
    }

    /// The figures for programs. The ratios are the largest ones of all sizes.
    pub fn json(&self) -> Value {
        let largest = |of: fn(&Stage) -> f64| self.stages.iter().map(of).reduce(f64::max);
        json!({
            "by": "policy",
            "complete": self.stages.last().is_some_and(|stage| self.is_full(stage)),
            "ratio_admission_change": largest(Stage::admission_ratio),
            "ratio_admission_change_replay": largest(Stage::replay_ratio),
            "ratio_admission_change_to_replay": largest(Stage::change_to_replay),
            "ratio_admission_terminations": largest(|stage| stage.terminations.with_observer.ratio()),
            "ratio_admission_terminations_without_observer":
                largest(|stage| stage.terminations.without_observer.ratio()),
            "ratio_admission_observer": largest(|stage| stage.terminations.observer_ratio()),
            "stages": self.stages.iter().map(Stage::json).collect::<Vec<_>>(),
        })
    }

    /// An error that names the limits that are missed, other than those that an arm misses too.
    pub fn verdict(&self) -> Result<()> {
        let missed: Vec<_> = self.stages.iter().flat_map(missed).collect();
        ensure!(missed.is_empty(), "adieu misses a limit: {}", missed.join("; "));
        Ok(())
    }
}

fn arm_json(arm: &Arm) -> Value {
    json!({
        "admissionSeconds": {"atRest": arm.at_rest, "besideDeletions": arm.beside_deletions},
        "admissionRatioP99": arm.ratio(),
        "machineIdle": arm.idle,
        "memoryBytes": arm.memory,
        "counted": arm.counted,
        "seconds": arm.took.as_secs_f64(),
        "requests": arm.requests,
    })
}

fn missed(stage: &Stage) -> impl Iterator<Item = String> {
    let deployments = stage.size.deployments;
    let missed = stage.criteria().into_iter().filter(|criterion| criterion.outcome() == Outcome::Missed);
    missed.map(move |criterion| format!("with {deployments} Deployments: {}", criterion.described()))
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
