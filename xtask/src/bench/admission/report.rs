//! What was measured, whether it will do, and how it is shown.

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::arms::Arm;
use super::measure::{AllCalls, Samples};
use super::statistics::Percentiles;
use crate::figures::Figures;

/// What adieu may add at the median, as a multiple of what a do-nothing webhook adds.
const NOOP_BAR: f64 = 1.2;
/// And of what a MutatingAdmissionPolicy adds.
const MAP_BAR: f64 = 0.6;

/// The figures of a run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What adieu adds at the median, as a multiple of what a do-nothing webhook adds.
    #[serde(rename = "ratio_to_noop")]
    pub ratio_to_noop: f64,
    /// And of what a MutatingAdmissionPolicy adds.
    #[serde(rename = "ratio_to_map")]
    pub ratio_to_map: f64,
    /// What was measured, and on what.
    #[serde(flatten)]
    setting: Setting,
    /// Without admission.
    none: ArmReport,
    /// With a webhook that does nothing.
    noop: ArmReport,
    /// With a webhook that answers at once with what adieu answers.
    patch: ArmReport,
    /// With a MutatingAdmissionPolicy.
    map: ArmReport,
    /// With adieu.
    adieu: ArmReport,
    /// The first of the ratios, at each percentile.
    ratios_to_noop: Percentiles,
    /// The second.
    ratios_to_map: Percentiles,
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

impl Report {
    /// The figures of a run. An error where it shows nothing: no rival adds anything.
    pub fn new(setting: Setting, samples: &Samples, calls: &AllCalls) -> Result<Self> {
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
        let (map, adieu) = (report(Arm::Policy)?, report(Arm::Adieu)?);
        for (arm, report) in [(Arm::Noop, &noop), (Arm::Policy, &map)] {
            if report.added_seconds.p50 <= 0.0 {
                bail!("{} added nothing at the median: this run shows nothing", arm.title());
            }
        }
        let ratios_to_noop = adieu.added_seconds.times(noop.added_seconds);
        let ratios_to_map = adieu.added_seconds.times(map.added_seconds);
        Ok(Self {
            ratio_to_noop: ratios_to_noop.p50,
            ratio_to_map: ratios_to_map.p50,
            setting,
            none,
            noop,
            patch,
            map,
            adieu,
            ratios_to_noop,
            ratios_to_map,
        })
    }

    /// An error where adieu misses a bar.
    pub fn verdict(&self) -> Result<()> {
        let bars = [
            (self.ratio_to_noop, NOOP_BAR, "a do-nothing webhook"),
            (self.ratio_to_map, MAP_BAR, "a MutatingAdmissionPolicy"),
        ];
        let missed: Vec<_> = bars
            .into_iter()
            .filter(|(ratio, bar, _)| ratio > bar)
            .map(|(ratio, bar, rival)| {
                format!("{ratio:.2} times what {rival} adds, at most {bar} is allowed")
            })
            .collect();
        if !missed.is_empty() {
            bail!("adieu adds too much latency at the median: {}", missed.join("; "));
        }
        Ok(())
    }

    /// The figures for people.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::new([
            "dry-run create of a Deployment",
            "p50",
            "p90",
            "p99",
            "added p50",
            "added p90",
            "added p99",
        ]);
        let ms = |seconds: f64| format!("{:.2} ms", seconds * 1000.0);
        for (arm, report) in [
            (Arm::None, &self.none),
            (Arm::Noop, &self.noop),
            (Arm::Patch, &self.patch),
            (Arm::Policy, &self.map),
            (Arm::Adieu, &self.adieu),
        ] {
            let [latency, added] =
                [report.latency_seconds, report.added_seconds].map(|p| [p.p50, p.p90, p.p99].map(ms));
            let [p50, p90, p99] = latency;
            let [added50, added90, added99] = if arm == Arm::None { [""; 3].map(Into::into) } else { added };
            figures.row([arm.title().to_owned(), p50, p90, p99, added50, added90, added99]);
        }
        let Setting { kubernetes, cores, requests } = &self.setting;
        figures.remarks.push(format!(
            "At the median adieu adds {:.2} times what a do-nothing webhook adds (at most {NOOP_BAR}), and {:.2} \
             times what a MutatingAdmissionPolicy adds (at most {MAP_BAR}).",
            self.ratio_to_noop, self.ratio_to_map
        ));
        figures.remarks.push(format!(
            "{requests} requests of each, in turns, on Kubernetes {kubernetes} with {cores} cores for everything."
        ));
        figures
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn report(added: [f64; 3]) -> Result<Report> {
        let setting = Setting { kubernetes: "v1.36.3".into(), cores: 2, requests: 1000 };
        let [noop, map, adieu] = added.map(|added| vec![0.002 + added; 1000]);
        let samples = [
            (Arm::None, vec![0.002; 1000]),
            (Arm::Noop, noop),
            (Arm::Patch, map.clone()),
            (Arm::Policy, map),
            (Arm::Adieu, adieu),
        ];
        Report::new(setting, &samples, &AllCalls::default())
    }

    #[test]
    fn the_bars_are_on_what_is_added_at_the_median() {
        assert!(report([0.001, 0.004, 0.0011]).unwrap().verdict().is_ok());
        let slow = report([0.001, 0.004, 0.0015]).unwrap().verdict().unwrap_err().to_string();
        assert!(
            slow.contains("1.50 times what a do-nothing webhook adds") && !slow.contains("Policy"),
            "{slow}"
        );
        let slower = report([0.001, 0.001, 0.0015]).unwrap().verdict().unwrap_err().to_string();
        assert!(slower.contains("1.50 times what a MutatingAdmissionPolicy adds, at most 0.6"), "{slower}");
    }

    #[test]
    fn a_run_in_which_a_rival_adds_nothing_shows_nothing() {
        assert!(report([0.0, 0.004, 0.001]).is_err());
        assert!(report([0.001, -0.001, 0.001]).is_err());
    }

    #[test]
    fn the_ratios_are_at_the_top_of_the_report() {
        let json: Value = serde_json::to_value(report([0.001, 0.004, 0.001]).unwrap()).unwrap();
        let close = |key: &str, expected: f64| (json[key].as_f64().unwrap() - expected).abs() < 1e-6;
        assert!(close("ratio_to_noop", 1.0) && close("ratio_to_map", 0.25), "{json}");
        assert_eq!((&json["requests"], &json["cores"]), (&1000.into(), &2.into()));
        assert!((json["adieu"]["addedSeconds"]["p99"].as_f64().unwrap() - 0.001).abs() < 1e-9, "{json}");
    }
}
