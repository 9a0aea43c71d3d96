//! What adieu costs, in figures that anybody can have again.

mod admission;
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
    /// Put the table of figures into docs/benchmarks.md as well
    #[arg(long, global = true)]
    docs: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Latency that admission adds, beside a do-nothing webhook and a MutatingAdmissionPolicy; fails where
    /// adieu misses its bars
    Admission(admission::Options),

    /// Time of a decision alone: no API server, no JSON
    Plan,

    /// Memory, requests and speed with thousands of workloads whose pods kwok plays: opted in by annotation,
    /// beside a bare loop that sends the same patches, or by policies, with CPU and admission latency; fails where
    /// adieu misses its bars. Takes half an hour at the default size
    Scale(scale::Options),

    /// Instructions of a whole review, from the bytes that come to the bytes that go, counted by valgrind
    Instructions,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments) -> Result<()> {
    let docs = arguments.docs.then_some(BENCHMARKS);
    match &arguments.command {
        Command::Admission(options) => admission::run(options, docs),
        Command::Plan => plan::run(docs),
        Command::Scale(options) => scale::run(options, docs),
        Command::Instructions => instructions::run(docs),
    }
}
