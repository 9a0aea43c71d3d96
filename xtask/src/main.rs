//! The commands of this repository: a test cluster, the demonstration, the tests, the benchmarks.

mod bench;
mod cluster;
mod cluster_command;
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
mod site;
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

/// The commands of this repository, as `cargo xtask COMMAND`.
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

    /// Runs the full test suite, including the end-to-end tests on a cluster
    Test(test::Options),

    /// Fuzzes external input: admission reviews, annotations, manifests
    Fuzz(fuzz::Options),

    /// Runs mutation tests of the core and the scheduler, and counts the mutants that its tests catch
    Mutants(mutants::Options),

    /// Measures the cost of adieu
    Bench(bench::Arguments),

    /// Makes the files of a release: images, chart, command line, checksums
    Release(release::Options),

    /// Writes the files that are generated from the code
    Generate,

    /// Builds the documentation as a site, and checks its links
    Site,

    /// Manages a Kubernetes cluster on this machine, built from source, without external network
    Cluster(cluster_command::Arguments),

    /// Starts the supervisor of a node; used by clusters
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
        Command::Mutants(options) => mutants::run(&options),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Release(options) => release::run(&options),
        Command::Generate => generate::run(),
        Command::Site => site::run(),
        Command::Cluster(arguments) => cluster_command::run(arguments),
        Command::NodeSupervise { spec } => cluster::supervisor::supervise(&spec),
        Command::NodeInit { spec } => cluster::supervisor::init(&spec),
        Command::NetnsExec { netns, command } => cluster::netns::exec(&netns, &command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::print_line(&format!("error: {error:#}"));
            // The exit code that shells report after Ctrl-C.
            if error.chain().any(<dyn std::error::Error>::is::<Interrupted>) {
                ExitCode::from(130)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::workspace::Workspace;

    /// The files whose commands are checked, beside the pages in docs.
    const FILES: [&str; 7] = [
        "README.md",
        "CONTRIBUTING.md",
        "RELEASE.md",
        ".github/pull_request_template.md",
        ".github/workflows/e2e.yaml",
        ".github/workflows/pull-request.yaml",
        ".github/workflows/release.yaml",
    ];

    /// The commands of this repository in a text: up to the end of the code, a comment, or the end of the line.
    fn commands(text: &str) -> Vec<&str> {
        let rest = text.split("cargo xtask ").skip(1);
        rest.filter_map(|rest| rest.split(['`', '#', '\n', '|']).next()).map(str::trim).collect()
    }

    /// The number of commands in a file, each of which must be valid.
    fn valid_commands(file: &Path) -> usize {
        let text = fs::read_to_string(file).unwrap();
        let commands = commands(&text);
        for command in &commands {
            let arguments = ["xtask"].into_iter().chain(command.split_whitespace());
            if let Err(error) = Arguments::try_parse_from(arguments) {
                panic!("{}: cargo xtask {command}: {error}", file.display());
            }
        }
        commands.len()
    }

    #[test]
    fn commands_in_documents_and_workflows_are_valid() {
        let root = Workspace::find().unwrap().root().to_owned();
        for file in FILES {
            assert!(valid_commands(&root.join(file)) > 0, "{file} has no command");
        }
        let mut in_docs = 0;
        for folder in ["docs", "docs/reference"] {
            let files = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
            let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
            in_docs += pages.map(|page| valid_commands(&page)).sum::<usize>();
        }
        assert!(in_docs > 20, "only {in_docs} commands were found in docs");
    }

    #[test]
    fn a_command_ends_with_its_code_or_line() {
        let text =
            "Run `cargo xtask test --long`, then\ncargo xtask cluster down   # all\n    cargo xtask demo\n";
        assert_eq!(commands(text), ["test --long", "cluster down", "demo"]);
    }
}
