//! The loads of a calibration: one on new and one on kept connections through each way.

use std::{num::NonZeroU32, time::Duration};

use futures::future::try_join_all;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    calibration::{Connections, MARK_HEADER, Stream, WaySamples},
    canaries::StreamStates,
    disruption::Job,
    load::{self, Client, Options},
    verify::Sample,
};

/// The timeout of a request: shorter than the time for which a canary is still observed after its last request, and longer
/// than retransmissions of TCP, which are no loss.
pub(super) const TIMEOUT: Duration = Duration::from_secs(5);

/// The load of one stream.
pub(super) struct Load {
    pub(super) stream: Stream,
    pub(super) options: Options,
    /// The Job that sends it, if it runs in the cluster.
    pub(super) job: Option<Job>,
}

/// The options of the load of a stream.
pub(super) fn options(url: String, connections: Connections, rate: NonZeroU32, insecure: bool) -> Options {
    Options {
        rate,
        keep_alive: connections == Connections::Kept,
        timeout: TIMEOUT,
        insecure,
        pod_header: Some(MARK_HEADER.to_owned()),
        ..Options::to(url)
    }
}

/// Sends the loads until `stop`. Returns the samples of each way, in times from `origin`.
///
/// # Errors
/// A load fails.
pub(super) async fn send(
    loads: &[Load],
    ways: usize,
    origin: Instant,
    states: &watch::Sender<StreamStates>,
    stop: CancellationToken,
) -> anyhow::Result<Vec<WaySamples>> {
    let sent = try_join_all(loads.iter().map(|load| load.send(origin, states, stop.clone()))).await?;
    let mut samples = vec![WaySamples::default(); ways];
    for (load, sent) in loads.iter().zip(sent) {
        let Some(way) = samples.get_mut(load.stream.way) else { continue };
        match load.stream.connections {
            Connections::New => way.new = sent,
            Connections::Kept => way.kept = sent,
        }
    }
    Ok(samples)
}

impl Load {
    async fn send(
        &self,
        origin: Instant,
        states: &watch::Sender<StreamStates>,
        stop: CancellationToken,
    ) -> anyhow::Result<Vec<Sample>> {
        let record = |sample: &Sample| {
            states.send_modify(|states| states.add(self.stream, sample, Instant::now()));
        };
        if let Some(job) = &self.job {
            let (measured, ended) = job.follow(origin, stop, record).await;
            return ended.map(|()| measured.samples).map_err(Into::into);
        }
        let client = Client::new(&self.options)?;
        let mut samples = Vec::new();
        let sink = |sample: Sample| {
            record(&sample);
            samples.push(sample);
        };
        load::run(&client, &self.options, origin, sink, stop).await;
        Ok(samples)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::{calibration::is_marked, canaries::server::serve};

    #[tokio::test]
    async fn each_way_gets_the_samples_of_its_streams() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let never = std::future::pending();
        tokio::spawn(serve(listener, "canary-1".to_owned(), never, TIMEOUT, |_| ()));
        let loads: Vec<_> = Connections::ALL
            .into_iter()
            .map(|connections| {
                let stream = Stream { way: 1, connections };
                let url = format!("{url}{}", stream.path());
                let rate = NonZeroU32::new(20).unwrap();
                Load { stream, options: options(url, connections, rate, false), job: None }
            })
            .collect();
        let (states, mut seen) = watch::channel(StreamStates::new(2));
        let stop = CancellationToken::new();
        let sent = send(&loads, 2, Instant::now(), &states, stop.clone());
        let enough = async {
            seen.wait_for(|states| states.requests() >= 20).await.unwrap();
            stop.cancel();
        };
        let (samples, ()) = tokio::join!(sent, enough);
        let samples = samples.unwrap();
        assert!(samples[0].new.is_empty() && samples[0].kept.is_empty());
        for sent in [&samples[1].new, &samples[1].kept] {
            assert!(!sent.is_empty() && sent.iter().all(is_marked), "{sent:?}");
        }
    }
}
