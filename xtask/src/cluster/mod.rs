//! A cluster on this machine: the control plane and nodes as plain processes in
//! network, mount and process namespaces of their own, under cargo's target folder.

mod cgroup;
mod components;
mod configs;
mod control;
mod down;
mod files;
mod layout;
mod lock;
pub mod netns;
mod network;
mod pki;
mod process;
mod ready;
mod spec;
mod state;
mod status;
pub mod supervisor;
mod traces;
mod up;

pub use control::{restart, start, stop};
pub use down::down;
pub use layout::{Cluster, MAX_NODES, Name};
pub use status::{require_running, running_nodes};
pub use traces::traces;
pub use up::up;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use control::Which;

use crate::install::{self, Options};
use crate::interrupt;
use crate::target::Target;
use crate::workspace::Workspace;

/// `cargo xtask cluster`
#[derive(Args)]
pub struct Arguments {
    /// Which cluster; several can run side by side
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    name: Name,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build what is missing and start the cluster, or add nodes to it
    Up {
        /// How many nodes, the one with the control plane included [default: those there are, or 1]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
        nodes: Option<u8>,
    },

    /// Build adieu and its image, and install or upgrade it in the cluster
    Install(Options),

    /// Say whether the cluster runs, and how to use it
    Status {
        /// Print one JSON object, for programs
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },

    /// End a component and leave it so, such as kube-apiserver or kubelet/node-2
    Stop {
        #[arg(value_name = "COMPONENT[/NODE]")]
        which: Which,
    },

    /// Run a component again, and wait until it is ready
    Start {
        #[arg(value_name = "COMPONENT[/NODE]")]
        which: Which,
    },

    /// End a component, run it again, and wait until it is ready
    Restart {
        #[arg(value_name = "COMPONENT[/NODE]")]
        which: Which,
    },

    /// Run kubectl in the cluster; give --name before kubectl's own arguments
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },

    /// Import images into every node
    LoadImage {
        /// Archives as `buildah push`, `docker save` or `podman save` write them
        #[arg(required = true, value_name = "ARCHIVE")]
        archives: Vec<PathBuf>,
    },

    /// Stop the cluster and remove all of it
    Down,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Json,
}

/// Runs the subcommand.
pub fn run(arguments: Arguments) -> Result<()> {
    let cluster = Cluster::new(arguments.name, Workspace::find()?);
    match arguments.command {
        Command::Up { nodes } => up(&cluster, nodes),
        Command::Install(options) => {
            interrupt::watch()?;
            install::install(&Target::ours(cluster)?, &options)
        }
        Command::Status { output } => match output {
            Some(Output::Json) => status::print_json(&cluster),
            None => status::print_table(&cluster),
        },
        Command::Stop { which } => stop(&cluster, &which),
        Command::Start { which } => start(&cluster, &which),
        Command::Restart { which } => restart(&cluster, &which),
        Command::Kubectl { arguments } => {
            let mut kubectl = Target::ours(cluster)?.kubectl();
            // In place of this process: its exit code and its signals are kubectl's.
            Err(kubectl.args(arguments).exec()).context("cannot run kubectl")
        }
        Command::LoadImage { archives } => {
            interrupt::watch()?;
            let target = Target::ours(cluster)?;
            archives.iter().try_for_each(|archive| target.load_image(archive))
        }
        Command::Down => down(&cluster),
    }
}
