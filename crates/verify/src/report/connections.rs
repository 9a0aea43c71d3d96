//! The part of a report about connections that stay open.

use std::fmt::{self, Write as _};

use maud::{Markup, html};

use crate::verify::{ConnectionFinding, ConnectionReport, ConnectionsOfKind};

/// Writes it as text.
pub(super) fn write(report: &ConnectionReport, text: &mut String) -> fmt::Result {
    let mut heading = "idle";
    for sentence in idle(report) {
        writeln!(text, "  {heading:<10}{sentence}")?;
        heading = "";
    }
    heading = "kept";
    for ended in &report.terminations {
        writeln!(text, "  {heading:<10}{}", line(ended))?;
        heading = "";
    }
    for finding in &report.findings {
        writeln!(text, "  {:<10}{}", label(finding), finding.message)?;
        for remedy in &finding.remedies {
            writeln!(text, "            {:<9}{}", remedy.server, remedy.text)?;
        }
    }
    Ok(())
}

/// Renders it as a section of the page.
pub(super) fn section(report: &ConnectionReport) -> Markup {
    html! {
        h2 { "Connections that stay open" }
        @for sentence in idle(report) { p { (sentence) } }
        @if !report.terminations.is_empty() {
            p { "When their pod terminated:" }
            ul { @for ended in &report.terminations { li { (line(ended)) } } }
        }
        @for finding in &report.findings {
            p class=[finding.is_problem.then_some("bad")] { strong { (label(finding)) ": " } (finding.message) }
            @if !finding.remedies.is_empty() {
                table {
                    @for remedy in &finding.remedies { tr { th { (remedy.server) } td { (remedy.text) } } }
                }
            }
        }
    }
}

/// Sentences about idle connections.
fn idle(report: &ConnectionReport) -> Vec<String> {
    let Some(keep_alive) = &report.keep_alive else { return vec![] };
    let balancers = report.load_balancers.iter().map(|balancer| {
        format!("{} keeps them for {:.0} s ({})", balancer.name, balancer.idle_seconds, balancer.source)
    });
    [keep_alive.sentence()].into_iter().chain(balancers).collect()
}

fn line(ended: &ConnectionsOfKind) -> String {
    let ConnectionsOfKind { kind, behavior, connections, .. } = ended;
    format!("{kind}: {connections} {}, {}", behavior.text(*kind), ended.when())
}

fn label(finding: &ConnectionFinding) -> &'static str {
    if finding.is_problem { "problem" } else { "note" }
}
