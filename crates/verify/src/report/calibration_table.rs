//! A calibration as text.

use std::fmt::{self, Write as _};

use comfy_table::{Table, presets};

use crate::calibration::CalibrationReport;

/// Renders a calibration as text, with a newline at the end.
#[must_use]
pub fn calibration_table(report: &CalibrationReport) -> String {
    let mut text = String::new();
    // Writing to a String doesn't fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &CalibrationReport, text: &mut String) -> fmt::Result {
    writeln!(
        text,
        "Kubernetes {}, {}: {} requests/s through each way on new connections, and as many on kept ones\n",
        report.kubernetes_version, report.time, report.rate
    )?;
    writeln!(text, "{}", ways(report))?;
    for way in &report.ways {
        writeln!(text, "\n  {}: {}", way.way.exposure, way.way.url)?;
        if let Some(reason) = way.drain_reason() {
            writeln!(text, "    drain {}: {reason}", way.drain())?;
            writeln!(text, "    {}", way.confidence)?;
        }
        for finding in &way.findings {
            writeln!(text, "    {finding}")?;
        }
    }
    if let Some(why) = &report.incomplete {
        writeln!(text, "\n  The run is incomplete: {why}")?;
    }
    Ok(())
}

/// The times are from SIGTERM to the last arrival.
fn ways(report: &CalibrationReport) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["way", "terminations", "p50", "p99", "max", "drain", "requests", "lost"]);
    for way in &report.ways {
        let [p50, p99, max] =
            [way.p50_seconds, way.p99_seconds, way.max_seconds].map(|seconds| format!("{seconds:.2} s"));
        table.add_row([
            way.way.exposure.clone(),
            way.terminations.to_string(),
            p50,
            p99,
            max,
            way.drain(),
            way.requests.sent.to_string(),
            way.lost_during_terminations.requests.to_string(),
        ]);
    }
    table
}
