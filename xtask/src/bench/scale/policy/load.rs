//! Open-loop load: a slow response doesn't delay the next request, so a stall counts against every request that it
//! delays.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kube::Client;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until, timeout};

use crate::interrupt;
use crate::target::Target;

/// Requests without a response, at most, if their latency is measured. More mean that the API server can't keep up, and
/// every later latency would be that of the queue.
pub const MAX_WAITING: usize = 500;
/// For the responses to the last requests.
const DRAIN: Duration = Duration::from_mins(3);

/// A request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When it was due.
    pub due: Instant,
    /// From then until its response.
    pub seconds: f64,
}

/// The latencies of requests that were due in one of the windows.
pub fn within(sent: &[Sent], windows: &[(Instant, Instant)]) -> Vec<f64> {
    let is_within = |sent: &&Sent| windows.iter().any(|(from, to)| (*from..*to).contains(&sent.due));
    sent.iter().filter(is_within).map(|sent| sent.seconds).collect()
}

/// Load on a thread of its own, whose latencies don't depend on what else this program does.
pub struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sent>>>,
}

impl Load {
    /// Sends `rate` requests a second until it is stopped or dropped. It fails if more than `waiting` have no response.
    pub fn start<F, S>(
        target: &Target,
        rate: u32,
        waiting: usize,
        sender: impl FnOnce(Client) -> S + Send + 'static,
    ) -> Self
    where
        S: Fn(u32) -> F,
        F: Future<Output = Result<()>>,
    {
        let (target, stop) = (target.clone(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = spawn_blocking(move || {
            target.with_client(async |client| open_loop((rate, waiting), &stopped, sender(client)).await)
        });
        Self { stop, thread }
    }

    /// Stops it. An error if a request failed.
    pub async fn stop(mut self) -> Result<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        (&mut self.thread).await.context("the load was cut short")?
    }

    /// The error with which it has ended already, if it has: a request failed, or too many wait.
    pub async fn check(&mut self) -> Result<()> {
        interrupt::check()?;
        if self.thread.is_finished() {
            (&mut self.thread).await.context("the load was cut short")??;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sends request after request when it is due, until `stop`.
async fn open_loop<F>(
    (rate, max_waiting): (u32, usize),
    stop: &AtomicBool,
    send: impl Fn(u32) -> F,
) -> Result<Vec<Sent>>
where
    F: Future<Output = Result<()>>,
{
    let (started, period) = (Instant::now(), Duration::from_secs(1) / rate);
    let timed = async |due: Instant, response: F| -> Result<Sent> {
        response.await?;
        Ok(Sent { due, seconds: due.elapsed().as_secs_f64() })
    };
    let (mut waiting, mut answered, mut number) = (FuturesUnordered::new(), Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        interrupt::check()?;
        ensure!(
            waiting.len() < max_waiting,
            "{max_waiting} requests wait for a response: this machine cannot take {rate} a second"
        );
        let due = started + period * number;
        tokio::select! {
            Some(sent) = waiting.next() => answered.push(sent?),
            () = sleep_until(due) => {
                waiting.push(timed(due, send(number)));
                number += 1;
            }
        }
    }
    let rest = async {
        while let Some(sent) = waiting.next().await {
            answered.push(sent?);
        }
        Ok(answered)
    };
    timeout(DRAIN, rest).await.context("the last requests got no response")?
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use anyhow::anyhow;
    use tokio::sync::Notify;

    use super::*;

    #[test]
    fn requests_count_for_the_window_of_their_due_time() {
        let start = Instant::now();
        let at = |second: u32| start + Duration::from_secs(second.into());
        let sent: Vec<_> = (0..10).map(|second| Sent { due: at(second), seconds: second.into() }).collect();
        assert_eq!(within(&sent, &[(at(1), at(3)), (at(8), at(20))]), [1.0, 2.0, 8.0, 9.0]);
        assert!(within(&sent, &[]).is_empty());
    }

    #[tokio::test]
    async fn open_loop_sends_the_next_request_while_others_wait() {
        let (stop, fifth, count) = (AtomicBool::new(false), Notify::new(), Cell::new(0));
        let sent = open_loop((1000, MAX_WAITING), &stop, |number| {
            count.set(number + 1);
            if number == 4 {
                fifth.notify_waiters();
                stop.store(true, Ordering::Relaxed);
            }
            let fifth = fifth.notified();
            async move {
                // The earlier ones get their responses with the fifth.
                if number < 4 {
                    fifth.await;
                }
                Ok(())
            }
        });
        let sent = sent.await.unwrap();
        assert_eq!((sent.len(), count.get()), (5, 5));
        let first = sent.iter().min_by_key(|sent| sent.due).unwrap();
        assert!(first.seconds >= 0.004, "it waited for the fifth, 4 ms later: {first:?}");
    }

    #[tokio::test]
    async fn open_loop_fails_with_its_first_request_that_fails() {
        let stop = AtomicBool::new(false);
        let failed = open_loop((1000, MAX_WAITING), &stop, |_| async { Err(anyhow!("rejected")) }).await;
        assert_eq!(failed.unwrap_err().to_string(), "rejected");
    }
}
