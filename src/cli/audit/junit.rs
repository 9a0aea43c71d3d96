//! Findings as JUnit XML: a test suite for each namespace, a test for each finding.

use std::collections::BTreeMap;

use adieu_audit::{Finding, Severity};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::audited::Audited;

pub(super) fn text(audited: &Audited) -> Result<String, quick_junit::SerializeError> {
    let mut suites: BTreeMap<&str, TestSuite> = BTreeMap::new();
    for (finding, location) in audited.findings() {
        let Finding { rule, severity, kind, namespace, name, container, message, remedy, .. } = finding;
        let failure = match severity {
            Severity::Error => NonSuccessKind::Error,
            Severity::Warning => NonSuccessKind::Failure,
        };
        let container = container.as_ref().map(|name| format!("container {name}: ")).unwrap_or_default();
        let place = location.map(|(file, line)| format!("\n{file}:{line}")).unwrap_or_default();
        let mut status = TestCaseStatus::non_success(failure);
        status
            .set_type(rule.name())
            .set_message(message.clone())
            .set_description(format!("{container}{message}\n{remedy}{place}"));
        let mut case = TestCase::new(rule.name(), status);
        case.set_classname(format!("{kind}/{name}"));
        suites.entry(namespace).or_insert_with(|| TestSuite::new(namespace.as_str())).add_test_case(case);
    }
    let mut report = Report::new("adieu audit");
    report.add_test_suites(suites.into_values());
    report.to_string()
}
