//! Rows of docs/scenarios.md.

use super::load::Report;
use crate::figures::{keep, say};

/// What was done to a scenario's application, without adieu or with it, and what became of the requests.
pub fn figure(scenario: &str, what: &str, adieu: &str, report: &Report, found: &str) {
    for loss in report.lost.iter().take(20) {
        say(&format!("{scenario}, {adieu} adieu: lost {loss}"));
    }
    row(scenario, what, adieu, report.requests, report.lost(), found);
}

/// The same, where somebody else counted.
pub fn row(scenario: &str, what: &str, adieu: &str, requests: usize, lost: usize, found: &str) {
    say(&format!("{scenario}: {what}, {adieu} adieu: {lost} of {requests} lost; {found}"));
    keep("scenarios", &[scenario, what, adieu, &requests.to_string(), &lost.to_string(), found]);
}
