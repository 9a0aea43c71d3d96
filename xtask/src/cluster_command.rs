//! `cargo xtask cluster`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};

use crate::cluster::{
    Cluster, ComponentSelector, MAX_NODES, Name, ProxyMode, down, restart, set_proxy_mode, start, status,
    stop, up,
};
use crate::install::{self, Options};
use crate::interrupt;
use crate::target::Target;
use crate::workspace::Workspace;

/// `cargo xtask cluster`
#[derive(Args)]
pub struct Arguments {
    /// The cluster; several can run in parallel
    #[arg(long, global = true, default_value = "default", value_name = "NAME")]
    name: Name,

    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build missing programs and start the cluster, or add nodes to it
    Up {
        /// The number of nodes, including the control plane [default: the present ones, or 1]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=i64::from(MAX_NODES)))]
        nodes: Option<u8>,

        /// The mode of kube-proxy on all nodes [default: the present one, or iptables]
        #[arg(long, value_enum, value_name = "MODE")]
        proxy_mode: Option<ProxyMode>,
    },

    /// Build adieu and its image, and install or upgrade it in the cluster
    Install(Options),

    /// Show whether the cluster runs, and how to use it
    Status {
        /// Print one JSON object, for programs
        #[arg(short, long, value_enum)]
        output: Option<Output>,
    },

    /// Stop a component, such as kube-apiserver or kubelet/node-2
    Stop {
        #[arg(value_name = "COMPONENT[/NODE]")]
        component: ComponentSelector,
    },

    /// Start a component, and wait until it is ready
    Start {
        #[arg(value_name = "COMPONENT[/NODE]")]
        component: ComponentSelector,
    },

    /// Restart a component, and wait until it is ready
    Restart {
        #[arg(value_name = "COMPONENT[/NODE]")]
        component: ComponentSelector,
    },

    /// Run kubectl in the cluster; --name must precede kubectl's own arguments
    #[command(disable_help_flag = true)]
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },

    /// Import images into every node
    LoadImage {
        /// Archives of `buildah push`, `docker save` or `podman save`
        #[arg(required = true, value_name = "ARCHIVE")]
        archives: Vec<PathBuf>,
    },

    /// Stop and remove the cluster
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
        Command::Up { nodes, proxy_mode } => {
            up(&cluster, nodes)?;
            proxy_mode.map_or(Ok(()), |mode| set_proxy_mode(&cluster, mode))
        }
        Command::Install(options) => {
            interrupt::watch()?;
            install::install(&Target::ours(cluster)?, &options)
        }
        Command::Status { output } => match output {
            Some(Output::Json) => status::print_json(&cluster),
            None => status::print_table(&cluster),
        },
        Command::Stop { component } => stop(&cluster, &component),
        Command::Start { component } => start(&cluster, &component),
        Command::Restart { component } => restart(&cluster, &component),
        Command::Kubectl { arguments } => {
            let mut kubectl = Target::ours(cluster)?.kubectl();
            // Replaces this process, so that exit code and signals are kubectl's.
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
