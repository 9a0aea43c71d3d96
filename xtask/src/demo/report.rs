//! What the demonstration shows: on the terminal, and as JSON.

use std::io::{IsTerminal, stdout};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::Value;
use similar::TextDiff;

use crate::load::Outcome;

/// The longest line that is shown of a difference, in characters.
const LINE_LIMIT: usize = 110;
/// How many lost requests are listed one by one.
const LISTED: usize = 5;

/// One restart under load.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// What became of the requests.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// When the restart began, in seconds from the start of the load.
    pub restart_at_seconds: f64,
    /// From there until the last old pod was gone.
    pub rollout_seconds: f64,
}

/// Both.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Before the annotation.
    pub without: Run,
    /// After it.
    pub with: Run,
    /// What the annotation changed in the pod template.
    pub template_diff: String,
    /// Requests per second.
    pub rate: u32,
}

impl Report {
    /// An error unless adieu lost nothing, and there was something to lose.
    pub fn verdict(&self) -> Result<()> {
        if self.with.outcome.lost > 0 {
            bail!(
                "{} of {} requests were lost with adieu",
                self.with.outcome.lost,
                self.with.outcome.requests
            );
        }
        if self.without.outcome.lost == 0 {
            bail!("no request was lost without adieu either: this run shows nothing");
        }
        Ok(())
    }

    /// Prints both runs side by side.
    pub fn print_table(&self) {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header([
            "rolling restart",
            "requests",
            "lost",
            "p50",
            "p99",
            "slowest",
            "until the old pods were gone",
        ]);
        for (name, run) in [("without adieu", &self.without), ("with adieu", &self.with)] {
            let latency = &run.outcome.latency;
            let ms = |seconds: f64| format!("{:.1} ms", seconds * 1000.0);
            table.add_row([
                name.to_owned(),
                run.outcome.requests.to_string(),
                run.outcome.lost.to_string(),
                ms(latency.p50),
                ms(latency.p99),
                ms(latency.max),
                format!("{:.1} s", run.rollout_seconds),
            ]);
        }
        println!("\n{table}");
    }
}

/// Announces a part.
pub fn heading(text: &str) {
    println!("\n{}", paint(text, "1"));
}

/// Tells what was lost, and why.
pub fn print_run(run: &Run) {
    let Outcome { requests, lost, causes, losses, .. } = &run.outcome;
    println!("  {requests} requests sent, {lost} lost");
    for (cause, count) in causes {
        println!("    {count:>5} {cause}");
    }
    for loss in losses.iter().take(LISTED) {
        println!(
            "          {:+.2} s from the restart: {}",
            loss.at_seconds - run.restart_at_seconds,
            loss.cause
        );
    }
    if losses.len() > LISTED {
        println!("          … and {} more", losses.len() - LISTED);
    }
}

/// The difference between two pod templates, as YAML.
pub fn template_diff(before: &Value, after: &Value) -> Result<String> {
    let [before, after] = [before, after].map(serde_saphyr::to_string);
    let (before, after) = (before.context("writing YAML")?, after.context("writing YAML")?);
    Ok(TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).to_string())
}

/// Prints it, with colours on a terminal.
pub fn print_diff(diff: &str) {
    for line in diff.lines() {
        let colour = match line.as_bytes().first() {
            Some(b'+') => "32",
            Some(b'-') => "31",
            _ => "2",
        };
        println!("  {}", paint(&shortened(line), colour));
    }
}

/// The record is one long line of JSON.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(LINE_LIMIT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

fn paint(text: &str, code: &str) -> String {
    if stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
