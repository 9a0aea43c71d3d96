//! `adieu load`: the load of `adieu verify --in-cluster`, in its Job. It writes samples to standard output as lines of
//! JSON.

use std::{
    io::{Write as _, stdout},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    load::{self, Client, Options},
    probe::{Target, hold, keep_alive},
    runtime::shutdown,
    verify::{Line, Observation, Sample},
};

/// The interval of lines, short enough for samples to arrive quickly.
const PERIOD: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The load to send, as JSON.
    #[arg(value_parser = |text: &str| serde_json::from_str::<Options>(text))]
    options: Options,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?
        .block_on(send(&arguments.options))
}

async fn send(options: &Options) -> anyhow::Result<()> {
    let (client, target) = (Client::new(options)?, Arc::new(Target::new(options)?));
    let origin = Instant::now();
    let (sender, mut samples) = unbounded_channel();
    let (observer, mut observations) = unbounded_channel();
    let stop = CancellationToken::new();
    let observe = |observation| drop(observer.send(observation));
    let load = async {
        if let Some(limit) = options.probes.idle_limit {
            keep_alive(&target, limit, &stop).await.into_iter().for_each(observe);
        }
        let send = |sample| drop(sender.send(sample));
        tokio::join!(
            load::run(&client, options, origin, send, stop.clone()),
            hold(&target, origin, observe, stop.clone()),
        );
    };
    let requested = async {
        let outcome = shutdown::requested().await;
        stop.cancel();
        outcome.context("cannot listen for signals")
    };
    let report = async {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            write(origin, received(&mut samples), received(&mut observations))?;
        }
    };
    let outcome: anyhow::Result<()> = tokio::select! {
        ((), requested) = async { tokio::join!(load, requested) } => requested,
        reported = report => reported,
    };
    outcome?;
    write(origin, received(&mut samples), received(&mut observations))?;
    line(&Line::End)
}

fn received<T>(from: &mut UnboundedReceiver<T>) -> Vec<T> {
    let mut batch = Vec::new();
    while let Ok(item) = from.try_recv() {
        batch.push(item);
    }
    batch
}

fn write(origin: Instant, samples: Vec<Sample>, observations: Vec<Observation>) -> anyhow::Result<()> {
    let now_micros = u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX);
    line(&Line::Samples { now_micros, samples })?;
    if observations.is_empty() { Ok(()) } else { line(&Line::Observations(observations)) }
}

fn line(line: &Line) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    serde_json::to_writer(&mut out, line).context("cannot write a line")?;
    out.write_all(b"\n").and_then(|()| out.flush()).context("cannot write a line")
}
