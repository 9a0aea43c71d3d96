//! Measures one way: what a calibration finds, the shortest drain, and the one that adieu chooses.

use std::path::PathBuf;

use anyhow::Result;

use super::application::Application;
use super::bursts::Bursts;
use super::commands::{Adieu, Calibrated, Requests, Tuned};
use super::connections::ShortTimeout;
use super::planes::DataPlane;
use super::report::{Phase, WayReport};
use super::ways::Way;
use crate::progress::print_line;
use crate::toolchain;

/// Requests per second, each on a new connection.
const RATE: u32 = 100;
/// The same beside bursts, which show silence.
const RATE_BESIDE_BURSTS: u32 = 1;
/// The longest drain of the search for the shortest one: a multiple of the calibrated one, and some seconds.
const MARGIN: (u64, u64) = (2, 2);

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Rollouts before the calibration.
    pub before: u32,
    /// Terminations of canaries.
    pub terminations: u32,
    /// Whether the shortest drain is searched for.
    pub tunes: bool,
    /// Rollouts after the calibration.
    pub after: u32,
}

/// Measures a way, and removes what was created for it, also after an error.
pub fn measure(adieu: &Adieu<'_>, way: &Way, extent: Extent) -> Result<WayReport> {
    print_line(&format!("measuring {}", way.name));
    let plane = DataPlane::new(adieu.target, way.plane);
    let application = Application::new(adieu, way.plane);
    let outcome = plane.set_up().and_then(|()| {
        application.deploy()?;
        Measurement::new(adieu, &application, way)?.run(extent)
    });
    let removed = application.remove().and_then(|()| plane.remove());
    let report = outcome?;
    removed.map(|()| report)
}

/// A way that is set up, with the application behind it.
struct Measurement<'a> {
    adieu: &'a Adieu<'a>,
    application: &'a Application<'a>,
    way: &'a Way,
    url: String,
    /// The program that sends bursts, if the way has them.
    bursts: Option<PathBuf>,
}

impl<'a> Measurement<'a> {
    fn new(adieu: &'a Adieu<'a>, application: &'a Application<'a>, way: &'a Way) -> Result<Self> {
        let workspace = adieu.target.workspace();
        let bursts = way.is_bursty.then(|| toolchain::build_app(workspace, "burst")).transpose()?;
        Ok(Self { adieu, application, way, url: application.url()?, bursts })
    }

    fn run(&self, extent: Extent) -> Result<WayReport> {
        let connections = ShortTimeout::set(self.adieu.target)?;
        let before = self.rollouts(extent.before)?;
        let Calibrated { seconds: calibrated, findings } =
            self.adieu.calibrate(&self.way.plane.calibrated(&self.url), extent.terminations)?;
        let (factor, more) = MARGIN;
        let tuned = if extent.tunes {
            // Drains that are too short leave connections to deleted pods.
            let tuned = self.adieu.tune(&self.url, calibrated * factor + more);
            self.application.settle()?;
            connections.forget_connections()?;
            Some(tuned?)
        } else {
            None
        };
        self.application.restart()?;
        let after = self.rollouts(extent.after)?;
        Ok(WayReport {
            way: self.way.name,
            shortest: tuned.as_ref().map(|tuned| tuned.seconds),
            is_confirmed: tuned.is_some_and(|Tuned { is_confirmed, .. }| is_confirmed),
            calibrated,
            after,
            before,
            findings,
        })
    }

    /// Rolls the application out so often under load, with the drain that it has.
    fn rollouts(&self, count: u32) -> Result<Phase> {
        let mut phase = Phase { auto: self.application.drain()?, ..Phase::default() };
        for number in 1..=count {
            print_line(&format!("{}: rollout {number} of {count}, drain {} s", self.way.name, phase.auto));
            phase.add(self.rollout()?);
            self.application.settle()?;
        }
        Ok(phase)
    }

    fn rollout(&self) -> Result<Requests> {
        let Some(program) = &self.bursts else { return self.adieu.rollout(&self.url, RATE) };
        let bursts = Bursts::start(self.adieu.target, program, &self.url)?;
        let steady = self.adieu.rollout(&self.url, RATE_BESIDE_BURSTS)?;
        Ok(steady.and(bursts.end()?))
    }
}
