//! Reproducible benchmarks of adieu's cost.

mod admission;
pub mod drain;
mod instructions;
mod plan;
pub mod scale;
mod statistics;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::figures::BENCHMARKS;

/// `cargo xtask bench`
#[derive(Args)]
pub struct Arguments {
    /// Write the table of figures to docs/benchmarks.md as well
    #[arg(long, global = true)]
    docs: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Latency that admission adds, compared with a do-nothing webhook and a MutatingAdmissionPolicy; fails if
    /// adieu exceeds a limit
    Admission(admission::Options),

    /// The drain behind kube-proxy, Traefik, Envoy, HAProxy and nginx: the one that a calibration finds, the shortest
    /// one, and the one that adieu chooses, with the requests that rollouts lose; fails if adieu misses a limit. Takes
    /// hours
    Drain(drain::Options),

    /// Time of a decision alone: no API server, no JSON
    Plan,

    /// Memory, requests and speed with thousands of workloads whose pods kwok simulates: opted in by annotation,
    /// compared with a loop that sends the same patches, or by policies, with CPU and admission latency; fails if
    /// adieu exceeds a limit. Takes half an hour at the default size, and almost two hours by policies
    Scale(scale::Options),

    /// Instructions of a whole review, from request bytes to response bytes, counted by valgrind
    Instructions,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> Result<()> {
    let docs = arguments.docs.then_some(BENCHMARKS);
    match &arguments.command {
        Command::Admission(options) => admission::run(options, docs),
        Command::Drain(options) => drain::run(options, docs),
        Command::Plan => plan::run(docs),
        Command::Scale(options) => scale::run(options, docs),
        Command::Instructions => instructions::run(docs),
    }
}
