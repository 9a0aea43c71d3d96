//! The figures, and whether adieu meets its bars.

use std::fmt::{self, Display, Formatter};
use std::thread::available_parallelism;
use std::time::Duration;

use anyhow::{Result, ensure};

use serde_json::{Value, json};

use super::field::{Loop, PODS_EACH};
use super::operator::Course;
use crate::figures::Figures;

/// Most memory of a replica, in MiB.
pub const MEMORY: f64 = 60.0;
/// Least rate, as a share of what the bare loop does as the operator.
const RATE: f64 = 0.8;
/// Fewer requests for each Deployment aren't worth a mention.
const MANY: f64 = 0.01;
pub const MIB: f64 = 1024.0 * 1024.0;

/// What was measured at each size.
pub struct Report {
    pub stages: Vec<Stage>,
}

/// What was measured at one size.
pub struct Stage {
    pub deployments: u32,
    pub course: Course,
    /// The loops of somebody whom the guard doesn't concern.
    pub bare: Loops,
    /// Those of the operator's account.
    pub guarded: Loops,
}

/// The same loop, several times.
#[derive(Debug, Default)]
pub struct Loops(pub Vec<Loop>);

impl Loops {
    /// Deployments a second, over all rounds.
    fn rate(&self) -> f64 {
        let deployments = self.0.iter().map(|round| round.deployments).sum();
        Loop { deployments, took: self.0.iter().map(|round| round.took).sum::<Duration>() }.rate()
    }
}

/// The rate, and those of the slowest and the fastest round.
impl Display for Loops {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rates = || self.0.iter().map(Loop::rate);
        let (least, most) = (rates().fold(f64::INFINITY, f64::min), rates().fold(0.0, f64::max));
        write!(f, "{:.1}/s ({least:.0} to {most:.0})", self.rate())
    }
}

impl Stage {
    /// Deployments a second.
    fn rate(&self) -> f64 {
        f64::from(self.deployments) / self.course.patching.as_secs_f64()
    }

    /// Of what those loops do.
    fn ratio(&self, to: &Loops) -> f64 {
        self.rate() / to.rate()
    }

    fn mib(&self) -> f64 {
        self.course.memory / MIB
    }

    fn each(&self, requests: u32) -> f64 {
        f64::from(requests) / f64::from(self.deployments)
    }

    fn json(&self) -> Value {
        json!({
            "deployments": self.deployments,
            "memoryBytes": self.course.memory,
            "convergedSeconds": self.course.evaluated.as_secs_f64(),
            "deploymentsPerSecond": self.rate(),
            "loopAsOperatorPerSecond": self.guarded.rate(),
            "loopOfAnybodyPerSecond": self.bare.rate(),
            "requests": self.course.requests,
        })
    }

    /// The requests of which there were many, for each Deployment.
    fn breakdown(&self) -> String {
        let many = self.course.requests.iter().filter(|(_, count)| self.each(**count) >= MANY);
        many.map(|(request, count)| format!("{request} {:.2}", self.each(*count)))
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
            "all brought in after",
            "Deployments/s",
            "loop as the operator",
            "ratio",
            "loop of anybody",
            "ratio",
            "requests per Deployment",
        ]);
        for stage in &self.stages {
            let Stage { deployments, course, .. } = stage;
            figures.row([
                deployments.to_string(),
                (u64::from(*deployments) * u64::from(PODS_EACH.unsigned_abs())).to_string(),
                format!("{:.1} MiB", stage.mib()),
                format!("{:.1} s", course.evaluated.as_secs_f64()),
                format!("{:.1}", stage.rate()),
                stage.guarded.to_string(),
                format!("{:.2}", stage.ratio(&stage.guarded)),
                stage.bare.to_string(),
                format!("{:.2}", stage.ratio(&stage.bare)),
                format!("{:.2}", stage.each(course.requests.values().sum())),
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
            "{cores} cores, on which everything ran. Bars: a replica has {MEMORY} MiB at most, and the rate is at \
             least {RATE} of the loop's that runs as the operator."
        ));
        figures
    }

    /// The figures for programs.
    pub fn json(&self) -> Value {
        json!({"by": "annotation", "stages": self.stages.iter().map(Stage::json).collect::<Vec<_>>()})
    }

    /// An error that names the bars that are missed.
    pub fn verdict(&self) -> Result<()> {
        self.verdict_of(|stage| stage.mib() > MEMORY || stage.ratio(&stage.guarded) < RATE)
    }

    /// The same of memory alone, where the machine may have something else to do.
    pub fn verdict_of_memory(&self) -> Result<()> {
        self.verdict_of(|stage| stage.mib() > MEMORY)
    }

    fn verdict_of(&self, misses: impl Fn(&Stage) -> bool) -> Result<()> {
        let missed = self.stages.iter().filter(|stage| misses(stage)).map(|stage| {
            format!(
                "with {} Deployments: {:.1} MiB, {:.2} of the loop that runs as the operator",
                stage.deployments,
                stage.mib(),
                stage.ratio(&stage.guarded)
            )
        });
        let missed: Vec<_> = missed.collect();
        ensure!(missed.is_empty(), "adieu misses a bar: {}", missed.join("; "));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(mib: f64, seconds: u64) -> Report {
        let course = Course {
            evaluated: Duration::from_secs(seconds + 5),
            patching: Duration::from_secs(seconds),
            requests: [("patch deployments".to_owned(), 200), ("list nodes".to_owned(), 0)].into(),
            memory: mib * MIB,
        };
        let of = |deployments| {
            let round = |seconds| Loop { deployments, took: Duration::from_secs(seconds) };
            Loops(vec![round(1), round(2)])
        };
        Report { stages: vec![Stage { deployments: 100, course, bare: of(200), guarded: of(75) }] }
    }

    #[test]
    fn a_bar_that_is_missed_is_an_error_that_names_it() {
        assert!(report(60.0, 2).verdict().is_ok());
        let missed = |report: Report| report.verdict().unwrap_err().to_string();
        assert!(missed(report(60.1, 2)).contains("60.1 MiB"));
        assert!(missed(report(60.0, 3)).contains("0.67 of the loop"));
        assert!(report(60.0, 3).verdict_of_memory().is_ok());
        assert!(report(60.1, 2).verdict_of_memory().is_err());
        let stage = &report(60.0, 2).stages[0];
        assert_eq!(stage.breakdown(), "patch deployments 2.00");
        assert_eq!(stage.guarded.to_string(), "50.0/s (38 to 75)");
    }
}
