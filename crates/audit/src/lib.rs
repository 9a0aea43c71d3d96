//! Audits workloads: which of them lose requests, or are killed, when their pods terminate. Pure: no client, no clock, no
//! async.
//!
//! [`Inventory`] collects the objects, of manifests or of a cluster, and [`audit`] applies every [`Rule`] to each
//! workload, as adieu injects it.

#![deny(clippy::disallowed_methods)]

mod budget;
mod container;
mod finding;
mod images;
mod inventory;
mod limits;
mod load_balancer;
mod options;
mod pod;
mod rule;
mod rules;
#[cfg(test)]
mod severity_tests;
mod shell;
mod subject;
mod suppression;

use adieu_core::api::annotations::AUDIT_IGNORE;

pub use self::{
    finding::{Finding, Report, Severity, Summary},
    inventory::Inventory,
    limits::{InvalidLimit, Limit},
    options::Options,
    rule::Rule,
};

/// Applies every rule to each workload. Findings are ordered by namespace, kind, name, rule and path.
#[must_use]
pub fn audit(inventory: &Inventory, options: &Options) -> Report {
    let mut report = Report::default();
    for workload in inventory.workloads() {
        let subject = subject::Subject::new(inventory, workload, options);
        report.workloads += 1;
        let annotations = workload.annotations();
        for finding in rules::findings(&subject) {
            match suppression::reason(&annotations, finding.rule) {
                Some(_) => report.suppressed += 1,
                None => report.findings.push(finding),
            }
        }
        report.warnings.extend(suppression::invalid(&annotations).map(|invalid| {
            format!(
                "{} {}/{}: annotation {AUDIT_IGNORE}: {invalid}",
                workload.kind, workload.namespace, workload.name
            )
        }));
    }
    report.findings.sort_by(|a, b| a.order().cmp(&b.order()));
    report
}
