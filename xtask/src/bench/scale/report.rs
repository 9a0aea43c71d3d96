//! The figures, and the limits for adieu.

use std::fmt::{self, Display, Formatter};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Result, ensure};

use serde_json::{Value, json};

use super::deployments::PODS_EACH;
use super::fleet::LoopResult;
use super::operator::InjectionRun;
use crate::figures::Figures;

/// The memory limit of a replica, in MiB.
pub const MEMORY: f64 = 60.0;
/// The minimal rate, as a share of that of the operator's loop.
const RATE: f64 = 0.8;
/// Fewer requests per Deployment are not listed.
const FREQUENT: f64 = 0.01;
pub const MIB: f64 = 1024.0 * 1024.0;

/// The figures at each size.
pub struct Report {
    pub stages: Vec<Stage>,
}

/// The figures at one size.
pub struct Stage {
    pub deployments: u32,
    pub injection: InjectionRun,
    /// The administrator's loops.
    pub plain: LoopResults,
    /// The operator's loops.
    pub guarded: LoopResults,
}

/// The rounds of a loop.
#[derive(Debug, Default)]
pub struct LoopResults(pub Vec<LoopResult>);

impl LoopResults {
    /// Deployments per second, over all rounds.
    fn rate(&self) -> f64 {
        let deployments = self.0.iter().map(|round| round.deployments).sum();
        LoopResult { deployments, took: self.0.iter().map(|round| round.took).sum::<Duration>() }.rate()
    }
}

/// The rate, with the slowest and the fastest round.
impl Display for LoopResults {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rates = || self.0.iter().map(LoopResult::rate);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        write!(f, "{:.1}/s ({least:.0} to {most:.0})", self.rate())
    }
}

impl Stage {
    /// Deployments per second.
    fn rate(&self) -> f64 {
        f64::from(self.deployments) / self.injection.patching.as_secs_f64()
    }

    /// The rate relative to that of the loops.
    fn ratio(&self, to: &LoopResults) -> f64 {
        self.rate() / to.rate()
    }

    fn mib(&self) -> f64 {
        self.injection.memory / MIB
    }

    fn each(&self, requests: u32) -> f64 {
        f64::from(requests) / f64::from(self.deployments)
    }

    fn json(&self) -> Value {
        json!({
            "deployments": self.deployments,
            "memoryBytes": self.injection.memory,
            "convergedSeconds": self.injection.evaluated.as_secs_f64(),
            "deploymentsPerSecond": self.rate(),
            "loopAsOperatorPerSecond": self.guarded.rate(),
            "loopOfAnybodyPerSecond": self.plain.rate(),
            "requests": self.injection.requests,
        })
    }

    /// Frequent requests, per Deployment.
    fn breakdown(&self) -> String {
        let frequent = self.injection.requests.iter().filter(|(_, count)| self.each(**count) >= FREQUENT);
        frequent
            .map(|(request, count)| format!("{request} {:.2}", self.each(*count)))
            .collect::<Vec<_>>()
            .join(", ")
    }
}

impl Report {
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::new([
            "Deployments",
            "pods",
            "memory of a replica",
            "all injected after",
            "Deployments/s",
            "operator's loop",
            "ratio",
            "administrator's loop",
            "ratio",
            "requests per Deployment",
        ]);
        for stage in &self.stages {
            let Stage { deployments, injection, .. } = stage;
            figures.row([
                deployments.to_string(),
                (u64::from(*deployments) * u64::from(PODS_EACH.unsigned_abs())).to_string(),
                format!("{:.1} MiB", stage.mib()),
                format!("{:.1} s", injection.evaluated.as_secs_f64()),
                format!("{:.1}", stage.rate()),
                stage.guarded.to_string(),
                format!("{:.2}", stage.ratio(&stage.guarded)),
                stage.plain.to_string(),
                format!("{:.2}", stage.ratio(&stage.plain)),
                format!("{:.2}", stage.each(injection.requests.values().sum())),
            ]);
        }
        if let Some(last) = self.stages.last() {
            figures.remarks.push(format!(
                "Of the requests for each of {} Deployments: {}.",
                last.deployments,
                last.breakdown()
            ));
        }
        let cores = available_parallelism().map_or(1, usize::from);
        figures.remarks.push(format!(
            "{cores} cores for everything. Limits: at most {MEMORY} MiB for a replica, and a rate of at least {RATE} of \
             the operator's loop."
        ));
        figures
    }

    /// The figures as JSON.
    pub fn json(&self) -> Value {
        json!({"by": "annotation", "stages": self.stages.iter().map(Stage::json).collect::<Vec<_>>()})
    }

    /// It is an error if adieu misses a limit.
    pub fn verdict(&self) -> Result<()> {
        self.verdict_of(|stage| stage.mib() > MEMORY || stage.ratio(&stage.guarded) < RATE)
    }

    /// The same for memory alone, which does not depend on the load of the machine.
    pub fn verdict_of_memory(&self) -> Result<()> {
        self.verdict_of(|stage| stage.mib() > MEMORY)
    }

    fn verdict_of(&self, misses: impl Fn(&Stage) -> bool) -> Result<()> {
        let missed = self.stages.iter().filter(|stage| misses(stage)).map(|stage| {
            format!(
                "with {} Deployments: {:.1} MiB, {:.2} of the operator's loop",
                stage.deployments,
                stage.mib(),
                stage.ratio(&stage.guarded)
            )
        });
        let missed: Vec<_> = missed.collect();
        ensure!(missed.is_empty(), "adieu misses a limit: {}", missed.join("; "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(mib: f64, seconds: u64) -> Report {
        let injection = InjectionRun {
            evaluated: Duration::from_secs(seconds + 5),
            patching: Duration::from_secs(seconds),
            requests: [("patch deployments".to_owned(), 200), ("list nodes".to_owned(), 0)].into(),
            memory: mib * MIB,
        };
        let of = |deployments| {
            let round = |seconds| LoopResult { deployments, took: Duration::from_secs(seconds) };
            LoopResults(vec![round(1), round(2)])
        };
        Report { stages: vec![Stage { deployments: 100, injection, plain: of(200), guarded: of(75) }] }
    }

    #[test]
    fn a_missed_limit_is_an_error() {
        assert!(report(60.0, 2).verdict().is_ok());
        let missed = |report: Report| report.verdict().unwrap_err().to_string();
        assert!(missed(report(60.1, 2)).contains("60.1 MiB"));
        assert!(missed(report(60.0, 3)).contains("0.67 of the operator's loop"));
        assert!(report(60.0, 3).verdict_of_memory().is_ok());
        assert!(report(60.1, 2).verdict_of_memory().is_err());
        let stage = &report(60.0, 2).stages[0];
        assert_eq!(stage.breakdown(), "patch deployments 2.00");
        assert_eq!(stage.guarded.to_string(), "50.0/s (38 to 75)");
    }
}
