//! Rows of docs/scenarios.md.

use super::load::Report;
use crate::figures::{keep, print_line};

/// Adds a row about a scenario with or without adieu.
pub fn figure(scenario: &str, what: &str, adieu: &str, report: &Report, found: &str) {
    for loss in report.lost.iter().take(20) {
        print_line(&format!("{scenario}, {adieu} adieu: lost {loss}"));
    }
    row(scenario, what, adieu, [report.requests, report.lost()], found);
}

/// Adds a row with counts of sent and lost requests from another source.
pub fn row(scenario: &str, what: &str, adieu: &str, [requests, lost]: [usize; 2], found: &str) {
    print_line(&format!("{scenario}: {what}, {adieu} adieu: {lost} of {requests} lost; {found}"));
    keep("scenarios", &[scenario, what, adieu, &requests.to_string(), &lost.to_string(), found]);
}
