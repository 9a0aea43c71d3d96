//! The command line: one file per command.

mod adieu_image;
mod audit;
mod block_on;
mod calibrate;
mod canary;
mod changed_values;
mod cluster_context;
mod completion;
mod confirm;
mod connection;
mod controller;
mod crd;
mod diff;
mod doctor;
mod duration;
mod exit;
mod explain;
mod inject;
mod interruptible;
mod live_object;
mod load;
mod manifests;
mod node_shutdown;
mod policies;
mod print;
mod profiles;
mod recommend;
mod reference;
mod revert;
mod run_options;
mod status;
mod termination_profiles;
mod traffic_objects;
mod verify;
mod version;

use std::{env, path::Path, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::exit::{COULD_NOT_RUN, FAILED, exit_code};

/// The end of `--help`.
const EXAMPLES: &str = "\
Examples:

  adieu audit -A                                 which workloads lose requests when their pods terminate
  adieu check --pre                              whether adieu can be installed in the cluster
  kubectl annotate deploy web adieu.dev/graceful=true
  adieu explain deploy web                       what is injected, and why
  adieu verify deploy web --url https://shop.example.com/
  adieu status -A                                what is injected where
  adieu revert deploy web                        the way back

All commands work as kubectl plugin too: kubectl adieu status. They use the current context of the kubeconfig; see \
--context.";

/// Makes Kubernetes workloads terminate gracefully.
#[derive(Debug, Parser)]
#[command(name = "adieu", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Arguments {
    #[command(flatten)]
    connection: connection::Arguments,

    #[command(subcommand)]
    command: Command,
}

impl Arguments {
    /// Those of this process. If they are wrong, or ask for help, the process ends.
    #[must_use]
    pub fn of_process() -> Self {
        let program = env::args_os().next().unwrap_or_default();
        let is_plugin = Path::new(&program).file_stem().is_some_and(|name| name == "kubectl-adieu");
        let command = || if is_plugin { Self::command().bin_name("kubectl adieu") } else { Self::command() };
        let mut matches = command().get_matches();
        Self::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.format(&mut command()).exit())
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Finds workloads that lose requests, or are killed, when their pods terminate.
    #[command(long_about = audit::HELP)]
    Audit(audit::Arguments),
    /// Measures the drain that pods need behind each way into the cluster, with canaries.
    #[command(long_about = calibrate::HELP)]
    Calibrate(Box<calibrate::Arguments>),
    /// Prints the completions of a shell.
    #[command(long_about = completion::HELP)]
    Completion(completion::Arguments),
    /// Shows what applying manifests would change in what is injected.
    #[command(long_about = diff::HELP)]
    Diff(diff::Arguments),
    /// Checks that admission works in the cluster, or that adieu can be installed (--pre), and reports what is wrong.
    #[command(long_about = doctor::HELP, visible_alias = "check")]
    Doctor(doctor::Arguments),
    /// Explains where the settings of a workload come from, and how its pods terminate.
    #[command(long_about = explain::HELP)]
    Explain(explain::Arguments),
    /// Injects into manifests, so that their workloads terminate gracefully.
    #[command(long_about = inject::HELP)]
    Inject(inject::Arguments),
    /// Lists the built-in drain profiles: the drain that each way to the pods needs, with its source.
    #[command(long_about = profiles::HELP)]
    Profiles(profiles::Arguments),
    /// Recommends policies with the times that workloads need, from their exposures and terminations.
    #[command(long_about = recommend::HELP)]
    Recommend(recommend::Arguments),
    /// Reverts the injection: in the cluster, where workloads are opted out, or in manifests.
    #[command(long_about = revert::HELP)]
    Revert(Box<revert::Arguments>),
    /// Lists the workloads that are managed, by what, and whether they are injected.
    #[command(long_about = status::HELP)]
    Status(status::Arguments),
    /// Disrupts a workload under load, and reports which requests were lost and why.
    #[command(long_about = verify::HELP)]
    Verify(Box<verify::Arguments>),
    /// Prints the versions of the command line, the API server and the operator.
    #[command(long_about = version::HELP)]
    Version(version::Arguments),
    /// Runs the operator: the admission webhook and the controller. The Helm chart starts it.
    Controller(Box<controller::Arguments>),
    /// Prints the CustomResourceDefinitions as YAML.
    Crd(crd::Arguments),
    /// The completions of kubectl.
    #[command(name = "__complete", hide = true)]
    Complete(completion::Words),
    /// The server of `adieu calibrate`, in its pods.
    #[command(hide = true)]
    Canary(canary::Arguments),
    /// The load of `adieu verify --in-cluster` and `adieu calibrate --in-cluster`, in its Job.
    #[command(hide = true)]
    Load(load::Arguments),
}

/// Runs the command of the arguments.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    // To complete a command line, the options on that line apply.
    if !matches!(arguments.command, Command::Complete(_)) {
        arguments.connection.apply();
    }
    let outcome = match arguments.command {
        Command::Audit(arguments) => return exit_code(audit::run(&arguments), COULD_NOT_RUN),
        Command::Calibrate(arguments) => return exit_code(calibrate::run(&arguments), COULD_NOT_RUN),
        Command::Canary(arguments) => canary::run(&arguments),
        Command::Complete(words) => completion::complete(&words, Arguments::command()),
        Command::Completion(arguments) => completion::run(&arguments, Arguments::command()),
        Command::Controller(arguments) => controller::run(&arguments),
        Command::Crd(arguments) => crd::run(&arguments),
        Command::Diff(arguments) => return exit_code(diff::run(&arguments), COULD_NOT_RUN),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Explain(arguments) => explain::run(&arguments),
        Command::Inject(arguments) => inject::run(&arguments),
        Command::Load(arguments) => load::run(&arguments),
        Command::Profiles(arguments) => profiles::run(&arguments),
        Command::Recommend(arguments) => return exit_code(recommend::run(&arguments), COULD_NOT_RUN),
        Command::Revert(arguments) => return revert::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Verify(arguments) => return exit_code(verify::run(&arguments), COULD_NOT_RUN),
        Command::Version(arguments) => version::run(&arguments),
    };
    exit_code(outcome.map(|()| ExitCode::SUCCESS), FAILED)
}
