//! `adieu canary`: the server of `adieu calibrate`, in its pods. It writes the requests that arrive after SIGTERM to
//! standard output as lines of JSON.

use std::{
    io::{Write as _, stdout},
    net::{Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{block_on::block_on, duration::duration};
use crate::{calibration::LoggedArrival, canaries::server::serve, runtime::serving::listen};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The name of its pod.
    #[arg(long, value_name = "NAME")]
    pod: String,

    /// The port.
    #[arg(long, value_name = "PORT", default_value = "8080")]
    port: u16,

    /// The time without a request after which it receives no more.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    quiet: Duration,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    block_on(async {
        let mut sigterm = signal(SignalKind::terminate()).context("cannot listen for signals")?;
        let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, arguments.port));
        let listener = listen(address).await.with_context(|| format!("cannot listen on {address}"))?;
        let terminated = async {
            sigterm.recv().await;
        };
        let pod = arguments.pod.clone();
        serve(listener, pod, terminated, arguments.quiet, log).await.context("cannot serve")
    })
}

/// Writes a line. If that fails, the responses still have the time of the arrival.
fn log(arrival: &LoggedArrival) {
    if let Ok(line) = serde_json::to_string(arrival) {
        let _ = writeln!(stdout(), "{line}");
    }
}
