//! The commands of this repository: a test cluster, the demonstration, the tests, the benchmarks.

mod bench;
mod cluster;
mod command;
mod debian;
mod demo;
mod figures;
mod fuzz;
mod generate;
mod image;
mod install;
mod interrupt;
mod markdown;
mod mutants;
mod progress;
mod release;
mod target;
mod test;
mod toolchain;
mod tools;
mod values;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use interrupt::Interrupted;

/// What people run in this repository, as `cargo xtask COMMAND`.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Shows the main job: a rolling restart under load, without adieu and with it
    Demo(demo::Options),

    /// Runs everything that has to hold, the end-to-end tests on a cluster included
    Test(test::Options),

    /// Fuzzes what comes from outside: admission reviews, annotations, manifests
    Fuzz(fuzz::Options),

    /// Changes the code of the core in many small ways, and counts which of them the tests catch
    Mutants(mutants::Options),

    /// Measures what adieu costs
    Bench(bench::Arguments),

    /// Makes what a release consists of: images, chart, command line, sums
    Release(release::Options),

    /// Writes the files that are generated from the code
    Generate,

    /// A real Kubernetes on this machine, built from source, without a way out to the network
    Cluster(cluster::Arguments),

    /// How a cluster starts the supervisor of a node
    #[command(hide = true)]
    NodeSupervise { spec: PathBuf },

    /// The first process of a node
    #[command(hide = true)]
    NodeInit { spec: PathBuf },

    /// Runs a program in a network namespace, in place of this process
    #[command(hide = true)]
    NetnsExec {
        netns: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(options) => demo::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Fuzz(options) => fuzz::run(options),
        Command::Mutants(options) => mutants::run(options),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Release(options) => release::run(&options),
        Command::Generate => generate::run(),
        Command::Cluster(arguments) => cluster::run(arguments),
        Command::NodeSupervise { spec } => cluster::supervisor::supervise(&spec),
        Command::NodeInit { spec } => cluster::supervisor::init(&spec),
        Command::NetnsExec { netns, command } => cluster::netns::exec(&netns, &command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(&format!("error: {error:#}"));
            // What a shell reports for a program that Ctrl-C ended.
            if error.chain().any(<dyn std::error::Error>::is::<Interrupted>) {
                ExitCode::from(130)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}
