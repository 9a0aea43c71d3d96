//! Requests, and what became of them.

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

use adieu::verify::{Latency, Life, Recording, Sample, ties};

use crate::load::get;

/// A request after an answer, so that the load leaves some of the machine to what is tested.
const PAUSE: Duration = Duration::from_millis(1);

/// Requests, each on a connection of its own.
#[derive(Clone, Debug)]
pub struct Load {
    pub pace: Pace,
    /// The path of each, by its number.
    pub path: fn(usize) -> String,
    /// How long an answer may take.
    pub limit: Duration,
}

/// When requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// By so many clients, each of which waits for its answer before it sends another.
    Clients(usize),
    /// So many a second, whatever becomes of them.
    PerSecond(u32),
}

/// The course of a load.
#[derive(Clone, Debug)]
pub struct Run {
    address: SocketAddr,
    pub started: Instant,
    minimum: usize,
    sent: Arc<AtomicUsize>,
    stop: CancellationToken,
}

/// What became of all.
#[derive(Clone, Debug)]
pub struct Report {
    pub requests: usize,
    /// When each loss was, why, and which pods it may have met.
    pub lost: Vec<String>,
    /// When each pod was what.
    pods: Vec<String>,
    /// The answered ones.
    answers: Vec<Sample>,
    /// How many SYNs this machine sent again meanwhile.
    pub repeated_syns: u64,
}

impl Load {
    /// Sends requests until `run` says that it is enough.
    pub async fn send(self, run: Run) -> Vec<Sample> {
        match self.pace {
            Pace::Clients(clients) => self.one_after_another(clients, run).await,
            Pace::PerSecond(rate) => self.per_second(rate, run).await,
        }
    }

    /// Requests that make some seconds of load.
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

    /// Its time counts from when it was due.
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

    /// Ends it once there are enough requests.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The number of the next request, while there is to be one.
    fn next(&self) -> Option<usize> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        (number < self.minimum || !self.stop.is_cancelled()).then_some(number)
    }
}

impl Report {
    /// Of requests to pods that lived so, in times from one origin.
    pub fn of(samples: Vec<Sample>, lives: Vec<Life>, repeated_syns: u64) -> Self {
        let Recording { samples, lives, .. } = Recording::new(samples, lives, None);
        let lost = |sample: &Sample| {
            let (at, after) = (sample.due.as_secs_f64(), sample.took.as_secs_f64());
            let mut met = ties(sample, &lives);
            // Whose termination began first has most likely ended by now.
            met.sort_by(|a, b| {
                b.after_termination_seconds.partial_cmp(&a.after_termination_seconds).unwrap()
            });
            let met: Vec<_> = met
                .into_iter()
                .take(3)
                .map(|tie| {
                    format!("{} ({:+.2} s)", tie.pod, tie.after_termination_seconds.unwrap_or(f64::NAN))
                })
                .collect();
            Some(format!("at {at:.2} s, {} after {after:.2} s; terminating: {met:?}", sample.loss()?))
        };
        let told = |life: &Life| {
            let Life { name, ready, terminating, withdrawn, gone, .. } = life;
            format!(
                "{name}: ready {ready:.2?}, terminating {terminating:.2?}, withdrawn {withdrawn:.2?}, gone {gone:.2?}"
            )
        };
        Self {
            pods: lives.iter().map(told).collect(),
            requests: samples.len(),
            lost: samples.iter().filter_map(lost).collect(),
            answers: samples.into_iter().filter(Sample::is_answered).collect(),
            repeated_syns,
        }
    }

    pub fn lost(&self) -> usize {
        self.lost.len()
    }

    /// An error in the test unless every request was answered.
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

    /// Milliseconds that half and 99 in 100 of the answers took at most, and the slowest.
    pub fn quantiles(&self) -> String {
        let Latency { p50, p99, max, .. } = Latency::of(self.took().collect());
        let [p50, p99, max] = [p50, p99, max].map(|seconds| seconds * 1e3);
        format!("p50 {p50:.1}, p99 {p99:.1}, max {max:.1} ms")
    }

    /// The slowest answer, from when it had its connection.
    pub fn slowest_once_connected(&self) -> Duration {
        let own = self.answers.iter().map(|answer| answer.took.saturating_sub(answer.connecting));
        own.max().unwrap_or_default()
    }

    /// How many of the answered waited at least so long for their connections.
    pub fn waited_for_connections(&self, limit: Duration) -> u64 {
        let waited = self.answers.iter().filter(|answer| answer.connecting >= limit);
        waited.count().try_into().unwrap()
    }

    fn took(&self) -> impl Iterator<Item = Duration> {
        self.answers.iter().map(|answer| answer.took)
    }
}

/// How many SYNs this machine has sent again, as Linux counts them for the network namespace that this runs in.
pub fn repeated_syns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let (_, count) = names.zip(values).find(|(name, _)| *name == "TCPSynRetrans").expect("a count of SYNs");
    count.parse().unwrap()
}
