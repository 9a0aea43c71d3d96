//! The findings of an audit.

use adieu_audit::{Finding, Report};

/// The findings, each with its file and line if it is of a manifest.
pub(super) struct Audited {
    pub(super) report: Report,
    pub(super) locations: Vec<Option<(String, usize)>>,
}

impl Audited {
    pub(super) fn findings(&self) -> impl Iterator<Item = (&Finding, Option<&(String, usize)>)> {
        self.report.findings.iter().zip(self.locations.iter().map(Option::as_ref))
    }
}
