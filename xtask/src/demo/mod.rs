//! The main job on a real cluster: a rolling restart under load, as many people have it, and once more
//! after one annotation.

mod application;
mod report;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::cluster::{self, Cluster, Name};
use crate::progress::say;
use crate::target::{External, Target};
use crate::workspace::Workspace;
use crate::{image, install, interrupt};
use application::Application;
use report::Report;

/// `cargo xtask demo`
#[derive(Args)]
pub struct Options {
    /// Which of our clusters to use; it is started if it doesn't run
    #[arg(long, default_value = "demo", value_name = "NAME")]
    name: Name,

    #[command(flatten)]
    external: External,

    /// Leave the cluster, adieu and the application as they are at the end
    #[arg(long)]
    keep: bool,

    /// Write the figures to a file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    #[command(flatten)]
    pace: Pace,
}

/// How much load there is.
#[derive(Args, Clone, Copy, Debug)]
struct Pace {
    /// Requests a second, each on a connection of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(100..=1000))]
    rate: u32,

    /// How long a run's load goes on after the restart, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(20..=120))]
    seconds: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 100, seconds: 20 }
    }
}

/// Runs the demonstration. An error where adieu lost a request, or where there was nothing to save.
pub fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    let workspace = Workspace::find()?;
    let (target, started) = Target::choose(&workspace, options.name.clone(), &options.external)?;
    let outcome =
        install::install(&target, &install::Options::default()).and_then(|()| show(&target, options.pace));
    if options.keep {
        how_to_go_on(&target, options);
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

/// The demonstration as a test, where adieu is installed.
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

    report::heading("A rolling restart under load, as it is");
    let without = application.restart_under_load(without_address, pace.rate, pace.seconds)?;
    report::print_run(&without);

    report::heading("One annotation");
    let before = application.template()?;
    // Not asked at the other address, whose connections must not know the pods that are gone.
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

fn how_to_go_on(target: &Target, options: &Options) {
    say("\nThe cluster stays as it is.");
    if target.cluster().is_some() {
        let name = &options.name;
        say(&format!("  cargo xtask cluster --name {name} kubectl -n {} get pods", application::NAMESPACE));
        say(&format!(
            "  cargo xtask cluster --name {name} kubectl get deployment web -n {} -o yaml",
            application::NAMESPACE
        ));
        say(&format!("  cargo xtask cluster --name {name} status"));
        say(&format!("  cargo xtask cluster --name {name} down      # when you are done"));
    } else {
        say(&format!("  kubectl -n {} get pods", application::NAMESPACE));
        say(&format!(
            "  kubectl delete namespace {}; helm uninstall {} -n {}",
            application::NAMESPACE,
            install::RELEASE,
            install::NAMESPACE
        ));
    }
}
