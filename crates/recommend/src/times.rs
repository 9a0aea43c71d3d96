//! The times that workloads need.

/// The times of a workload that a policy sets, in seconds. `None` is a time that no policy has to set, because an
/// annotation sets it, or because the drain is `Auto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Times {
    /// From the start of the termination to SIGTERM.
    pub drain_seconds: Option<i64>,
    /// From SIGTERM to the exit of the application.
    pub shutdown_timeout_seconds: Option<i64>,
}

impl Times {
    /// Whether one policy can set both.
    pub(crate) fn is_compatible(self, other: Self) -> bool {
        let agree = |a: Option<i64>, b: Option<i64>| a.zip(b).is_none_or(|(a, b)| a == b);
        agree(self.drain_seconds, other.drain_seconds)
            && agree(self.shutdown_timeout_seconds, other.shutdown_timeout_seconds)
    }

    /// These times, and those of `other` that are missing.
    pub(crate) fn or(self, other: Self) -> Self {
        Self {
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            shutdown_timeout_seconds: self.shutdown_timeout_seconds.or(other.shutdown_timeout_seconds),
        }
    }

    /// The longer of each time.
    pub(crate) fn longest(self, other: Self) -> Self {
        Self {
            drain_seconds: self.drain_seconds.max(other.drain_seconds),
            shutdown_timeout_seconds: self.shutdown_timeout_seconds.max(other.shutdown_timeout_seconds),
        }
    }

    /// How many times are set.
    pub(crate) fn count(self) -> usize {
        usize::from(self.drain_seconds.is_some()) + usize::from(self.shutdown_timeout_seconds.is_some())
    }
}
