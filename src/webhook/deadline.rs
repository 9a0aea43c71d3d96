//! By when a request must be answered.

use std::time::Duration;

use tokio::time::Instant;

/// The longest `timeoutSeconds` that the API server accepts in a webhook configuration.
const LONGEST: u64 = 30;
/// How much earlier than the API server's timeout everything here ends, at most. The API server's clock starts before
/// it connects, so a short timeout keeps a part of itself for connecting and for the answer's way back.
const MARGIN: Duration = Duration::from_secs(1);

/// The time by which a request must be answered: whatever waits for something waits no longer than this.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request that the API server gives up after `timeout`.
    pub(super) fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout - MARGIN.min(timeout * 3 / 10))
    }

    /// The deadline of a request with this query. The API server adds the webhook's own `timeoutSeconds` to each
    /// request as `timeout=5s`. A missing or unusual value means `fallback`.
    pub(super) fn of_query(query: Option<&str>, fallback: Duration) -> Self {
        let values = query.into_iter().flat_map(|query| query.split('&'));
        let seconds = values
            .filter_map(|pair| pair.strip_prefix("timeout=")?.strip_suffix('s')?.parse().ok())
            .find(|seconds| (1..=LONGEST).contains(seconds));
        Self::after(seconds.map_or(fallback, Duration::from_secs))
    }

    /// How much time is left.
    pub(super) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_comes_before_the_timeout_of_the_api_server() {
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
