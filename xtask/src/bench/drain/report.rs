//! The figures, and the limits for adieu.

use anyhow::{Result, bail};
use serde::Serialize;

use super::commands::Requests;
use crate::figures::Figures;

/// The longest drain that adieu may choose, in halves of the shortest one.
const HALVES: u64 = 3;

/// The figures of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Each way that was measured.
    pub ways: Vec<WayReport>,
    /// Why others were not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<String>,
}

/// The figures of a way. Drains are in seconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WayReport {
    /// Its name.
    pub way: &'static str,
    /// The shortest drain that lost no request, if it was searched for.
    pub shortest: Option<u64>,
    /// Whether a shorter one lost requests, and that one none in all repeats.
    pub is_confirmed: bool,
    /// The drain that the calibration found.
    pub calibrated: u64,
    /// The rollouts after the calibration.
    #[serde(flatten)]
    pub after: Phase,
    /// Those before it.
    pub before: Phase,
    /// What else the calibration found.
    pub findings: Vec<String>,
}

/// Some rollouts with the same drain.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// The drain that adieu chose.
    pub auto: u64,
    /// How many rollouts.
    pub rollouts: u32,
    /// How many of them lost no request.
    pub lossless: u32,
    /// The requests of all of them.
    #[serde(flatten)]
    pub requests: Requests,
}

impl Phase {
    /// Adds a rollout with these requests.
    pub fn add(&mut self, requests: Requests) {
        self.rollouts += 1;
        self.lossless += u32::from(requests.lost == 0);
        self.requests = self.requests.and(requests);
    }
}

impl WayReport {
    /// What adieu missed.
    pub fn missed(&self) -> Vec<String> {
        let Self { way, shortest, before, after, .. } = self;
        let mut missed = Vec::new();
        for (when, phase) in [("before", before), ("after", after)] {
            let Phase { auto, rollouts, lossless, requests: Requests { sent, lost, .. } } = phase;
            if *lost > 0 {
                missed.push(format!(
                    "{way}: {lost} of {sent} requests were lost {when} the calibration, with a drain of \
                     {auto} s, in {} of {rollouts} rollouts",
                    rollouts - lossless
                ));
            }
        }
        let auto = after.auto;
        match shortest {
            Some(shortest) if auto < *shortest => {
                missed
                    .push(format!("{way}: adieu chose {auto} s, less than the {shortest} s that are needed"));
            }
            Some(shortest) if auto * 2 > shortest * HALVES => {
                missed.push(format!(
                    "{way}: adieu chose {auto} s, more than 1.5 times the {shortest} s that are needed"
                ));
            }
            _ => {}
        }
        missed
    }
}

impl Report {
    /// It is an error if adieu missed a limit, or a way was not measured.
    pub fn verdict(&self) -> Result<()> {
        let missed = self.ways.iter().flat_map(WayReport::missed);
        let all: Vec<_> = missed.chain(self.failures.iter().cloned()).collect();
        if !all.is_empty() {
            bail!("{}", all.join("; "));
        }
        Ok(())
    }

    /// The figures as a table.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::new([
            "way",
            "shortest drain",
            "calibrated",
            "chosen before",
            "chosen after",
            "lost before",
            "lost after",
            "rollouts without loss",
        ]);
        for way in &self.ways {
            let WayReport { before, after, .. } = way;
            let seconds = |seconds: u64| format!("{seconds} s");
            let lost = |Phase { requests, .. }: &Phase| format!("{} of {}", requests.lost, requests.sent);
            let shortest = match way.shortest {
                Some(shortest) if way.is_confirmed => seconds(shortest),
                Some(shortest) => format!("at most {shortest} s"),
                None => String::new(),
            };
            figures.row([
                way.way.to_owned(),
                shortest,
                seconds(way.calibrated),
                seconds(before.auto),
                seconds(after.auto),
                lost(before),
                lost(after),
                format!("{} of {}", after.lossless, after.rollouts),
            ]);
        }
        figures.remarks.push(
            "After the calibration the chosen drain must be at least the shortest, and at most 1.5 times as \
             long. No request may be lost, before or after it."
                .to_owned(),
        );
        let missed: Vec<_> = self.ways.iter().flat_map(WayReport::missed).collect();
        let all = missed.iter().chain(&self.failures).map(|missed| format!("Missed: {missed}."));
        figures.remarks.extend(all);
        figures
    }
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
