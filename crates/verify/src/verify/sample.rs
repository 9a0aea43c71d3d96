//! One request of a load and its outcome.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// A request, in times from the recording's origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// When it was due, even if it was sent later.
    #[serde(with = "micros")]
    pub due: Duration,
    /// From then to the last byte of its answer, or until it was lost, so waiting for other requests counts.
    #[serde(with = "micros")]
    pub took: Duration,
    /// How long it waited for its connection, including TLS; the whole time if it got none.
    #[serde(with = "micros")]
    pub connecting: Duration,
    /// Its outcome.
    pub outcome: Outcome,
    /// The pod that the answer names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The peer's address, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// A complete answer with this status.
    Answered(u16),
    /// No answer, or a status of 500 or more.
    Lost(Cause),
    /// Not sent: the limit of requests in flight was reached.
    NotSent,
}

/// Why a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// No process listens at the address.
    Refused,
    /// The peer reset the connection.
    Reset,
    /// The peer closed the connection before the answer was complete.
    Closed,
    /// There is no route to the address.
    Unreachable,
    /// There was no answer within the timeout.
    TimedOut,
    /// An answer with a status of 500 or more.
    ServerError(u16),
    /// The host name in the URL didn't resolve.
    Unresolved,
    /// The TLS handshake failed.
    Tls,
    /// Any other cause.
    Other,
}

impl Sample {
    /// When it ended.
    #[must_use]
    pub fn done(&self) -> Duration {
        self.due.saturating_add(self.took)
    }

    /// Why it was lost, if it was.
    #[must_use]
    pub fn loss(&self) -> Option<Cause> {
        match self.outcome {
            Outcome::Lost(cause) => Some(cause),
            Outcome::Answered(_) | Outcome::NotSent => None,
        }
    }

    /// Whether it was answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self.outcome, Outcome::Answered(_))
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "connection refused",
            Self::Reset => "connection reset",
            Self::Closed => "connection closed before the response",
            Self::Unreachable => "no route to host",
            Self::TimedOut => "timed out",
            Self::ServerError(status) => return write!(f, "status {status}"),
            Self::Unresolved => "name not resolved",
            Self::Tls => "TLS failed",
            Self::Other => "connection failed",
        })
    }
}

/// Durations as whole microseconds.
mod micros {
    use super::{Deserialize, Duration};

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "required by serde")]
    pub(super) fn serialize<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}
