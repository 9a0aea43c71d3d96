//! Continuous admissions, while a test acts on the operator.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use kube::Client;
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Scene, drain, eventually, web};

/// Creates an annotated Deployment with `dryRun=All`, repeatedly.
pub struct Admissions {
    count: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    load: JoinHandle<Outcome>,
}

/// The outcome of all of them.
#[derive(Debug, Default)]
pub struct Outcome {
    pub count: usize,
    /// Those that were denied or not injected, each with its time.
    pub failed: Vec<String>,
    pub slowest: Duration,
    /// The latency of each.
    pub times: Vec<Duration>,
}

impl Outcome {
    /// A percentile of latency.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() * percent / 100).or(times.last()).copied().unwrap_or_default()
    }
}

impl Admissions {
    pub fn start(scene: &Scene) -> Self {
        let (count, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (namespace, counted, ends) = (scene.namespace.clone(), count.clone(), over.clone());
        // A separate thread and client, so that the test doesn't delay them.
        let load = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = Client::try_default().await.expect("KUBECONFIG leads to a cluster");
                run(Scene { client, namespace }, counted, ends).await
            })
        });
        Self { count, over, load }
    }

    /// The number of admissions so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits for this many more.
    pub async fn further(&self, number: usize) {
        let goal = self.count() + number;
        eventually("further admissions", || async { self.count() >= goal }).await;
    }

    pub async fn end(self) -> Outcome {
        self.over.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(|| self.load.join().unwrap()).await.unwrap()
    }
}

async fn run(scene: Scene, count: Arc<AtomicUsize>, over: Arc<AtomicBool>) -> Outcome {
    let deployment = web("web", &json!({"adieu.dev/graceful": "true"}));
    let mut outcome = Outcome::default();
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        let failure = match scene.try_create_dry(&deployment).await {
            Ok(created) if drain(&serde_json::to_value(&created).unwrap()) == Some(10) => None,
            Ok(_) => Some("not injected".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        outcome.failed.extend(failure.map(|why| format!("{}: {why}", jiff::Timestamp::now())));
        outcome.times.push(started.elapsed());
        outcome.slowest = outcome.slowest.max(started.elapsed());
        outcome.count = count.fetch_add(1, Ordering::Relaxed) + 1;
    }
    outcome
}
