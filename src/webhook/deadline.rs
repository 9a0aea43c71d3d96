//! The deadline of a request.

use std::time::Duration;

use tokio::time::Instant;

/// The longest `timeoutSeconds` that the API server accepts in a webhook configuration.
const LONGEST: u64 = 30;
/// The maximum time between the deadline and the API server's timeout, for connecting and for sending the answer. A
/// short timeout has a shorter margin.
const MARGIN: Duration = Duration::from_secs(1);

/// The time by which a request must be answered. No step waits longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request with that timeout of the API server.
    pub(super) fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout - MARGIN.min(timeout * 3 / 10))
    }

    /// The deadline of a request with this query, which has the webhook's `timeoutSeconds` as `timeout=5s`. If it is
    /// missing or invalid, `fallback` applies.
    pub(super) fn of_query(query: Option<&str>, fallback: Duration) -> Self {
        let values = query.into_iter().flat_map(|query| query.split('&'));
        let seconds = values
            .filter_map(|pair| pair.strip_prefix("timeout=")?.strip_suffix('s')?.parse().ok())
            .find(|seconds| (1..=LONGEST).contains(seconds));
        Self::after(seconds.map_or(fallback, Duration::from_secs))
    }

    /// The time left.
    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_before_the_timeout_of_the_api_server() {
        let fallback = Duration::from_secs(5);
        for (query, milliseconds) in [
            (Some("timeout=1s"), 700),
            (Some("timeout=2s"), 1400),
            (Some("x=1&timeout=10s"), 9000),
            (Some("timeout=30s"), 29_000),
            (None, 4000),
            (Some("timeout=0s"), 4000),
            (Some("timeout=86400s"), 4000),
            (Some("timeout=soon"), 4000),
        ] {
            let left = Deadline::of_query(query, fallback).left();
            assert_eq!(left, Duration::from_millis(milliseconds), "{query:?}");
        }
    }
}
