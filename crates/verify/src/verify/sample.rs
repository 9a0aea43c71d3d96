//! One request of a load, and what became of it.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// A request, in times from the origin that everything of a recording is counted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// When it was due, whether or not it could be sent then.
    #[serde(with = "micros")]
    pub due: Duration,
    /// From there to the last byte of its answer, or until it was lost. So a request that had to wait for
    /// others counts the waiting.
    #[serde(with = "micros")]
    pub took: Duration,
    /// How long it waited for its connection, TLS included; all the time where it got none.
    #[serde(with = "micros")]
    pub connecting: Duration,
    /// What became of it.
    pub outcome: Outcome,
    /// The pod that answered, by its own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The address at the other end of the connection, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<IpAddr>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was answered whole, with this status.
    Answered(u16),
    /// It got no answer, or a server's error.
    Lost(Cause),
    /// It was not sent: as many as may be were waiting for their answers.
    NotSent,
}

/// Why a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Cause {
    /// Nobody listens at the address.
    Refused,
    /// The other end cut the connection.
    Reset,
    /// The connection ended in order, but before the answer did.
    Closed,
    /// No way leads to the address.
    Unreachable,
    /// There was no answer in the time that it may take.
    TimedOut,
    /// An answer with a status of 500 or more.
    ServerError(u16),
    /// The name in the URL was not resolved.
    Unresolved,
    /// TLS could not be agreed on.
    Tls,
    /// Something else.
    Other,
}

impl Sample {
    /// When it was over.
    #[must_use]
    pub fn done(&self) -> Duration {
        self.due.saturating_add(self.took)
    }

    /// Why it was lost, where it was.
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
            Self::Closed => "connection closed before the answer",
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

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub(super) fn serialize<S: serde::Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_micros)
    }
}
