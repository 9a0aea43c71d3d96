//! Findings as a page: one file of HTML that needs nothing else.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{
    after, milliseconds,
    plot::{self, Error},
    table,
};
use crate::verify::{Findings, Recording, ties};

/// How many lost requests the page lists.
const LISTED: usize = 500;

const STYLE: &str = "\
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #ddd }
.good { color: #2b7a4b } .bad { color: #c02828 } svg { width: 100%; height: auto } ol { font-family: monospace }
.legend span { display: inline-block; margin-right: 1.2rem } .legend i { display: inline-block; width: .9em; height: .9em; margin-right: .35em }";

/// The page.
///
/// # Errors
/// Where a plot can't be drawn.
pub fn page(findings: &Findings, recording: &Recording) -> Result<String, Error> {
    let subject = &findings.subject;
    let title = format!("{} in {}: {}", subject.workload, subject.namespace, subject.disruption);
    let lost = recording.samples.iter().filter(|sample| sample.loss().is_some());
    let marks: Vec<(Duration, usize)> = lost
        .flat_map(|sample| ties(sample, &recording.lives).into_iter().map(|tie| (sample.due, tie.life)))
        .collect();
    let plots = [plot::rates(recording)?, plot::latencies(recording)?, plot::lives(recording, &marks)?];
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { "adieu verify: " (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { (subject.rate) " requests/s to " code { (subject.url) } " for " (format!("{:.1}", findings.duration_seconds)) " s" }
                (summary(findings))
                h2 { "Over time" }
                p { "The grey lines are the beginning and the end of the disruption." }
                @for plot in plots { (PreEscaped(plot)) }
                (legend())
                @if findings.pods.iter().any(|pod| pod.terminating_seconds.is_some()) { (pods(findings)) }
                @if !findings.losses.is_empty() { (losses(findings)) }
            }
        }
    };
    Ok(page.into_string())
}

fn summary(findings: &Findings) -> Markup {
    let (requests, latency) = (&findings.requests, &findings.latency_seconds);
    let verdict = if findings.nothing_is_lost() { "good" } else { "bad" };
    html! {
        p class=(verdict) {
            strong { (requests.lost) " of " (requests.sent) " requests were lost" }
            @if requests.not_sent > 0 { ", and " (requests.not_sent) " more were due and not sent" }
        }
        @if let Some(why) = &findings.incomplete { p class="bad" { "The run didn't come to its end: " (why) } }
        table {
            @for (cause, count) in &findings.causes { tr { th { (cause) } td { (count) } } }
            tr {
                th { "latency" }
                td {
                    "p50 " (milliseconds(latency.p50)) ", p90 " (milliseconds(latency.p90))
                    ", p99 " (milliseconds(latency.p99)) ", p99.9 " (milliseconds(latency.p999))
                    ", slowest " (milliseconds(latency.max))
                }
            }
            @if let Some(worst) = &findings.worst {
                tr { th { "worst moment" } td { (format!("at {:.2} s: ", worst.at_seconds)) (worst.explanation) } }
            }
            @if let Some(drain) = &findings.drain {
                tr { th { "drain" } td { (drain.headline()) ", " (drain.certainty) br; (drain.advice) } }
            }
        }
    }
}

fn legend() -> Markup {
    html! {
        p class="legend" {
            @for (meaning, colour) in plot::LEGEND {
                span { i style=(format!("background: rgb({} {} {})", colour.0, colour.1, colour.2)) {} (meaning) }
            }
        }
    }
}

fn pods(findings: &Findings) -> Markup {
    html! {
        h2 { "Pods that terminated" }
        p { "Times count from the start of a pod's termination." }
        table {
            tr {
                @for head in ["pod", "node", "endpoint not ready", "last request", "gone", "answered", "lost", "perhaps lost"] {
                    th { (head) }
                }
            }
            @for pod in findings.pods.iter().filter(|pod| pod.terminating_seconds.is_some()) {
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

fn losses(findings: &Findings) -> Markup {
    html! {
        h2 { "Lost requests" }
        ol { @for loss in findings.losses.iter().take(LISTED) { li { (table::line(loss)) } } }
        @if findings.losses.len() > LISTED { p { "… and " (findings.losses.len() - LISTED) " more" } }
    }
}
