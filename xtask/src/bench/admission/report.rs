//! The figures, and the limits for adieu.

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::arms::Arm;
use super::calls::{AllCalls, Calls};
use super::measure::Samples;
use super::unmanaged::{CONFIGURATIONS, Configuration, OPERATIONS, Operation, UnmanagedSamples};
use crate::bench::statistics::Percentiles;
use crate::figures::Figures;

/// The limit for the latency that adieu adds at the median, relative to a webhook that has the same patch ready.
const READY_LIMIT: f64 = 1.10;
/// The same limit relative to a MutatingAdmissionPolicy.
const MAP_LIMIT: f64 = 1.05;
/// The limit for a pod that is not opted in, relative to a do-nothing webhook.
const UNMANAGED_POD_LIMIT: f64 = 0.1;
/// The same limit for a workload.
const UNMANAGED_WORKLOAD_LIMIT: f64 = 0.5;
/// The limit relative to the minimal configuration, if that exceeds another limit.
const RELATIVE_TO_FLOOR: f64 = 1.1;

/// The figures of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The latency that adieu adds at the median, relative to a webhook that has the same patch ready.
    #[serde(rename = "ratio_to_ready")]
    pub ratio_to_ready: f64,
    /// The same relative to a MutatingAdmissionPolicy.
    #[serde(rename = "ratio_to_map")]
    pub ratio_to_map: f64,
    /// The latency that adieu adds for a pod that is not opted in, relative to a do-nothing webhook.
    #[serde(rename = "ratio_stranger_pod")]
    pub ratio_stranger_pod: f64,
    /// The same for a workload: creation or update, whichever is worse.
    #[serde(rename = "ratio_stranger_workload")]
    pub ratio_stranger_workload: f64,
    /// The same of the minimal configuration that evaluates annotations and the operator's account.
    #[serde(rename = "ratio_stranger_workload_floor")]
    pub ratio_stranger_workload_floor: f64,
    /// The same of a webhook with a label selector for pods.
    #[serde(rename = "ratio_stranger_pod_floor")]
    pub ratio_stranger_pod_floor: f64,
    /// The same for a Job, which adieu doesn't inject.
    #[serde(rename = "ratio_stranger_job")]
    pub ratio_stranger_job: f64,
    /// The same of a policy with a condition on annotations.
    #[serde(rename = "ratio_stranger_job_floor")]
    pub ratio_stranger_job_floor: f64,
    /// `ratio_to_ready` of a webhook with the patch ready that selects by an annotation.
    #[serde(rename = "ratio_to_ready_floor")]
    pub ratio_to_ready_floor: f64,
    /// `ratio_to_map` of the same.
    #[serde(rename = "ratio_to_map_floor")]
    pub ratio_to_map_floor: f64,
    /// `ratio_to_ready` of adieu in a labelled namespace.
    #[serde(rename = "ratio_to_ready_labelled")]
    pub ratio_to_ready_labelled: f64,
    /// `ratio_to_map` of the same.
    #[serde(rename = "ratio_to_map_labelled")]
    pub ratio_to_map_labelled: f64,
    /// The environment of the run.
    #[serde(flatten)]
    setting: Setting,
    /// Without admission.
    none: ArmReport,
    /// With a webhook that does nothing.
    noop: ArmReport,
    /// With a webhook that has adieu's patch ready.
    patch: ArmReport,
    /// With the same webhook, which selects by an annotation.
    condition: ArmReport,
    /// With a MutatingAdmissionPolicy.
    map: ArmReport,
    /// With adieu.
    adieu: ArmReport,
    /// With adieu, in a labelled namespace.
    labelled: ArmReport,
    /// For objects that are not opted in, in the order of [`OPERATIONS`].
    #[serde(rename = "strangers")]
    unmanaged: [UnmanagedReport; 4],
}

/// The environment of a run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The API server's version.
    pub kubernetes: String,
    /// Processors of the machine.
    pub cores: usize,
    /// Measured requests of each arm.
    pub requests: u32,
}

/// The figures of an arm.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArmReport {
    latency_seconds: Percentiles,
    /// The difference to the arm without admission.
    added_seconds: Percentiles,
    /// The calls of its webhook, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<Calls>,
}

/// The figures of one operation on objects that are not opted in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UnmanagedReport {
    request: &'static str,
    nothing: ArmReport,
    noop: ArmReport,
    adieu: ArmReport,
    floor: ArmReport,
}

impl UnmanagedReport {
    fn new(operation: Operation, unmanaged: &UnmanagedSamples) -> Result<Self> {
        let latency = |with: Configuration| {
            Percentiles::of(&unmanaged.of(operation, with))
                .with_context(|| format!("no {}", operation.title()))
        };
        let none = latency(Configuration::Nothing)?;
        let report = |with: Configuration| -> Result<ArmReport> {
            let latency_seconds = latency(with)?;
            Ok(ArmReport { latency_seconds, added_seconds: latency_seconds.above(none), calls: None })
        };
        let [nothing, noop, adieu, floor] = CONFIGURATIONS.map(report);
        let found =
            Self { request: operation.title(), nothing: nothing?, noop: noop?, adieu: adieu?, floor: floor? };
        if found.noop.added_seconds.p50 <= 0.0 {
            bail!(
                "{}: the do-nothing webhook added no latency at the median: the run is invalid",
                operation.title()
            );
        }
        Ok(found)
    }

    /// The added latency at the median, relative to the do-nothing webhook.
    fn ratio(&self, of: &ArmReport) -> f64 {
        of.added_seconds.p50 / self.noop.added_seconds.p50
    }

    fn of(&self, with: Configuration) -> &ArmReport {
        match with {
            Configuration::Nothing => &self.nothing,
            Configuration::Noop => &self.noop,
            Configuration::Adieu => &self.adieu,
            Configuration::Floor => &self.floor,
        }
    }
}

/// A ratio with its limit.
struct Criterion {
    ratio: f64,
    limit: f64,
    /// The ratio of the minimal configuration, which nothing can improve on.
    floor: Option<f64>,
    what: &'static str,
}

impl Criterion {
    fn is_met(&self) -> bool {
        self.ratio <= self.limit
    }

    /// Whether the minimal configuration exceeds the limit too, and adieu adds hardly more than that.
    fn is_out_of_reach(&self) -> bool {
        self.floor.is_some_and(|floor| floor > self.limit && self.ratio <= floor * RELATIVE_TO_FLOOR)
    }
}

impl Report {
    /// The figures of a run. It is an error if one of the alternatives adds no latency.
    pub fn new(
        setting: Setting,
        samples: &Samples,
        calls: &AllCalls,
        unmanaged: &UnmanagedSamples,
    ) -> Result<Self> {
        let latency = |arm: Arm| {
            let of = samples.iter().find(|(of, _)| *of == arm);
            of.and_then(|(_, samples)| Percentiles::of(samples)).context("an arm without requests")
        };
        let floor = latency(Arm::None)?;
        let report = |arm: Arm| -> Result<ArmReport> {
            let latency_seconds = latency(arm)?;
            let calls = calls.of_webhooks().find(|(of, _)| *of == arm).map(|(_, calls)| calls);
            Ok(ArmReport { latency_seconds, added_seconds: latency_seconds.above(floor), calls })
        };
        let (none, noop, patch) = (report(Arm::None)?, report(Arm::Noop)?, report(Arm::Patch)?);
        let condition = report(Arm::Condition)?;
        let (map, adieu, labelled) = (report(Arm::Policy)?, report(Arm::Adieu)?, report(Arm::Labelled)?);
        for (arm, report) in [(Arm::Patch, &patch), (Arm::Policy, &map)] {
            if report.added_seconds.p50 <= 0.0 {
                bail!("{} added no latency at the median: the run is invalid", arm.title());
            }
        }
        let ratio = |one: &ArmReport, other: &ArmReport| one.added_seconds.p50 / other.added_seconds.p50;
        let [create, update, pod, job] =
            OPERATIONS.map(|operation| UnmanagedReport::new(operation, unmanaged));
        let unmanaged = [create?, update?, pod?, job?];
        let [create, update, pod, job] = &unmanaged;
        Ok(Self {
            ratio_to_ready: ratio(&adieu, &patch),
            ratio_to_map: ratio(&adieu, &map),
            ratio_stranger_pod: pod.ratio(&pod.adieu),
            ratio_stranger_workload: create.ratio(&create.adieu).max(update.ratio(&update.adieu)),
            ratio_stranger_workload_floor: create.ratio(&create.floor).max(update.ratio(&update.floor)),
            ratio_stranger_pod_floor: pod.ratio(&pod.floor),
            ratio_stranger_job: job.ratio(&job.adieu),
            ratio_stranger_job_floor: job.ratio(&job.floor),
            ratio_to_ready_floor: ratio(&condition, &patch),
            ratio_to_map_floor: ratio(&condition, &map),
            ratio_to_ready_labelled: ratio(&labelled, &patch),
            ratio_to_map_labelled: ratio(&labelled, &map),
            setting,
            none,
            noop,
            patch,
            condition,
            map,
            adieu,
            labelled,
            unmanaged,
        })
    }

    fn criteria(&self) -> [Criterion; 4] {
        [
            Criterion {
                ratio: self.ratio_to_ready,
                limit: READY_LIMIT,
                floor: Some(self.ratio_to_ready_floor),
                what: "what a webhook with the same patch ready adds",
            },
            Criterion {
                ratio: self.ratio_to_map,
                limit: MAP_LIMIT,
                floor: Some(self.ratio_to_map_floor),
                what: "what a MutatingAdmissionPolicy adds",
            },
            Criterion {
                ratio: self.ratio_stranger_pod,
                limit: UNMANAGED_POD_LIMIT,
                floor: Some(self.ratio_stranger_pod_floor),
                what: "what a do-nothing webhook adds, for a pod that is not opted in",
            },
            Criterion {
                ratio: self.ratio_stranger_workload,
                limit: UNMANAGED_WORKLOAD_LIMIT,
                floor: Some(self.ratio_stranger_workload_floor),
                what: "what a do-nothing webhook adds, for a workload that is not opted in",
            },
        ]
    }

    /// It is an error if adieu exceeds a limit that can be met.
    pub fn verdict(&self) -> Result<()> {
        let missed: Vec<_> = self
            .criteria()
            .iter()
            .filter(|criterion| !criterion.is_met() && !criterion.is_out_of_reach())
            .map(|criterion| {
                format!(
                    "{:.2} times {}, at most {} is allowed",
                    criterion.ratio, criterion.what, criterion.limit
                )
            })
            .collect();
        if !missed.is_empty() {
            bail!("adieu adds too much latency at the median: {}", missed.join("; "));
        }
        Ok(())
    }

    /// The figures as a table.
    pub fn figures(&self) -> Figures {
        let mut figures =
            Figures::new(["dry run", "p50", "p90", "p99", "added p50", "added p90", "added p99"]);
        let ms = |seconds: f64| format!("{:.2} ms", seconds * 1000.0);
        let mut row = |title: String, report: &ArmReport, adds: bool| {
            let [latency, added] =
                [report.latency_seconds, report.added_seconds].map(|p| [p.p50, p.p90, p.p99].map(ms));
            let [p50, p90, p99] = latency;
            let [added50, added90, added99] = if adds { added } else { [""; 3].map(Into::into) };
            figures.row([title, p50, p90, p99, added50, added90, added99]);
        };
        for (arm, report) in [
            (Arm::None, &self.none),
            (Arm::Noop, &self.noop),
            (Arm::Patch, &self.patch),
            (Arm::Condition, &self.condition),
            (Arm::Policy, &self.map),
            (Arm::Adieu, &self.adieu),
            (Arm::Labelled, &self.labelled),
        ] {
            row(format!("create of an opted-in Deployment: {}", arm.title()), report, arm != Arm::None);
        }
        for (operation, found) in OPERATIONS.iter().zip(&self.unmanaged) {
            for with in CONFIGURATIONS {
                row(
                    format!("{} that is not opted in: {}", operation.title(), with.title()),
                    found.of(with),
                    with != Configuration::Nothing,
                );
            }
        }
        for criterion in self.criteria() {
            let beyond = if criterion.is_met() {
                String::new()
            } else {
                let floor =
                    criterion.floor.map(|floor| format!(", and the minimal configuration is at {floor:.2}"));
                format!(": missed{}", floor.unwrap_or_default())
            };
            figures.remarks.push(format!(
                "At the median adieu adds {:.2} times {} (at most {}){beyond}.",
                criterion.ratio, criterion.what, criterion.limit
            ));
        }
        figures.remarks.push(format!(
            "In a labelled namespace it adds {:.2} times what a webhook with the same patch ready adds, and {:.2} \
             times what a MutatingAdmissionPolicy adds.",
            self.ratio_to_ready_labelled, self.ratio_to_map_labelled
        ));
        figures.remarks.push(format!(
            "For a Job that is not opted in it adds {:.2} times what a do-nothing webhook adds, and the minimal \
             configuration {:.2} times.",
            self.ratio_stranger_job, self.ratio_stranger_job_floor
        ));
        let Setting { kubernetes, cores, requests } = &self.setting;
        figures.remarks.push(format!(
            "{requests} creates of an opted-in Deployment with each, and half as many of every other request, \
             alternating, on Kubernetes {kubernetes} with {cores} cores for everything."
        ));
        figures
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
