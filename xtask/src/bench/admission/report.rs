//! What was measured, whether it will do, and how it is shown.

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::arms::Arm;
use super::measure::{AllCalls, Samples};
use super::strangers::{ACTS, Act, Strangers, WITHS, With};
use crate::bench::statistics::Percentiles;
use crate::figures::Figures;

/// What adieu may add at the median, as a multiple of what a webhook adds that has the same patch ready.
const READY_BAR: f64 = 1.10;
/// And of what a MutatingAdmissionPolicy adds.
const MAP_BAR: f64 = 1.05;
/// What it may add for a pod that is not opted in, as a multiple of what a do-nothing webhook adds.
const STRANGER_POD_BAR: f64 = 0.1;
/// And for a workload.
const STRANGER_WORKLOAD_BAR: f64 = 0.5;
/// How much more than the floor adieu may add where the floor itself is above a bar.
const OF_FLOOR: f64 = 1.1;

/// The figures of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What adieu adds at the median, as a multiple of what a webhook adds that has the same patch ready.
    #[serde(rename = "ratio_to_ready")]
    pub ratio_to_ready: f64,
    /// And of what a MutatingAdmissionPolicy adds.
    #[serde(rename = "ratio_to_map")]
    pub ratio_to_map: f64,
    /// What it adds for a pod that is not opted in, as a multiple of what a do-nothing webhook adds.
    #[serde(rename = "ratio_stranger_pod")]
    pub ratio_stranger_pod: f64,
    /// And for a workload: the worse of creating and updating one.
    #[serde(rename = "ratio_stranger_workload")]
    pub ratio_stranger_workload: f64,
    /// The same of the least with which annotations and the operator's account can be looked at.
    #[serde(rename = "ratio_stranger_workload_floor")]
    pub ratio_stranger_workload_floor: f64,
    /// The same of a webhook that selects pods by a label which no stranger has.
    #[serde(rename = "ratio_stranger_pod_floor")]
    pub ratio_stranger_pod_floor: f64,
    /// The first two, of a webhook with the patch ready that is asked about what carries an annotation.
    #[serde(rename = "ratio_to_ready_floor")]
    pub ratio_to_ready_floor: f64,
    /// See there.
    #[serde(rename = "ratio_to_map_floor")]
    pub ratio_to_map_floor: f64,
    /// And for what is created in a labelled namespace.
    #[serde(rename = "ratio_to_ready_labelled")]
    pub ratio_to_ready_labelled: f64,
    /// See there.
    #[serde(rename = "ratio_to_map_labelled")]
    pub ratio_to_map_labelled: f64,
    /// What was measured, and on what.
    #[serde(flatten)]
    setting: Setting,
    /// Without admission.
    none: ArmReport,
    /// With a webhook that does nothing.
    noop: ArmReport,
    /// With a webhook that answers at once with what adieu answers.
    patch: ArmReport,
    /// With the same one, which is asked about what carries an annotation.
    condition: ArmReport,
    /// With a MutatingAdmissionPolicy.
    map: ArmReport,
    /// With adieu.
    adieu: ArmReport,
    /// With adieu, in a labelled namespace.
    labelled: ArmReport,
    /// Of what nobody opted in: creating a Deployment, updating one, and creating a pod.
    strangers: [StrangerReport; 3],
}

/// What was measured, and on what.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Setting {
    /// The API server's version.
    pub kubernetes: String,
    /// Processors of the machine that measured.
    pub cores: usize,
    /// Measured requests of each arm.
    pub requests: u32,
}

/// Calls of a webhook.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Calls {
    /// How many.
    pub count: u64,
    /// How long the API server was busy with them altogether, until the patch was applied.
    pub seconds: f64,
}

/// The figures of an arm.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArmReport {
    latency_seconds: Percentiles,
    /// Above the arm without admission.
    added_seconds: Percentiles,
    /// Of its webhook, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<Calls>,
}

/// The figures of one request of what nobody opted in.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StrangerReport {
    request: &'static str,
    nothing: ArmReport,
    noop: ArmReport,
    adieu: ArmReport,
    floor: ArmReport,
}

impl StrangerReport {
    fn new(act: Act, strangers: &Strangers) -> Result<Self> {
        let latency = |with: With| {
            Percentiles::of(&strangers.of(act, with)).with_context(|| format!("no {}", act.title()))
        };
        let none = latency(With::Nothing)?;
        let report = |with: With| -> Result<ArmReport> {
            let latency_seconds = latency(with)?;
            Ok(ArmReport { latency_seconds, added_seconds: latency_seconds.above(none), calls: None })
        };
        let [nothing, noop, adieu, floor] = WITHS.map(report);
        let found =
            Self { request: act.title(), nothing: nothing?, noop: noop?, adieu: adieu?, floor: floor? };
        if found.noop.added_seconds.p50 <= 0.0 {
            bail!(
                "{}: the do-nothing webhook added nothing at the median: this run shows nothing",
                act.title()
            );
        }
        Ok(found)
    }

    /// What is added at the median, as a multiple of what the do-nothing webhook adds.
    fn ratio(&self, of: &ArmReport) -> f64 {
        of.added_seconds.p50 / self.noop.added_seconds.p50
    }

    fn of(&self, with: With) -> &ArmReport {
        match with {
            With::Nothing => &self.nothing,
            With::Noop => &self.noop,
            With::Adieu => &self.adieu,
            With::Floor => &self.floor,
        }
    }
}

/// A ratio, and what it is held against.
struct Bar {
    ratio: f64,
    limit: f64,
    /// Where the API server itself makes it impossible, what the best would be.
    floor: Option<f64>,
    what: &'static str,
}

impl Bar {
    fn is_met(&self) -> bool {
        self.ratio <= self.limit
    }

    /// Whether nothing that decides by the same injection could meet it, and adieu adds hardly more than that would.
    fn is_out_of_reach(&self) -> bool {
        self.floor.is_some_and(|floor| floor > self.limit && self.ratio <= floor * OF_FLOOR)
    }
}

impl Report {
    /// The figures of a run. An error where it shows nothing: no rival adds anything.
    pub fn new(setting: Setting, samples: &Samples, calls: &AllCalls, strangers: &Strangers) -> Result<Self> {
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
                bail!("{} added nothing at the median: this run shows nothing", arm.title());
            }
        }
        let ratio = |one: &ArmReport, other: &ArmReport| one.added_seconds.p50 / other.added_seconds.p50;
        let [create, update, pod] = ACTS.map(|act| StrangerReport::new(act, strangers));
        let strangers = [create?, update?, pod?];
        let [create, update, pod] = &strangers;
        Ok(Self {
            ratio_to_ready: ratio(&adieu, &patch),
            ratio_to_map: ratio(&adieu, &map),
            ratio_stranger_pod: pod.ratio(&pod.adieu),
            ratio_stranger_workload: create.ratio(&create.adieu).max(update.ratio(&update.adieu)),
            ratio_stranger_workload_floor: create.ratio(&create.floor).max(update.ratio(&update.floor)),
            ratio_stranger_pod_floor: pod.ratio(&pod.floor),
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
            strangers,
        })
    }

    fn bars(&self) -> [Bar; 4] {
        [
            Bar {
                ratio: self.ratio_to_ready,
                limit: READY_BAR,
                floor: Some(self.ratio_to_ready_floor),
                what: "what a webhook with the same patch ready adds",
            },
            Bar {
                ratio: self.ratio_to_map,
                limit: MAP_BAR,
                floor: Some(self.ratio_to_map_floor),
                what: "what a MutatingAdmissionPolicy adds",
            },
            Bar {
                ratio: self.ratio_stranger_pod,
                limit: STRANGER_POD_BAR,
                floor: Some(self.ratio_stranger_pod_floor),
                what: "what a do-nothing webhook adds, for a pod that is not opted in",
            },
            Bar {
                ratio: self.ratio_stranger_workload,
                limit: STRANGER_WORKLOAD_BAR,
                floor: Some(self.ratio_stranger_workload_floor),
                what: "what a do-nothing webhook adds, for a workload that is not opted in",
            },
        ]
    }

    /// An error where adieu misses a bar that can be met.
    pub fn verdict(&self) -> Result<()> {
        let missed: Vec<_> = self
            .bars()
            .iter()
            .filter(|bar| !bar.is_met() && !bar.is_out_of_reach())
            .map(|bar| format!("{:.2} times {}, at most {} is allowed", bar.ratio, bar.what, bar.limit))
            .collect();
        if !missed.is_empty() {
            bail!("adieu adds too much latency at the median: {}", missed.join("; "));
        }
        Ok(())
    }

    /// The figures for people.
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
        for (act, found) in ACTS.iter().zip(&self.strangers) {
            for with in WITHS {
                row(
                    format!("{} that is not opted in: {}", act.title(), with.title()),
                    found.of(with),
                    with != With::Nothing,
                );
            }
        }
        for bar in self.bars() {
            let beyond = if bar.is_met() {
                String::new()
            } else {
                let floor = bar.floor.map(|floor| format!(", and the floor is at {floor:.2}"));
                format!(": missed{}", floor.unwrap_or_default())
            };
            figures.remarks.push(format!(
                "At the median adieu adds {:.2} times {} (at most {}){beyond}.",
                bar.ratio, bar.what, bar.limit
            ));
        }
        figures.remarks.push(format!(
            "In a labelled namespace it adds {:.2} times what a webhook with the same patch ready adds, and {:.2} \
             times what a MutatingAdmissionPolicy adds.",
            self.ratio_to_ready_labelled, self.ratio_to_map_labelled
        ));
        let Setting { kubernetes, cores, requests } = &self.setting;
        figures.remarks.push(format!(
            "{requests} creates of an opted-in Deployment with each, and half as many of every other request, by \
             turns, on Kubernetes {kubernetes} with {cores} cores for everything."
        ));
        figures
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// A run in which each arm adds so many milliseconds, and for strangers adieu and the floor add so many times
    /// what the do-nothing webhook adds: to a create, an update and a pod.
    fn report(patch: f64, map: f64, adieu: f64, strangers: [[f64; 2]; 3]) -> Result<Report> {
        let setting = Setting { kubernetes: "v1.36.3".into(), cores: 2, requests: 1000 };
        let adds = |added: f64| vec![0.002 + added / 1000.0; 1000];
        let samples = [
            (Arm::None, adds(0.0)),
            (Arm::Noop, adds(1.0)),
            (Arm::Patch, adds(patch)),
            (Arm::Condition, adds(patch)),
            (Arm::Policy, adds(map)),
            (Arm::Adieu, adds(adieu)),
            (Arm::Labelled, adds(patch)),
        ];
        let mut measured = Strangers::default();
        for (act, [adieu, floor]) in ACTS.into_iter().zip(strangers) {
            for (with, added) in WITHS.into_iter().zip([0.0, 1.0, adieu, floor]) {
                measured.push(act, with, 0.002 + added / 1000.0);
            }
        }
        Report::new(setting, &samples, &AllCalls::default(), &measured)
    }

    const GOOD: [[f64; 2]; 3] = [[0.4, 0.4], [0.45, 0.45], [0.05, 0.0]];

    fn verdict(report: Result<Report>) -> String {
        report.unwrap().verdict().err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_bars_are_on_what_is_added_at_the_median() {
        assert_eq!(verdict(report(2.0, 2.1, 2.15, GOOD)), "");
        let slow = verdict(report(2.0, 4.0, 2.4, GOOD));
        assert!(
            slow.contains("1.20 times what a webhook with the same patch ready adds, at most 1.1 is"),
            "{slow}"
        );
        assert!(!slow.contains("Policy") && !slow.contains("not opted in"), "{slow}");
        let slower = verdict(report(0.9, 1.0, 1.2, GOOD));
        assert!(
            slower.contains("1.20 times what a MutatingAdmissionPolicy adds, at most 1.05 is"),
            "{slower}"
        );
        let pods = verdict(report(2.0, 4.0, 2.0, [GOOD[0], GOOD[1], [0.2, 0.0]]));
        assert!(pods.contains("0.20 times what a do-nothing webhook adds, for a pod"), "{pods}");
    }

    #[test]
    fn of_strangers_workloads_the_worse_counts_and_the_floor_excuses() {
        for (create, update, missed) in [
            ([0.4, 0.4], [0.5, 0.5], false),
            ([0.6, 0.4], [0.4, 0.4], true),
            ([0.4, 0.4], [0.6, 0.49], true),
            // Nobody could: the floor is above the bar.
            ([0.4, 0.4], [0.6, 0.58], false),
            ([0.4, 0.4], [0.7, 0.58], true),
        ] {
            let said = verdict(report(2.0, 4.0, 2.0, [create, update, GOOD[2]]));
            assert_eq!(
                said.contains("for a workload that is not opted in"),
                missed,
                "{create:?} {update:?}: {said}"
            );
        }
    }

    #[test]
    fn a_run_in_which_a_rival_adds_nothing_shows_nothing() {
        assert!(report(0.0, 4.0, 1.0, GOOD).is_err());
        assert!(report(1.0, -1.0, 1.0, GOOD).is_err());
    }

    #[test]
    fn the_ratios_are_at_the_top_of_the_report() {
        let json: Value = serde_json::to_value(report(1.0, 4.0, 2.0, GOOD).unwrap()).unwrap();
        for (key, expected) in [
            ("ratio_to_ready", 2.0),
            ("ratio_to_map", 0.5),
            ("ratio_stranger_pod", 0.05),
            ("ratio_stranger_workload", 0.45),
        ] {
            assert!((json[key].as_f64().unwrap() - expected).abs() < 1e-6, "{key}: {json}");
        }
        assert_eq!((&json["requests"], &json["cores"]), (&1000.into(), &2.into()));
        assert!((json["adieu"]["addedSeconds"]["p99"].as_f64().unwrap() - 0.002).abs() < 1e-9, "{json}");
    }
}
