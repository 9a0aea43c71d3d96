//! The commands of adieu that are measured: their arguments, and what their reports have.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::kubectl::NAMESPACE;
use crate::command;
use crate::progress::Step;
use crate::target::Target;

/// The policy that a calibration writes.
pub const POLICY: &str = "adieu-bench-drain";

/// The time that the load continues after a rollout.
const AFTER: &str = "10s";
/// The longest time for which a deleted canary is observed: more than the slowest way needs.
const WINDOW: &str = "60s";
/// A second of requests from a pod. Connections of the node itself that are rejected, before kube-proxy knows the
/// Service, stay in connection tracking for minutes.
const PROBE_LOAD: [&str; 7] = ["--in-cluster", "--disrupt", "none", "--rate", "100", "--duration", "1s"];

/// adieu's command line.
pub struct Adieu<'a> {
    /// The cluster.
    pub target: &'a Target,
    program: PathBuf,
}

/// Requests of a load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// Sent.
    pub sent: u64,
    /// Without an answer, or with a status of 500 or more.
    pub lost: u64,
    /// Due, but not sent.
    #[serde(default, skip_serializing)]
    pub not_sent: u64,
}

/// What a calibration found.
#[derive(Debug, PartialEq, Eq)]
pub struct Calibrated {
    /// The drain of the exposure that needs the longest.
    pub seconds: u64,
    /// What the drain doesn't cover, as sentences.
    pub findings: Vec<String>,
}

/// What a search for the shortest drain found.
#[derive(Debug, PartialEq, Eq)]
pub struct Tuned {
    /// The shortest drain that lost nothing.
    pub seconds: u64,
    /// Whether a shorter one did, and this one nothing in all repeats.
    pub is_confirmed: bool,
}

/// The output of `adieu verify -o json`.
#[derive(Deserialize)]
struct VerificationReport {
    requests: Requests,
    incomplete: Option<String>,
}

/// The output of `adieu verify --tune -o json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TuningReport {
    shortest_seconds: Option<u64>,
    is_confirmed: bool,
    certainty: String,
    incomplete: Option<String>,
}

/// The output of `adieu calibrate -o json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CalibrationReport {
    ways: Vec<CalibratedWay>,
    incomplete: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CalibratedWay {
    exposure: String,
    drain_seconds: Option<u64>,
    findings: Vec<String>,
}

impl<'a> Adieu<'a> {
    /// The binary `program`, for this cluster.
    pub fn new(target: &'a Target, program: PathBuf) -> Self {
        Self { target, program }
    }

    /// Calibrates the ways of these arguments, and writes the drains to [`POLICY`].
    pub fn calibrate(&self, ways: &[String], terminations: u32) -> Result<Calibrated> {
        let mut adieu = self.target.command(&self.program);
        adieu.args(["calibrate", "--namespace", NAMESPACE, "--yes", "--output", "json"]);
        adieu.args(["--apply", "--policy", POLICY, "--window", WINDOW]);
        adieu.args(["--terminations", &terminations.to_string()]).args(ways);
        let report: CalibrationReport =
            self.report("calibrate", format!("calibrating with {terminations} terminations"), &mut adieu)?;
        report.calibrated()
    }

    /// Finds the shortest drain that loses nothing, up to `longest` seconds.
    pub fn tune(&self, url: &str, longest: u64) -> Result<Tuned> {
        let longest = longest.to_string();
        let mut adieu = self.verify(url, &["--tune", "--tune-max", &longest, "--duration", AFTER]);
        let report: TuningReport =
            self.report("tune", "searching for the shortest drain".to_owned(), &mut adieu)?;
        report.tuned()
    }

    /// Restarts the application under a load of `rate` requests per second.
    pub fn rollout(&self, url: &str, rate: u32) -> Result<Requests> {
        let mut adieu = self.verify(url, &["--rate", &rate.to_string(), "--duration", AFTER]);
        let report: VerificationReport =
            self.report("verify", "rolling out under load".to_owned(), &mut adieu)?;
        report.complete()
    }

    /// It is an error unless requests from inside the cluster are answered.
    pub fn probe(&self, url: &str) -> Result<()> {
        let mut adieu = self.verify(url, &PROBE_LOAD);
        let report: VerificationReport =
            self.report("probe", format!("sending requests to {url}"), &mut adieu)?;
        let Requests { sent, lost, .. } = report.complete()?;
        ensure!(lost == 0, "{lost} of {sent} requests were lost");
        Ok(())
    }

    fn verify(&self, url: &str, arguments: &[&str]) -> Command {
        let mut adieu = self.target.command(&self.program);
        adieu.args(["verify", "deployment/web", "--namespace", NAMESPACE, "--yes", "--output", "json"]);
        adieu.args(["--url", url, "--pod-header", "X-Pod"]).args(arguments);
        adieu
    }

    /// Runs a command that prints JSON, with any exit status: that depends on the result.
    fn report<T: DeserializeOwned>(&self, name: &str, title: String, adieu: &mut Command) -> Result<T> {
        let log = self.target.workspace().log(&format!("drain-{name}"));
        let step = Step::start(title);
        let (status, output) = command::run_for_output(&step, adieu, &log)?;
        let report = serde_json::from_str(&output).with_context(|| {
            format!("adieu failed ({status}); the end of {}:\n{}", log.display(), command::tail(&log))
        })?;
        step.done();
        Ok(report)
    }
}

impl Requests {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            lost: self.lost + other.lost,
            not_sent: self.not_sent + other.not_sent,
        }
    }
}

impl VerificationReport {
    fn complete(self) -> Result<Requests> {
        if let Some(why) = self.incomplete {
            bail!("adieu verify is incomplete: {why}");
        }
        let not_sent = self.requests.not_sent;
        ensure!(not_sent == 0, "{not_sent} requests were due and not sent: the machine is too busy");
        Ok(self.requests)
    }
}

impl TuningReport {
    fn tuned(self) -> Result<Tuned> {
        if let Some(why) = self.incomplete {
            bail!("the search for the shortest drain is incomplete: {why}");
        }
        let seconds = self.shortest_seconds.context(self.certainty)?;
        Ok(Tuned { seconds, is_confirmed: self.is_confirmed })
    }
}

impl CalibrationReport {
    fn calibrated(self) -> Result<Calibrated> {
        if let Some(why) = self.incomplete {
            bail!("the calibration is incomplete: {why}");
        }
        let mut longest: Option<u64> = None;
        let mut findings = Vec::new();
        for way in self.ways {
            let CalibratedWay { exposure, drain_seconds, findings: found } = way;
            let seconds = drain_seconds
                .with_context(|| format!("the drain of {exposure} is unknown: {}", found.join("; ")))?;
            longest = longest.max(Some(seconds));
            findings.extend(found.iter().map(|finding| format!("{exposure}: {finding}")));
        }
        Ok(Calibrated { seconds: longest.context("no way was calibrated")?, findings })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What a report results in, or its error.
    fn read<T: DeserializeOwned, R>(report: Value, read: impl Fn(T) -> Result<R>) -> Result<R, String> {
        let report = serde_json::from_value(report).map_err(|error| error.to_string())?;
        read(report).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_exposure_that_needs_the_longest_is_calibrated() {
        let way = |exposure: &str, seconds: Option<u64>| {
            let mut way = json!({"exposure": exposure, "maxSeconds": 1.1, "findings": ["kept"]});
            if let Some(seconds) = seconds {
                way["drainSeconds"] = json!(seconds);
            }
            way
        };
        let calibrated = |report| read(report, CalibrationReport::calibrated);
        let found = calibrated(json!({"ways": [way("cluster-ip", Some(3)), way("node-port", Some(2))]}));
        let findings = ["cluster-ip: kept", "node-port: kept"].map(str::to_owned).to_vec();
        assert_eq!(found, Ok(Calibrated { seconds: 3, findings }));
        for (report, part) in [
            (json!({"ways": [way("cluster-ip", None)]}), "the drain of cluster-ip is unknown: kept"),
            (json!({"ways": []}), "no way was calibrated"),
            (json!({"ways": [], "incomplete": "the limit"}), "incomplete: the limit"),
        ] {
            assert!(calibrated(report).is_err_and(|error| error.contains(part)), "{part}");
        }
    }

    #[test]
    fn a_search_finds_a_drain_or_says_why_not() {
        let tuned = |report| read(report, TuningReport::tuned);
        let report = json!({"shortestSeconds": 2, "isConfirmed": true, "certainty": "2 s: none was lost"});
        assert_eq!(tuned(report), Ok(Tuned { seconds: 2, is_confirmed: true }));
        let none = json!({"isConfirmed": false, "certainty": "lost with every drain"});
        assert!(tuned(none).is_err_and(|error| error.contains("lost with every drain")));
        let cut = json!({"isConfirmed": false, "certainty": "", "incomplete": "interrupted"});
        assert!(tuned(cut).is_err_and(|error| error.contains("incomplete: interrupted")));
    }

    #[test]
    fn a_run_must_be_complete() {
        let complete = |report| read(report, VerificationReport::complete);
        let requests = json!({"sent": 100, "answered": 98, "lost": 2, "notSent": 0});
        let found = complete(json!({"requests": requests}));
        assert_eq!(found, Ok(Requests { sent: 100, lost: 2, not_sent: 0 }));
        assert!(complete(json!({"requests": requests, "incomplete": "the limit"})).is_err());
        assert!(complete(json!({"requests": {"sent": 1, "lost": 0, "notSent": 1}})).is_err());
    }
}
