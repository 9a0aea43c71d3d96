//! A maximum rate for writes that can wait. A policy change can concern thousands of workloads and hundreds of policies;
//! their annotations and status must not delay the requests of others at the API server.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use super::keys::Key;

/// The time between two writes: 20 per second, the default of controllers (controller-runtime, `rest.Config.QPS`).
const INTERVAL: Duration = Duration::from_millis(50);
/// How many writes after a pause need not wait.
const BURST: u32 = 10;

/// Gives each write a time. The times are a minimum interval apart, apart from a few after a pause.
#[derive(Default)]
pub(super) struct Pace(Mutex<Times>);

#[derive(Default)]
struct Times {
    /// The next time without a burst.
    next: Option<Instant>,
    /// The times of workloads that have not been written yet.
    of: HashMap<Key, Instant>,
}

impl Times {
    fn take(&mut self) -> Instant {
        let now = Instant::now();
        let first = now.checked_sub(INTERVAL * BURST).unwrap_or(now);
        let time = self.next.map_or(first, |next| next.max(first));
        self.next = Some(time + INTERVAL);
        time
    }
}

impl Pace {
    /// Waits until a write may be sent.
    pub(super) async fn wait(&self) {
        let time = self.times().take();
        sleep_until(time).await;
    }

    /// How long the write of a workload has to wait; `None` if it may be sent now. A workload keeps its time until it is
    /// asked for again after that.
    pub(super) fn delay(&self, key: &Key) -> Option<Duration> {
        let mut times = self.times();
        let time = match times.of.get(key) {
            Some(time) => *time,
            None => times.take(),
        };
        let delay = time.saturating_duration_since(Instant::now());
        if delay.is_zero() {
            times.of.remove(key);
            return None;
        }
        times.of.insert(key.clone(), time);
        Some(delay)
    }

    /// Drops workloads that were deleted.
    pub(super) fn retain(&self, exists: impl Fn(&Key) -> bool) {
        self.times().of.retain(|key, _| exists(key));
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::plan::Kind;

    fn key(name: &str) -> Key {
        Key { kind: Kind::Deployment, namespace: "shop".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn writes_are_an_interval_apart_after_a_burst() {
        let pace = Pace::default();
        let started = Instant::now();
        for _ in 0..=BURST {
            pace.wait().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO);
        for _ in 0..20 {
            pace.wait().await;
        }
        let second = Duration::from_secs(1);
        assert!(started.elapsed() >= second && started.elapsed() < second + INTERVAL);
        advance(2 * second).await;
        let started = Instant::now();
        for _ in 0..=BURST {
            pace.wait().await;
        }
        assert_eq!(started.elapsed(), Duration::ZERO, "a pause allows a burst again, and no more than one");
        pace.wait().await;
        assert!(started.elapsed() >= INTERVAL);
    }

    #[tokio::test(start_paused = true)]
    async fn a_workload_keeps_its_time_until_it_is_written() {
        let pace = Pace::default();
        for number in 0..=BURST {
            assert_eq!(pace.delay(&key(&number.to_string())), None);
        }
        let delays = ["a", "b", "a"].map(|name| pace.delay(&key(name)));
        assert_eq!(delays, [Some(INTERVAL), Some(2 * INTERVAL), Some(INTERVAL)]);
        advance(INTERVAL).await;
        assert_eq!(pace.delay(&key("a")), None);
        assert_eq!(pace.delay(&key("b")), Some(INTERVAL));
        assert_eq!(pace.delay(&key("a")), Some(2 * INTERVAL), "it has been written");
        pace.retain(|key| key.name == "a");
        assert_eq!(pace.times().of.len(), 1);
    }
}
