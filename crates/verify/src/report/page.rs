//! The report as a self-contained HTML page.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use plotters::style::RGBColor;

use super::{
    connections,
    format::{after, milliseconds},
    plot::{self, Error},
    table,
};
use crate::verify::{Recording, VerificationReport, attributions};

/// How many lost requests the page lists.
const MAX_LISTED: usize = 500;

const STYLE: &str = "\
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; overflow-wrap: anywhere;
  max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #ddd }
.good { color: #2b7a4b } .bad { color: #c02828 } svg { width: 100%; height: auto }
th { overflow-wrap: normal } .wide { overflow-x: auto } .wide svg { min-width: 44rem } .wide td { min-width: 4rem }
.wide td:first-child { min-width: 10rem }
ol { font-family: monospace }
.legend span { display: inline-block; margin-right: 1.2rem } .legend i { display: inline-block; width: .9em; height: .9em; margin-right: .35em }";

/// Renders the page.
///
/// # Errors
/// A plot can't be drawn.
pub fn page(report: &VerificationReport, recording: &Recording) -> Result<String, Error> {
    let run = &report.run;
    let title = format!("{} in {}: {}", run.workload, run.namespace, run.disruption);
    let lost = recording.samples.iter().filter(|sample| sample.loss().is_some());
    let marks: Vec<(Duration, usize)> = lost
        .flat_map(|sample| {
            attributions(sample, &recording.timelines)
                .into_iter()
                .map(|attribution| (sample.due, attribution.index))
        })
        .collect();
    let plots = [plot::rates(recording)?, plot::latencies(recording)?, plot::pods(recording, &marks)?];
    let content = html! {
        p { (run.rate) " requests/s to " code { (run.url) } " for " (format!("{:.1}", report.duration_seconds)) " s" }
        (summary(report))
        h2 { "Over time" }
        p { "The grey lines are the beginning and the end of the disruption." }
        div class="wide" { @for plot in plots { (PreEscaped(plot)) } }
        (legend(&plot::LEGEND))
        @if report.pods.iter().any(|pod| pod.terminating_seconds.is_some()) { (pods(report)) }
        @if let Some(found) = &report.connections { (connections::section(found)) }
        @if !report.losses.is_empty() { (losses(report)) }
    };
    Ok(document("verify", &title, &content))
}

/// A whole page of a command.
pub(super) fn document(command: &str, title: &str, content: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "adieu " (command) ": " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                (content)
            }
        }
    };
    page.into_string()
}

fn summary(report: &VerificationReport) -> Markup {
    let (requests, latency) = (&report.requests, &report.latency_seconds);
    let verdict = if report.is_lossless() { "good" } else { "bad" };
    html! {
        p class=(verdict) {
            strong { (requests.lost) " of " (requests.sent) " requests were lost" }
            @if requests.not_sent > 0 { ", and " (requests.not_sent) " more were due and not sent" }
        }
        @if let Some(why) = &report.incomplete { p class="bad" { "The run is incomplete: " (why) } }
        table {
            @for (cause, count) in &report.causes { tr { th { (cause) } td { (count) } } }
            tr {
                th { "latency" }
                td {
                    "p50 " (milliseconds(latency.p50)) ", p90 " (milliseconds(latency.p90))
                    ", p99 " (milliseconds(latency.p99)) ", p99.9 " (milliseconds(latency.p999))
                    ", slowest " (milliseconds(latency.max))
                }
            }
            @if let Some(worst) = &report.worst {
                tr { th { "worst moment" } td { (format!("at {:.2} s: ", worst.at_seconds)) (worst.explanation) } }
            }
            @if let Some(drain) = &report.drain {
                tr { th { "drain" } td { (drain.headline()) ", " (drain.certainty) br; (drain.advice) } }
            }
        }
    }
}

/// The meaning of each colour.
pub(super) fn legend(colours: &[(&str, RGBColor)]) -> Markup {
    html! {
        p class="legend" {
            @for (meaning, colour) in colours {
                span { i style=(format!("background: rgb({} {} {})", colour.0, colour.1, colour.2)) {} (meaning) }
            }
        }
    }
}

fn pods(report: &VerificationReport) -> Markup {
    html! {
        h2 { "Pods that terminated" }
        p { "Times count from the start of a pod's termination." }
        div class="wide" {
            table {
                tr {
                    @for head in ["pod", "node", "endpoint not ready", "last request", "deleted", "answered", "lost", "perhaps lost"] {
                        th { (head) }
                    }
                }
                @for pod in report.pods.iter().filter(|pod| pod.terminating_seconds.is_some()) {
                    tr {
                        td { (pod.name) }
                        td { (pod.node.as_deref().unwrap_or_default()) }
                        td { (after(pod.endpoint_not_ready_after_seconds)) }
                        td { (after(pod.last_request_after_seconds)) }
                        td { (after(pod.gone_after_seconds)) }
                        td { (pod.answered) }
                        td { (pod.lost) }
                        td { (pod.perhaps_lost) }
                    }
                }
            }
        }
    }
}

fn losses(report: &VerificationReport) -> Markup {
    html! {
        h2 { "Lost requests" }
        ol { @for loss in report.losses.iter().take(MAX_LISTED) { li { (table::line(loss)) } } }
        @if report.losses.len() > MAX_LISTED { p { "… and " (report.losses.len() - MAX_LISTED) " more" } }
    }
}
