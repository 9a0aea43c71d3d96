//! The figures of the demonstration, on the terminal and as JSON.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stdout};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use similar::TextDiff;

/// The maximal length of a line in a diff, in characters.
const LINE_LIMIT: usize = 110;
/// How many lost requests are listed.
const MAX_LISTED: usize = 5;

/// The figures of one run of `adieu verify`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", from = "VerificationReport")]
pub struct Run {
    /// Requests sent.
    pub requests: u64,
    /// Requests without an answer, or with a status of 500 or more.
    pub lost: u64,
    /// Lost requests by cause.
    pub causes: BTreeMap<String, u64>,
    /// Lost requests, ordered by due time.
    pub losses: Vec<Loss>,
    /// The latency of answers.
    pub latency_seconds: Latency,
    /// When the restart began, in seconds from the start of the load.
    pub restart_at_seconds: Option<f64>,
    /// From then until the last old pod was gone.
    pub rollout_seconds: Option<f64>,
    /// The required drain.
    pub sufficient_drain_seconds: Option<u64>,
    /// Why the run is incomplete.
    incomplete: Option<String>,
}

/// A lost request.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loss {
    /// When it was due, in seconds from the start of the load.
    pub at_seconds: f64,
    /// Such as `connection refused`.
    pub cause: String,
}

/// Seconds from when a request was due to its answer's last byte.
#[derive(Debug, Deserialize, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The maximum.
    pub max: f64,
}

/// The output of `adieu verify -o json`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerificationReport {
    requests: Requests,
    causes: BTreeMap<String, u64>,
    losses: Vec<Loss>,
    latency_seconds: Latency,
    disruption_at_seconds: Option<f64>,
    disruption_took_seconds: Option<f64>,
    drain: Option<Drain>,
    incomplete: Option<String>,
}

#[derive(Deserialize)]
struct Requests {
    sent: u64,
    lost: u64,
}

#[derive(Deserialize)]
struct Drain {
    seconds: u64,
}

impl From<VerificationReport> for Run {
    fn from(found: VerificationReport) -> Self {
        Self {
            requests: found.requests.sent,
            lost: found.requests.lost,
            causes: found.causes,
            losses: found.losses,
            latency_seconds: found.latency_seconds,
            restart_at_seconds: found.disruption_at_seconds,
            rollout_seconds: found.disruption_took_seconds,
            sufficient_drain_seconds: found.drain.map(|drain| drain.seconds),
            incomplete: found.incomplete,
        }
    }
}

impl Run {
    /// It is an error if the run is incomplete.
    pub fn restart(&self) -> Result<()> {
        self.incomplete.as_ref().map_or(Ok(()), |why| bail!("the run is incomplete: {why}"))
    }
}

/// The figures of both runs.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Before the annotation.
    pub without: Run,
    /// After it.
    pub with: Run,
    /// The diff of the pod template.
    pub template_diff: String,
    /// Requests per second.
    pub rate: u32,
}

impl Report {
    /// It is an error if requests were lost with adieu, or none without it.
    pub fn verdict(&self) -> Result<()> {
        if self.with.lost > 0 {
            bail!("{} of {} requests were lost with adieu", self.with.lost, self.with.requests);
        }
        if self.without.lost == 0 {
            bail!("no request was lost without adieu either: the run is invalid");
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
            let latency = &run.latency_seconds;
            let ms = |seconds: f64| format!("{:.1} ms", seconds * 1000.0);
            table.add_row([
                name.to_owned(),
                run.requests.to_string(),
                run.lost.to_string(),
                ms(latency.p50),
                ms(latency.p99),
                ms(latency.max),
                run.rollout_seconds.map_or_else(String::new, |seconds| format!("{seconds:.1} s")),
            ]);
        }
        println!("\n{table}");
    }
}

/// Prints a heading.
pub fn heading(text: &str) {
    println!("\n{}", paint(text, "1"));
}

/// Prints the lost requests, with their causes.
pub fn print_run(run: &Run) {
    let Run { requests, lost, causes, losses, .. } = run;
    println!("  {requests} requests sent, {lost} lost");
    for (cause, count) in causes {
        println!("    {count:>5} {cause}");
    }
    for loss in losses.iter().take(MAX_LISTED) {
        println!(
            "          {:+.2} s from the restart: {}",
            loss.at_seconds - run.restart_at_seconds.unwrap_or_default(),
            loss.cause
        );
    }
    if losses.len() > MAX_LISTED {
        println!("          … and {} more", losses.len() - MAX_LISTED);
    }
    if let Some(seconds) = run.sufficient_drain_seconds {
        println!("  a drain of {seconds} s would have been enough");
    }
}

/// The difference between two pod templates, as YAML.
pub fn template_diff(before: &Value, after: &Value) -> Result<String> {
    let [before, after] = [before, after].map(serde_saphyr::to_string);
    let (before, after) = (before.context("writing YAML")?, after.context("writing YAML")?);
    Ok(TextDiff::from_lines(&before, &after).unified_diff().context_radius(3).to_string())
}

/// Prints a diff, with colours on a terminal.
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
