//! The deadline of a request.

use std::time::Duration;

use tokio::time::Instant;

/// The maximum time between the deadline and the API server's timeout, for connecting and for sending the response. A
/// short timeout has a shorter margin.
const MARGIN: Duration = Duration::from_secs(1);

/// The time by which a response must be sent. No step waits longer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request with that timeout of the API server.
    pub(super) fn after(timeout: Duration) -> Self {
        Self(Instant::now() + timeout - MARGIN.min(timeout * 3 / 10))
    }

    /// The deadline of a request with this query, which has the webhook's `timeoutSeconds` as `timeout=5s`. Any client
    /// may write it, so it is at most `longest`, the longest one of the webhooks, which applies if it is missing or
    /// invalid.
    pub(super) fn of_query(query: Option<&str>, longest: Duration) -> Self {
        let values = query.into_iter().flat_map(|query| query.split('&'));
        let seconds = values
            .filter_map(|pair| pair.strip_prefix("timeout=")?.strip_suffix('s')?.parse().ok())
            .find(|seconds| *seconds > 0);
        Self::after(seconds.map_or(longest, Duration::from_secs).min(longest))
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
        let longest = Duration::from_secs(10);
        for (query, milliseconds) in [
            (Some("timeout=1s"), 700),
            (Some("timeout=2s"), 1400),
            (Some("x=1&timeout=10s"), 9000),
            (Some("timeout=30s"), 9000),
            (None, 9000),
            (Some("timeout=0s"), 9000),
            (Some("timeout=18446744073709551615s"), 9000),
            (Some("timeout=soon"), 9000),
        ] {
            let left = Deadline::of_query(query, longest).left();
            assert_eq!(left, Duration::from_millis(milliseconds), "{query:?}");
        }
    }
}
