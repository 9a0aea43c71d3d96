//! Times after others, which never overflow.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// A time after another.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}
