//! Findings for a terminal.

use std::fmt::{self, Write as _};

use comfy_table::{Table, presets};

use super::{after, milliseconds};
use crate::verify::{Findings, Loss, Requests};

/// How many lost requests are listed one by one.
const LISTED: usize = 10;

/// Findings as text, with a newline at the end.
#[must_use]
pub fn table(findings: &Findings) -> String {
    let mut text = String::new();
    // Writing to a String doesn't fail.
    let _ = write(findings, &mut text);
    text
}

fn write(findings: &Findings, text: &mut String) -> fmt::Result {
    let Findings { subject, requests, latency_seconds: latency, .. } = findings;
    let Requests { sent, answered, lost, not_sent } = requests;
    writeln!(
        text,
        "{} in {}, {}: {} requests/s to {} for {:.1} s\n",
        subject.workload,
        subject.namespace,
        disruption(findings),
        subject.rate,
        subject.url,
        findings.duration_seconds
    )?;
    writeln!(text, "  requests  {sent} sent, {answered} answered, {lost} lost")?;
    if *not_sent > 0 {
        writeln!(
            text,
            "            {not_sent} more were due and not sent: too many were waiting for answers"
        )?;
    }
    if *lost > 0 {
        let causes: Vec<_> =
            findings.causes.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        writeln!(text, "  causes    {}", causes.join(", "))?;
    }
    let [p50, p90, p99, p999, max] =
        [latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(milliseconds);
    writeln!(text, "  latency   p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, slowest {max}")?;
    if let Some(worst) = &findings.worst {
        writeln!(text, "  worst     at {:.2} s: {}", worst.at_seconds, worst.explanation)?;
    }
    if findings.pods.iter().any(|pod| pod.terminating_seconds.is_some()) {
        writeln!(text, "\n{}", pods(findings))?;
    }
    if *lost > 0 {
        writeln!(text, "\n  lost requests, from the start of the load")?;
        findings.losses.iter().take(LISTED).try_for_each(|loss| writeln!(text, "    {}", line(loss)))?;
        if findings.losses.len() > LISTED {
            writeln!(text, "    … and {} more: -o json has them all", findings.losses.len() - LISTED)?;
        }
    }
    if let Some(drain) = &findings.drain {
        writeln!(text, "\n  drain     {}, {}", drain.headline(), drain.certainty)?;
        writeln!(text, "            {}", drain.advice)?;
    }
    if let Some(why) = &findings.incomplete {
        writeln!(text, "\n  The run didn't come to its end: {why}")?;
    }
    Ok(())
}

fn disruption(findings: &Findings) -> String {
    let what = &findings.subject.disruption;
    match (findings.disruption_at_seconds, findings.disruption_took_seconds) {
        (Some(at), Some(took)) => format!("{what} at {at:.1} s, complete after {took:.1} s"),
        _ => "watched only".to_owned(),
    }
}

/// The pods that terminated, in times from the start of their termination.
fn pods(findings: &Findings) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "terminated pod",
        "at",
        "endpoint not ready",
        "last request",
        "gone",
        "answered",
        "lost",
        "perhaps lost",
    ]);
    for pod in &findings.pods {
        let Some(terminating) = pod.terminating_seconds else { continue };
        table.add_row([
            pod.name.clone(),
            format!("{terminating:.2} s"),
            after(pod.endpoint_not_ready_after_seconds),
            after(pod.last_request_after_seconds),
            after(pod.gone_after_seconds),
            pod.answered.to_string(),
            pod.lost.to_string(),
            pod.perhaps_lost.to_string(),
        ]);
    }
    table
}

/// A lost request: when, why and where.
pub(super) fn line(loss: &Loss) -> String {
    let pods: Vec<_> = loss
        .pods
        .iter()
        .map(|tie| match tie.after_termination_seconds {
            Some(seconds) => format!("{} {}", tie.pod, after(Some(seconds))),
            None => tie.pod.clone(),
        })
        .collect();
    let place = match loss.pods.as_slice() {
        [] => "no pod was terminating".to_owned(),
        [tie] if tie.exact => format!("at {}", pods.join("")),
        [_] => format!("perhaps at {}", pods.join("")),
        _ => format!("at one of {}", pods.join(", ")),
    };
    format!("{:>7.2} s  {} after {:.2} s; {place}", loss.at_seconds, loss.cause, loss.took_seconds)
}
