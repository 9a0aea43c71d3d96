//! The report as text.

use std::fmt::{self, Write as _};

use comfy_table::{Table, presets};

use super::{
    connections,
    format::{after, milliseconds},
};
use crate::verify::{Loss, Requests, VerificationReport};

/// How many lost requests are listed one by one.
const MAX_LISTED: usize = 10;

/// Renders the report as text, with a newline at the end.
#[must_use]
pub fn table(report: &VerificationReport) -> String {
    let mut text = String::new();
    // Writing to a String doesn't fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &VerificationReport, text: &mut String) -> fmt::Result {
    let VerificationReport { run, requests, latency_seconds: latency, .. } = report;
    let Requests { sent, answered, lost, not_sent } = requests;
    writeln!(
        text,
        "{} in {}, {}: {} requests/s to {} for {:.1} s\n",
        run.workload,
        run.namespace,
        disruption(report),
        run.rate,
        run.url,
        report.duration_seconds
    )?;
    writeln!(text, "  requests  {sent} sent, {answered} answered, {lost} lost")?;
    if *not_sent > 0 {
        writeln!(
            text,
            "            {not_sent} more were due and not sent: too many requests were in flight"
        )?;
    }
    if *lost > 0 {
        let causes: Vec<_> = report.causes.iter().map(|(cause, count)| format!("{count} {cause}")).collect();
        writeln!(text, "  causes    {}", causes.join(", "))?;
    }
    let [p50, p90, p99, p999, max] =
        [latency.p50, latency.p90, latency.p99, latency.p999, latency.max].map(milliseconds);
    writeln!(text, "  latency   p50 {p50}, p90 {p90}, p99 {p99}, p99.9 {p999}, slowest {max}")?;
    if let Some(worst) = &report.worst {
        writeln!(text, "  worst     at {:.2} s: {}", worst.at_seconds, worst.explanation)?;
    }
    if report.pods.iter().any(|pod| pod.terminating_seconds.is_some()) {
        writeln!(text, "\n{}", pods(report))?;
    }
    if *lost > 0 {
        writeln!(text, "\n  lost requests, from the start of the load")?;
        report.losses.iter().take(MAX_LISTED).try_for_each(|loss| writeln!(text, "    {}", line(loss)))?;
        if report.losses.len() > MAX_LISTED {
            writeln!(text, "    … and {} more: -o json has them all", report.losses.len() - MAX_LISTED)?;
        }
    }
    if let Some(drain) = &report.drain {
        writeln!(text, "\n  drain     {}, {}", drain.headline(), drain.certainty)?;
        writeln!(text, "            {}", drain.advice)?;
    }
    if let Some(connections) = &report.connections {
        writeln!(text)?;
        connections::write(connections, text)?;
    }
    if let Some(why) = &report.incomplete {
        writeln!(text, "\n  The run is incomplete: {why}")?;
    }
    Ok(())
}

fn disruption(report: &VerificationReport) -> String {
    let what = &report.run.disruption;
    match (report.disruption_at_seconds, report.disruption_took_seconds) {
        (Some(at), Some(took)) => format!("{what} at {at:.1} s, complete after {took:.1} s"),
        _ => "watched only".to_owned(),
    }
}

/// The pods that terminated; times are from the start of their termination.
fn pods(report: &VerificationReport) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "terminated pod",
        "at",
        "endpoint not ready",
        "last request",
        "deleted",
        "answered",
        "lost",
        "perhaps lost",
    ]);
    for pod in &report.pods {
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

/// A lost request with its time, cause and pods.
pub(super) fn line(loss: &Loss) -> String {
    let pods: Vec<_> = loss
        .pods
        .iter()
        .map(|attribution| match attribution.after_termination_seconds {
            Some(seconds) => format!("{} {}", attribution.pod, after(Some(seconds))),
            None => attribution.pod.clone(),
        })
        .collect();
    let pod = match loss.pods.as_slice() {
        [] => "no pod was terminating".to_owned(),
        [attribution] if attribution.exact => format!("at {}", pods.join("")),
        [_] => format!("perhaps at {}", pods.join("")),
        _ => format!("at one of {}", pods.join(", ")),
    };
    format!("{:>7.2} s  {} after {:.2} s; {pod}", loss.at_seconds, loss.cause, loss.took_seconds)
}
