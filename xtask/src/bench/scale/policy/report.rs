//! The figures, and the limits for adieu.

use std::thread::available_parallelism;

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

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

/// The figures at each size.
pub struct Report {
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

/// A figure with its limit.
struct Criterion {
    what: &'static str,
    value: f64,
    limit: Limit,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy)]
enum Unit {
    /// Of one core; values are shares.
    Percent,
    Mebibytes,
    PerSecond,
    Seconds,
    Times,
}

impl Criterion {
    fn is_met(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.value <= limit,
            Limit::AtLeast(limit) => self.value >= limit,
        }
    }

    fn shown(&self) -> String {
        let value = self.value;
        match self.unit {
            Unit::Percent => format!("{:.2} %", value * 100.0),
            Unit::Mebibytes => format!("{value:.1} MiB"),
            Unit::PerSecond => format!("{value:.1}/s"),
            Unit::Seconds => format!("{value:.2} s"),
            Unit::Times => format!("{value:.2}"),
        }
    }

    fn limit_shown(&self) -> String {
        let (word, limit) = match self.limit {
            Limit::AtMost(limit) => ("at most", limit),
            Limit::AtLeast(limit) => ("at least", limit),
        };
        match self.unit {
            Unit::Percent => format!("{word} {} %", limit * 100.0),
            Unit::Mebibytes => format!("{word} {limit} MiB"),
            Unit::PerSecond => format!("{word} {limit}/s"),
            Unit::Seconds => format!("{word} {limit} s"),
            Unit::Times => format!("{word} {limit}"),
        }
    }
}

impl Stage {
    fn admission_ratio(&self) -> f64 {
        self.admission.beside_change.p99 / self.admission.at_rest.p99
    }

    /// The share of the terminations that the leader counted.
    fn counted(&self) -> f64 {
        self.terminations.with_observer.counted / f64::from(self.terminations.deleted)
    }

    fn evaluated_within(&self) -> f64 {
        let (seconds, of) = EVALUATED;
        (seconds * f64::from(self.size.deployments) / f64::from(of)).max(EVALUATED_AT_LEAST)
    }

    fn criteria(&self) -> [Criterion; 8] {
        use Limit::{AtLeast, AtMost};
        let criterion = |what, value, limit, unit| Criterion { what, value, limit, unit };
        let (ratio, evaluated) = (self.admission_ratio(), self.delays.evaluated.median);
        [
            criterion("leader's CPU at rest, of a core", self.cpu_at_rest, AtMost(IDLE_CPU), Unit::Percent),
            criterion(
                "leader's CPU under status events, of a core",
                self.cpu_under_events,
                AtMost(CPU_UNDER_EVENTS),
                Unit::Percent,
            ),
            criterion(
                "admission p99 during a policy change, relative to rest",
                ratio,
                AtMost(ADMISSION),
                Unit::Times,
            ),
            criterion(
                "admission p99 while a tenth of the pods end within a minute, relative to rest",
                self.terminations.with_observer.ratio(),
                AtMost(ADMISSION),
                Unit::Times,
            ),
            criterion("terminations that are counted", self.counted(), AtLeast(1.0), Unit::Times),
            criterion("memory of a replica", self.memory / MIB, AtMost(MEMORY), Unit::Mebibytes),
            criterion(
                "all evaluated after a policy change, median",
                evaluated,
                AtMost(self.evaluated_within()),
                Unit::Seconds,
            ),
            criterion(
                "rollouts that are complete immediately, with ten slots",
                self.rollouts_per_second,
                AtLeast(ROLLOUTS),
                Unit::PerSecond,
            ),
        ]
    }

    /// Figures without a limit.
    fn others(&self) -> [(&'static str, String); 21] {
        let ms = |p: Percentiles| format!("{:.1} ms / {:.1} ms", p.p50 * 1e3, p.p99 * 1e3);
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let mib = |bytes: f64| format!("{:.1} MiB", bytes / MIB);
        let Terminations { deleted, with_observer: with, without_observer: without } = &self.terminations;
        [
            ("namespaces, each with a policy", self.size.namespaces().to_string()),
            ("Services", self.size.services().to_string()),
            ("status events", format!("{:.1}/s", self.events_per_second)),
            ("admission at rest, p50 / p99", ms(self.admission.at_rest)),
            ("machine idle while admission is at rest", percent(self.idle_at_rest)),
            ("admission during a policy change, p50 / p99", ms(self.admission.beside_change)),
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
            (
                "without the observer: admission p99 while pods end, relative to rest",
                format!("{:.2}", without.ratio()),
            ),
            (
                "admission p99 while pods end, relative to that without the observer",
                format!("{:.2}", self.terminations.observer_ratio()),
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
        let limits = self.criteria();
        let missed: Vec<_> =
            limits.iter().filter(|criterion| !criterion.is_met()).map(|criterion| criterion.what).collect();
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
            "policyChangeSeconds": self.delays,
            "terminations": {
                "deleted": self.terminations.deleted,
                "withObserver": arm_json(&self.terminations.with_observer),
                "withoutObserver": arm_json(&self.terminations.without_observer),
                "observerRatioP99": self.terminations.observer_ratio(),
            },
            "memoryBytes": self.memory,
            "rolloutsPerSecond": self.rollouts_per_second,
            "missed": missed,
        })
    }
}

impl Report {
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::new(["", "half", "full", "limit", "result"]);
        let cells = |of: &dyn Fn(&Stage) -> String| {
            let mut cells = self.stages.iter().map(of);
            [cells.next().unwrap_or_default(), cells.next().unwrap_or_default()]
        };
        let mut row = |what: &str, of: &dyn Fn(&Stage) -> String, criterion: String, outcome: &str| {
            let [half, full] = cells(of);
            figures.row([what.to_owned(), half, full, criterion, outcome.to_owned()]);
        };
        row("Deployments", &|stage| stage.size.deployments.to_string(), String::new(), "");
        let Some(last) = self.stages.last() else { return figures };
        for (number, (what, _)) in last.others().into_iter().enumerate() {
            row(what, &|stage| stage.others()[number].1.clone(), String::new(), "");
        }
        for (number, criterion) in last.criteria().into_iter().enumerate() {
            let is_met = self.stages.iter().all(|stage| stage.criteria()[number].is_met());
            let outcome = if is_met { "met" } else { "missed" };
            row(criterion.what, &|stage| stage.criteria()[number].shown(), criterion.limit_shown(), outcome);
        }
        let cores = available_parallelism().map_or(1, usize::from);
        let (seconds, of) = EVALUATED;
        figures.remarks.push(format!(
            "{cores} cores for everything. Each limit must be met at both sizes. The limit for evaluation is {seconds} s for \
             {of} Deployments, and in proportion for other numbers."
        ));
        figures
    }

    /// The figures for programs. The ratios are the larger ones of both sizes.
    pub fn json(&self) -> Value {
        let largest = |of: fn(&Terminations) -> f64| {
            self.stages.iter().map(|stage| of(&stage.terminations)).reduce(f64::max)
        };
        json!({
            "by": "policy",
            "ratio_admission_terminations": largest(|terminations| terminations.with_observer.ratio()),
            "ratio_admission_terminations_without_observer":
                largest(|terminations| terminations.without_observer.ratio()),
            "ratio_admission_observer": largest(Terminations::observer_ratio),
            "stages": self.stages.iter().map(Stage::json).collect::<Vec<_>>(),
        })
    }

    /// An error that names the limits that are missed.
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
    stage.criteria().into_iter().filter(|criterion| !criterion.is_met()).map(move |criterion| {
        let (shown, limit) = (criterion.shown(), criterion.limit_shown());
        format!("with {deployments} Deployments: {}: {shown}, {limit} is allowed", criterion.what)
    })
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
