//! Observations on connections.

use std::{fmt, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

/// An observation on a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Observation {
    /// How long a connection was kept idle.
    Idle(IdleProbe),
    /// How a connection ended that was held open.
    Held(HeldConnection),
    /// No connection of this kind could be opened.
    NotOpened {
        /// The kind.
        kind: ConnectionKind,
        /// The reason.
        reason: String,
    },
}

/// A connection that is left idle after its first response, and then gets another request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdleProbe {
    /// How long it is left idle, unless it ends earlier.
    pub idle: Duration,
    /// Its outcome.
    pub outcome: IdleOutcome,
    /// The seconds that the first response gives as `Keep-Alive: timeout=`.
    pub advertised_seconds: Option<u64>,
}

/// The outcome of an [`IdleProbe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IdleOutcome {
    /// The request after the idle time was answered.
    Answered,
    /// The server closed the connection after this time.
    Closed(Duration),
    /// The server reset the connection after this time.
    Reset(Duration),
    /// The connection did not end, but the request after the idle time got no response.
    Lost,
    /// The first response ended the connection.
    NotKept,
    /// The first request got no response.
    Failed,
}

/// What a connection is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ConnectionKind {
    /// HTTP/1.1 with a request several times a second.
    Busy,
    /// HTTP/1.1 without a request after the first.
    Idle,
    /// HTTP/2 with a request several times a second.
    Http2,
    /// A gRPC server stream.
    Grpc,
    /// A `WebSocket`.
    WebSocket,
}

/// A connection that was held open, in times from the recording's origin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldConnection {
    /// What it was used for.
    pub kind: ConnectionKind,
    /// When it was opened.
    pub opened: Duration,
    /// The pod that its responses name.
    pub pod: Option<String>,
    /// The peer's address, if known.
    pub peer: Option<IpAddr>,
    /// Whether its responses name several pods, so that a proxy holds the connections to the pods.
    pub has_several_pods: bool,
    /// When the server announced its end: by `Connection: close`, GOAWAY or a close frame.
    pub announced: Option<Duration>,
    /// When it ended, and how; absent if it was still open at the end of the run.
    pub ended: Option<(Duration, Ending)>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// It was closed between requests, or the server completed its stream.
    Closed,
    /// It was reset between requests.
    Reset,
    /// It ended while a request or a stream was in progress.
    Cut,
}

impl Observation {
    /// Adds `by` to its times.
    pub fn shift(&mut self, by: Duration) {
        let Self::Held(HeldConnection { opened, announced, ended, .. }) = self else { return };
        *opened += by;
        *announced = announced.map(|at| at + by);
        *ended = ended.map(|(at, how)| (at + by, how));
    }
}

impl ConnectionKind {
    /// Whether it is one long stream, and not separate requests.
    #[must_use]
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Grpc | Self::WebSocket)
    }
}

impl fmt::Display for ConnectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy => "HTTP/1.1 with requests",
            Self::Idle => "HTTP/1.1 idle",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "gRPC stream",
            Self::WebSocket => "WebSocket",
        })
    }
}
