//! The main job on a real cluster: a rolling restart under load, as many people have it, and once more
//! after one annotation.

mod application;
mod report;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::cluster::{self, Cluster, Name};
use crate::load::{Load, Outcome};
use crate::progress::{Step, say};
use crate::target::{External, Target};
use crate::workspace::Workspace;
use crate::{image, install, interrupt};
use application::Application;
use report::{Report, Run};

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

    /// The shortest time that a run's load lasts, in seconds
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(20..=120))]
    seconds: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rate: 100, seconds: 20 }
    }
}

/// Requests that are sent before the restart begins.
const LEAD: u64 = 200;
/// How long the load goes on once the last old pod is gone.
const TAIL: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(100);

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
    Application::new(target).remove()?;
    report.verdict()
}

fn show(target: &Target, pace: Pace) -> Result<Report> {
    let web = image::app(target.workspace(), "web")?;
    target.load_image(&web.archive)?;
    let application = Application::new(target);
    application.deploy(&web.reference())?;
    let address = |service| application.address(service);
    let (without_address, with_address) = (address("web-without")?, address("web-with")?);

    report::heading("A rolling restart under load, as it is");
    let without = restart_under_load(&application, without_address, pace)?;
    report::print_run(&without);

    report::heading("One annotation");
    let before = application.template()?;
    // Not asked at the other address, whose connections must not know the pods that are gone.
    application.annotate(without_address)?;
    let diff = report::template_diff(&before, &application.template()?)?;
    report::print_diff(&diff);

    report::heading("The same restart under the same load, with adieu");
    let with = restart_under_load(&application, with_address, pace)?;
    report::print_run(&with);

    let report = Report { without, with, template_diff: diff, rate: pace.rate };
    report.print_table();
    Ok(report)
}

/// Restarts the application while requests are sent, until every old pod is gone.
fn restart_under_load(application: &Application<'_>, address: SocketAddr, pace: Pace) -> Result<Run> {
    let minimum = u64::from(pace.rate) * u64::from(pace.seconds);
    let load = Load::default();
    thread::scope(|scope| {
        let sender = load.clone();
        let sending = scope.spawn(move || -> Result<Outcome> {
            application.target().enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(sender.run(address, pace.rate, minimum.max(2000))))
        });
        say(&format!("… {} requests/s to {address}", pace.rate));
        let restarted = restart(application, &load, || sending.is_finished());
        load.stop();
        let step = Step::start("waiting for the last answers");
        let outcome = sending.join().map_err(|_| anyhow::anyhow!("the load generator gave up"))??;
        step.done();
        let (restart_seconds, rollout_seconds) = restarted?;
        Ok(Run { outcome, restart_at_seconds: restart_seconds, rollout_seconds })
    })
}

/// When the restart began, in seconds from the start of the load, and how long it took until the last old
/// pod was gone.
fn restart(application: &Application<'_>, load: &Load, ended: impl Fn() -> bool) -> Result<(f64, f64)> {
    let begun = Instant::now();
    while load.sent() < LEAD {
        interrupt::check()?;
        if ended() {
            bail!("the load ended before the restart");
        }
        thread::sleep(POLL);
    }
    let old = application.pods()?;
    let restarted = Instant::now();
    application.restart()?;
    application.wait_until_gone(&old)?;
    let rollout = restarted.elapsed();
    let rest = Instant::now();
    while rest.elapsed() < TAIL {
        interrupt::check()?;
        thread::sleep(POLL);
    }
    Ok(((restarted - begun).as_secs_f64(), rollout.as_secs_f64()))
}

fn clean_up(target: &Target, started: Option<Cluster>) -> Result<()> {
    if let Some(cluster) = started {
        return cluster::down(&cluster);
    }
    Application::new(target).remove()?;
    install::uninstall(target)
}

fn how_to_go_on(target: &Target, options: &Options) {
    say("\nThe cluster stays as it is.");
    if target.is_ours() {
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
