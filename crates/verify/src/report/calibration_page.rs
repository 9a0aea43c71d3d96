//! A calibration as a self-contained HTML page.

use maud::{Markup, PreEscaped, html};

use super::{
    calibration_plot::{LEGEND, last_arrivals},
    page::{document, legend},
    plot::Error,
};
use crate::calibration::{CalibrationReport, WayResult};

/// Renders the page.
///
/// # Errors
/// The plot can't be drawn.
pub fn calibration_page(report: &CalibrationReport) -> Result<String, Error> {
    let title = format!("Drains measured in {}", report.namespace);
    let plot = last_arrivals(&report.ways)?;
    let content = html! {
        p {
            "Kubernetes " (report.kubernetes_version) ", " (report.time) "; " (report.rate)
            " requests/s through each way on new connections, and as many on kept ones"
        }
        @if let Some(why) = &report.incomplete { p class="bad" { "The run is incomplete: " (why) } }
        div class="wide" { (ways(&report.ways)) }
        @for way in &report.ways { (explanation(way)) }
        h2 { "Last arrivals" }
        div class="wide" { (PreEscaped(plot)) }
        (legend(&LEGEND))
    };
    Ok(document("calibrate", &title, &content))
}

fn ways(ways: &[WayResult]) -> Markup {
    let heads = ["way", "terminations", "p50", "p99", "max", "drain", "requests", "lost", "version"];
    html! {
        table {
            tr { @for head in heads { th { (head) } } }
            @for way in ways {
                tr {
                    td { (way.way.exposure) }
                    td { (way.terminations) }
                    @for seconds in [way.p50_seconds, way.p99_seconds, way.max_seconds] {
                        td { (format!("{seconds:.2} s")) }
                    }
                    td { strong { (way.drain()) } }
                    td { (way.requests.sent) }
                    td { (way.lost_during_terminations.requests) }
                    td { (way.way.version) }
                }
            }
        }
    }
}

fn explanation(way: &WayResult) -> Markup {
    html! {
        h2 { (way.way.exposure) }
        p { "Requests went to " code { (way.way.url) } "." }
        @if let Some(reason) = way.drain_reason() {
            p { "Drain " (way.drain()) ": " (reason) "; " (way.confidence) "." }
        }
        @for finding in &way.findings { p class="bad" { (finding) } }
    }
}
