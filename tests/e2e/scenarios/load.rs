//! Load, and its outcome.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use adieu::verify::{Latency, PodTimeline, Recording, Sample, attributions};

use crate::load::get;

/// The pause between an answer and the next request, so that the load leaves CPU time for the tested application.
const PAUSE: Duration = Duration::from_millis(1);

/// A load, with a new connection for each request.
#[derive(Clone, Debug)]
pub struct Load {
    pub pace: Pace,
    /// The path of a request, by its number.
    pub path: fn(usize) -> String,
    /// The timeout of a request.
    pub limit: Duration,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// By this many clients, each of which waits for an answer before the next request.
    Clients(usize),
    /// At this rate per second, open-loop.
    PerSecond(u32),
}

/// A running load.
#[derive(Clone, Debug)]
pub struct Run {
    address: SocketAddr,
    pub started: Instant,
    minimum: usize,
    sent: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// The outcome of a load.
#[derive(Clone, Debug)]
pub struct Report {
    pub requests: usize,
    /// Each loss with its time, cause and possible pods.
    pub lost: Vec<String>,
    /// The timeline of each pod.
    pods: Vec<String>,
    /// The answered requests.
    answers: Vec<Sample>,
    /// The machine's SYN retransmissions meanwhile.
    pub repeated_syns: u64,
}

impl Load {
    /// Sends requests until `run` is stopped.
    pub async fn send(self, run: Run) -> Vec<Sample> {
        match self.pace {
            Pace::Clients(clients) => self.one_after_another(clients, run).await,
            Pace::PerSecond(rate) => self.per_second(rate, run).await,
        }
    }

    /// The number of requests of some seconds of load.
    pub fn some(&self) -> usize {
        match self.pace {
            Pace::Clients(clients) => 2 * clients.max(100),
            Pace::PerSecond(rate) => 2 * usize::try_from(rate).unwrap(),
        }
    }

    async fn one_after_another(self, clients: usize, run: Run) -> Vec<Sample> {
        let mut sending = JoinSet::new();
        for _ in 0..clients {
            let (load, run) = (self.clone(), run.clone());
            sending.spawn(async move {
                let mut samples = Vec::new();
                while let Some(number) = run.next() {
                    samples.push(load.request(&run, number, Instant::now()).await);
                    sleep(PAUSE).await;
                }
                samples
            });
        }
        sending.join_all().await.concat()
    }

    async fn per_second(self, rate: u32, run: Run) -> Vec<Sample> {
        let mut sending = JoinSet::new();
        while let Some(number) = run.next() {
            let due = run.started + Duration::from_secs(1) * u32::try_from(number).unwrap() / rate;
            sleep_until(due).await;
            let (load, run) = (self.clone(), run.clone());
            sending.spawn(async move { load.request(&run, number, due).await });
        }
        sending.join_all().await
    }

    /// Sends a request; its latency counts from when it was due.
    async fn request(&self, run: &Run, number: usize, due: Instant) -> Sample {
        let answer = get(run.address, &(self.path)(number), self.limit).await;
        answer.sample(due - run.started, due.elapsed())
    }
}

impl Run {
    /// At least `minimum` requests to `address`, from now on.
    pub fn new(address: SocketAddr, minimum: usize) -> Self {
        let (sent, stop) = (Arc::default(), CancellationToken::new());
        Self { address, started: Instant::now(), minimum, sent, stop }
    }

    /// How many requests were sent.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops it once there are enough requests.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The number of the next request, unless the load has ended.
    fn next(&self) -> Option<usize> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        (number < self.minimum || !self.stop.is_cancelled()).then_some(number)
    }
}

impl Report {
    /// A report of requests and pod timelines, in times from one origin.
    pub fn of(samples: Vec<Sample>, timelines: Vec<PodTimeline>, repeated_syns: u64) -> Self {
        let Recording { samples, timelines, .. } = Recording::new(samples, timelines, None);
        let lost = |sample: &Sample| {
            let (at, after) = (sample.due.as_secs_f64(), sample.took.as_secs_f64());
            let mut possible = attributions(sample, &timelines);
            // The pod that began to terminate first has most likely ended by then.
            possible.sort_by(|a, b| {
                b.after_termination_seconds.partial_cmp(&a.after_termination_seconds).unwrap()
            });
            let possible: Vec<_> = possible
                .into_iter()
                .take(3)
                .map(|attribution| {
                    format!(
                        "{} ({:+.2} s)",
                        attribution.pod,
                        attribution.after_termination_seconds.unwrap_or(f64::NAN)
                    )
                })
                .collect();
            Some(format!("at {at:.2} s, {} after {after:.2} s; terminating: {possible:?}", sample.loss()?))
        };
        let describe = |timeline: &PodTimeline| {
            let PodTimeline { name, ready, terminating, withdrawn, gone, .. } = timeline;
            format!(
                "{name}: ready {ready:.2?}, terminating {terminating:.2?}, withdrawn {withdrawn:.2?}, gone {gone:.2?}"
            )
        };
        Self {
            pods: timelines.iter().map(describe).collect(),
            requests: samples.len(),
            lost: samples.iter().filter_map(lost).collect(),
            answers: samples.into_iter().filter(Sample::is_answered).collect(),
            repeated_syns,
        }
    }

    pub fn lost(&self) -> usize {
        self.lost.len()
    }

    /// Asserts that every request was answered.
    pub fn assert_none_lost(&self, what: &str) {
        let some: Vec<_> = self.lost.iter().take(10).collect();
        let (lost, requests, pods) = (self.lost(), self.requests, &self.pods);
        assert_eq!(lost, 0, "{what} lost {lost} of {requests}: {some:#?}, where pods were {pods:#?}");
    }

    /// Milliseconds: mean, least, most, standard deviation.
    pub fn spread(&self) -> String {
        let times: Vec<_> = self.took().map(|took| took.as_secs_f64() * 1e3).collect();
        let count = f64::from(u32::try_from(times.len().max(1)).unwrap());
        let mean = times.iter().sum::<f64>() / count;
        let deviation = (times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count).sqrt();
        let least = times.iter().copied().fold(f64::INFINITY, f64::min);
        let most = times.iter().copied().fold(0.0, f64::max);
        format!("mean {mean:.0}, min {least:.0}, max {most:.0}, s.d. {deviation:.0} ms")
    }

    /// The p50, p99 and maximum latency in milliseconds.
    pub fn quantiles(&self) -> String {
        let Latency { p50, p99, max, .. } = Latency::of(self.took().collect());
        let [p50, p99, max] = [p50, p99, max].map(|seconds| seconds * 1e3);
        format!("p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms")
    }

    /// The largest latency, without connecting.
    pub fn slowest_once_connected(&self) -> Duration {
        let own = self.answers.iter().map(|answer| answer.took.saturating_sub(answer.connecting));
        own.max().unwrap_or_default()
    }

    /// How many answered requests waited at least this long for their connections.
    pub fn waited_for_connections(&self, limit: Duration) -> u64 {
        let waited = self.answers.iter().filter(|answer| answer.connecting >= limit);
        waited.count().try_into().unwrap()
    }

    fn took(&self) -> impl Iterator<Item = Duration> {
        self.answers.iter().map(|answer| answer.took)
    }
}

/// Linux's counter of SYN retransmissions in this network namespace.
pub fn repeated_syns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let (_, count) = names.zip(values).find(|(name, _)| *name == "TCPSynRetrans").expect("a count of SYNs");
    count.parse().unwrap()
}
