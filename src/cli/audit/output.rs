//! Findings as text for people, and as JSON.

use std::fmt::Write as _;

use adieu_audit::{Finding, Report, Rule, Severity, Summary};
use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::{
    cli::{manifests::escaped, print},
    text::counted,
};

/// The findings by workload, the worst severity in colour on a terminal.
pub(super) fn table(report: &Report) -> String {
    let mut text = String::new();
    let mut last = None;
    for finding in &report.findings {
        let workload = (&finding.namespace, &finding.kind, &finding.name);
        if last.replace(workload) != Some(workload) {
            let gap = if text.is_empty() { "" } else { "\n" };
            // Writing to a String doesn't fail.
            let name = format!("{}/{} ({})", finding.namespace, finding.name, finding.kind);
            let _ = writeln!(text, "{gap}{}", escaped(&name));
        }
        let _ = writeln!(text, "{}", line(finding));
    }
    let Summary { workloads, with_findings, errors, warnings, suppressed } = report.summary();
    let gap = if text.is_empty() { "" } else { "\n" };
    let suppressed = if suppressed == 0 { String::new() } else { format!(", {suppressed} suppressed") };
    let _ = writeln!(
        text,
        "{gap}{} audited, {with_findings} with findings: {}, {}{suppressed}",
        counted(workloads, "workload"),
        counted(errors, "error"),
        counted(warnings, "warning"),
    );
    text
}

fn line(finding: &Finding) -> String {
    let Finding { rule, severity, container, message, remedy, .. } = finding;
    let colour = match severity {
        Severity::Error => AnsiColor::Red,
        Severity::Warning => AnsiColor::Yellow,
    };
    let style = Style::new().fg_color(Some(colour.into()));
    let container = container.as_ref().map(|name| format!("container {name}: ")).unwrap_or_default();
    format!(
        "  {style}{:<7}{style:#}  {rule}\n           {}\n           → {}",
        severity.name(),
        escaped(&format!("{container}{message}")),
        escaped(remedy)
    )
}

#[derive(Serialize)]
struct Json<'a> {
    findings: &'a [Finding],
    summary: Summary,
}

pub(super) fn json(report: &Report) -> anyhow::Result<String> {
    print::json(&Json { findings: &report.findings, summary: report.summary() })
}

/// The rules, each with a sentence.
pub(super) fn rules() -> String {
    let width = Rule::ALL.iter().map(|rule| rule.name().len()).max().unwrap_or_default();
    let mut text = String::new();
    for rule in Rule::ALL {
        // Writing to a String doesn't fail.
        let _ = writeln!(text, "{:<width$}  {}", rule.name(), rule.summary());
    }
    text
}
