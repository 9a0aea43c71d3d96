//! The search for the shortest drain as text.

use std::fmt::{self, Write as _};

use comfy_table::{Table, presets};

use crate::verify::{RunDescription, TuningReport};

/// Renders the report as text, with a newline at the end. `policy` is its policy as YAML.
#[must_use]
pub fn tuning(report: &TuningReport, policy: Option<&str>) -> String {
    let mut text = String::new();
    // Writing to a String doesn't fail.
    let _ = write(report, policy, &mut text);
    text
}

fn write(report: &TuningReport, policy: Option<&str>, text: &mut String) -> fmt::Result {
    let RunDescription { workload, namespace, disruption, url, rate } = &report.run;
    writeln!(text, "{workload} in {namespace}, {disruption}: {rate} requests/s to {url}\n")?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(["drain", "requests", "lost", "terminations"]);
    for trial in &report.trials {
        table.add_row([
            format!("{} s", trial.drain_seconds),
            trial.requests.to_string(),
            trial.lost.to_string(),
            trial.terminations.to_string(),
        ]);
    }
    writeln!(text, "{table}\n\n  drain     {}", report.certainty)?;
    if let Some(why) = &report.incomplete {
        writeln!(text, "\n  The search is incomplete: {why}")?;
    }
    if let Some(policy) = policy {
        writeln!(text, "\n{}", policy.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Trial, Tuning, TuningLimits};

    #[test]
    fn the_table_lists_every_disruption_and_the_policy() {
        let mut tuning = Tuning::new(TuningLimits { max_seconds: 1, repeats: 1, disruptions: 5 });
        for (drain_seconds, lost) in [(1, 0), (0, 7)] {
            tuning.record(Trial { drain_seconds, requests: 1000, lost, terminations: 4 });
        }
        let run = RunDescription {
            workload: "Deployment/web".to_owned(),
            namespace: "shop".to_owned(),
            disruption: "restart".to_owned(),
            url: "http://web/".to_owned(),
            rate: 10,
        };
        let report = tuning.report(run, Some("it took too long".to_owned()));
        let text = super::tuning(&report, Some("kind: GracefulPolicy\n"));
        for part in [
            "Deployment/web in shop, restart: 10 requests/s to http://web/\n",
            "│ 1 s   ┆ 1000     ┆ 0    ┆ 4            │",
            "│ 0 s   ┆ 1000     ┆ 7    ┆ 4            │",
            "  drain     1 s: no request was lost in 4 terminations by 1 disruption",
            "with 0 s requests were lost",
            "The search is incomplete: it took too long\n",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        assert!(text.ends_with("\n\nkind: GracefulPolicy\n"), "{text}");
    }
}
