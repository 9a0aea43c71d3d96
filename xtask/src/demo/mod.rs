//! The demonstration on a real cluster: a rolling restart under load, before and after one annotation.

mod application;
mod report;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::cluster::{self, Cluster, Name};
use crate::progress::print_line;
use crate::target::{External, Target};
use crate::workspace::Workspace;
use crate::{image, install, interrupt};
use application::Application;
use report::Report;

/// `cargo xtask demo`
#[derive(Args)]
pub struct Options {
    /// The cluster to use; it is started if it doesn't run
    #[arg(long, default_value = "demo", value_name = "NAME")]
    name: Name,

    #[command(flatten)]
    external: External,

    /// Keep the cluster, adieu and the application at the end
    #[arg(long)]
    keep: bool,

    /// Write the figures to a file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    pace: Pace,
}

/// The load.
#[derive(Args, Clone, Copy, Debug)]
struct Pace {
    /// Requests per second, each on a new connection
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(100..=1000))]
    rate: u32,

    /// How long a run's load continues after the restart, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(20..=120))]
    seconds: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 100, seconds: 20 }
    }
}

/// Runs the demonstration. It is an error if requests were lost with adieu, or if none were lost without it.
pub fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    let (target, started) = Target::choose(&workspace, options.name.clone(), &options.external)?;
    let outcome =
        install::install(&target, &install::Options::default()).and_then(|()| show(&target, options.pace));
    if options.keep {
        next_steps(&target, options);
    } else {
        clean_up(&target, started)?;
    }
    let report = outcome?;
    if let Some(file) = &options.report {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    report.verdict()
}

/// The demonstration as a test, on a cluster with adieu.
pub fn prove(target: &Target) -> Result<()> {
    let report = show(target, Pace::default())?;
    Application::new(target)?.remove()?;
    report.verdict()
}

fn show(target: &Target, pace: Pace) -> Result<Report> {
    let web = image::app(target.workspace(), "web")?;
    target.load_image(&web.archive)?;
    let application = Application::new(target)?;
    application.deploy(&web.reference())?;
    let address = |service| application.address(service);
    let (without_address, with_address) = (address("web-without")?, address("web-with")?);

    report::heading("A rolling restart under load, without adieu");
    let without = application.restart_under_load(without_address, pace.rate, pace.seconds)?;
    report::print_run(&without);

    report::heading("One annotation");
    let before = application.template()?;
    // At another address, so that no connections to deleted pods affect it.
    application.annotate(without_address)?;
    let diff = report::template_diff(&before, &application.template()?)?;
    report::print_diff(&diff);

    report::heading("The same restart under the same load, with adieu");
    let with = application.restart_under_load(with_address, pace.rate, pace.seconds)?;
    report::print_run(&with);

    let report = Report { without, with, template_diff: diff, rate: pace.rate };
    report.print_table();
    Ok(report)
}

fn clean_up(target: &Target, started: Option<Cluster>) -> Result<()> {
    if let Some(cluster) = started {
        return cluster::down(&cluster);
    }
    Application::new(target)?.remove()?;
    install::uninstall(target)
}

fn next_steps(target: &Target, options: &Options) {
    print_line("\nThe cluster keeps running.");
    if target.cluster().is_some() {
        let name = &options.name;
        print_line(&format!(
            "  cargo xtask cluster --name {name} kubectl -n {} get pods",
            application::NAMESPACE
        ));
        print_line(&format!(
            "  cargo xtask cluster --name {name} kubectl get deployment web -n {} -o yaml",
            application::NAMESPACE
        ));
        print_line(&format!("  cargo xtask cluster --name {name} status"));
        print_line(&format!("  cargo xtask cluster --name {name} down      # when you are done"));
    } else {
        print_line(&format!("  kubectl -n {} get pods", application::NAMESPACE));
        print_line(&format!(
            "  kubectl delete namespace {}; helm uninstall {} -n {}",
            application::NAMESPACE,
            install::RELEASE,
            install::NAMESPACE
        ));
    }
}
