//! Receives the bodies of requests, in bounded memory and time.
//!
//! Anybody who reaches the port may send anything, so what is held for it is bounded for each peer and in all:
//!
//! - A body gets its share of a budget with its first bytes, all of it at once, and then one buffer of exactly its
//!   length. Several bodies of a peer that grew step by step could each wait for what the others hold.
//! - There are two budgets, for small bodies (all but the rarest reviews) and for large ones, so that a small body
//!   never queues behind a large one. A peer may hold a third of either. Two peers that hold as much as they can leave
//!   the last third to the API server, which is enough for the largest body; other requests wait in line.
//! - A share is held for a bounded time: the body must come at [`RATE`], then it is answered.
//! - A peer is an address. The API server is one as well, or a few: one for each control plane node, or a single
//!   tunnel agent in front of all. Its bodies come at once and are answered within milliseconds, so a third of the
//!   budget is enough for hundreds of requests at a time; if it isn't for a moment, they wait and are not refused.
//! - IPv6 addresses aren't grouped by prefix. The pods of a node, among them that agent, share a /64.
//!
//! What goes out is bounded as well: a client may not read it. An answer of more than [`SMALL_ANSWER`] holds its share of
//! a third budget until it was sent.
//!
//! What is larger than [`BODY_LIMIT`] is not kept, only read and dropped; its start says whether it may be a review.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream, HttpBody as _},
    http::StatusCode,
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::deadline::Deadline;

const KIB: usize = 1024;
/// The largest body, in bytes, that is looked into. etcd takes objects of 1.5 MiB, and an update carries two.
pub(super) const BODY_LIMIT: usize = 4096 * KIB;
/// The largest body that is read at all. A review of what the API server takes (requests of 3 MiB) is smaller.
pub(super) const DISCARD_LIMIT: u64 = 32 * 1024 * 1024;
/// The largest small body. Hardly any review is larger. Also what is kept of the start of a body over [`BODY_LIMIT`].
pub(super) const SMALL: usize = 64 * KIB;
/// What a peer may hold of small bodies.
const SMALL_SHARE: usize = 1536 * KIB;
/// How many peers may hold as much as they can at a time.
const PEERS: usize = 3;

/// The largest answer, in bytes. A patch grows with the number of containers, and with what the annotations of an
/// earlier revision told adieu.
pub(super) const ANSWER_LIMIT: usize = 2048 * KIB;
/// The largest answer that needs no share of the budget.
const SMALL_ANSWER: usize = 8 * KIB;

/// What a body may take to come, beside what its length takes at [`RATE`].
const ARRIVAL: Duration = Duration::from_secs(1);
/// The lowest rate, in bytes per second, at which a body may come. The API server sends it at once, over a network
/// within the cluster.
const RATE: usize = 2048 * KIB;

/// The memory for bodies, shared by all requests.
#[derive(Clone, Debug)]
pub(super) struct BodyBudget {
    small: Pool,
    large: Pool,
    answers: Pool,
}

/// An answer, with its share of the budget until it was sent.
struct HeldAnswer {
    text: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for HeldAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// A body, with its share of the budget until it is dropped.
#[derive(Debug)]
pub(super) struct BufferedBody {
    pub(super) bytes: Vec<u8>,
    _share: Share,
}

/// A body over [`BODY_LIMIT`].
pub(super) struct OversizedBody {
    start: BufferedBody,
    rest: Arrival,
}

/// What came.
pub(super) enum ReceivedBody {
    Buffered(BufferedBody),
    Oversized(OversizedBody),
}

/// Why a body wasn't received.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("length limit exceeded: an admission review has at most {DISCARD_LIMIT} bytes")]
    TooLarge,
    #[error("a body of more than {SMALL} bytes needs a Content-Length")]
    NoLength,
    #[error("the body did not arrive in time: at least {RATE} bytes per second are expected")]
    TooSlow,
    #[error("no memory is free for another body of this size: try again")]
    NoBudget,
    #[error("the body broke off: {0}")]
    BrokeOff(#[from] axum::Error),
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self { small: Pool::new(SMALL_SHARE), large: Pool::new(BODY_LIMIT), answers: Pool::new(ANSWER_LIMIT) }
    }
}

impl BodyBudget {
    /// An answer of at most [`ANSWER_LIMIT`], once there is room for it.
    pub(super) async fn hold_answer(
        &self,
        text: Vec<u8>,
        peer: IpAddr,
        deadline: Deadline,
    ) -> Result<Bytes, BodyError> {
        if text.len() <= SMALL_ANSWER {
            return Ok(text.into());
        }
        let share = timeout(deadline.left(), self.answers.reserve(peer, text.len())).await;
        let share = share.ok().flatten().ok_or(BodyError::NoBudget)?;
        Ok(Bytes::from_owner(HeldAnswer { text, _share: share }))
    }

    /// Receives a body: all of it, or of one that is too large the start.
    pub(super) async fn receive(
        &self,
        body: Body,
        peer: IpAddr,
        deadline: Deadline,
    ) -> Result<ReceivedBody, BodyError> {
        let length = body.size_hint().exact();
        let oversized = length.is_some_and(|length| length > BODY_LIMIT as u64);
        if length.is_some_and(|length| length > DISCARD_LIMIT) {
            return Err(BodyError::TooLarge);
        }
        let room = match length.map(usize::try_from) {
            Some(Ok(length)) if !oversized => length,
            _ => SMALL,
        };
        let mut arrival = Arrival { chunks: body.into_data_stream() };
        let first = arrival.next(ARRIVAL.min(deadline.left())).await?;
        let pool = if room <= SMALL { &self.small } else { &self.large };
        let share = timeout(deadline.left(), pool.reserve(peer, room)).await;
        let share = share.ok().flatten().ok_or(BodyError::NoBudget)?;
        let mut received = BufferedBody { bytes: Vec::with_capacity(room), _share: share };
        let fill = async {
            let mut next = first;
            while let Some(chunk) = next {
                let fits = chunk.len().min(room - received.bytes.len());
                received.bytes.extend_from_slice(&chunk[..fits]);
                if oversized && received.bytes.len() == room {
                    return Ok(());
                }
                if fits < chunk.len() {
                    return Err(BodyError::NoLength);
                }
                next = arrival.chunk().await?;
            }
            Ok(())
        };
        let limit = arrival_limit(room).min(deadline.left());
        timeout(limit, fill).await.unwrap_or(Err(BodyError::TooSlow))?;
        if oversized {
            return Ok(ReceivedBody::Oversized(OversizedBody { start: received, rest: arrival }));
        }
        Ok(ReceivedBody::Buffered(received))
    }
}

impl OversizedBody {
    pub(super) fn start(&self) -> &[u8] {
        &self.start.bytes
    }

    /// Reads the rest and drops it, because a client reads the answer only once it has sent everything.
    pub(super) async fn discard(self, deadline: Deadline) -> Result<(), BodyError> {
        let Self { start, mut rest } = self;
        drop(start);
        let discard = async {
            while rest.chunk().await?.is_some() {}
            Ok(())
        };
        timeout(deadline.left(), discard).await.unwrap_or(Err(BodyError::TooSlow))
    }
}

/// What a body of this length may take to come.
pub(super) fn arrival_limit(length: usize) -> Duration {
    ARRIVAL + Duration::from_millis((1000 * length / RATE) as u64)
}

/// A body as it comes in.
struct Arrival {
    chunks: BodyDataStream,
}

impl Arrival {
    async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        Ok(self.chunks.try_next().await?)
    }

    async fn next(&mut self, limit: Duration) -> Result<Option<Bytes>, BodyError> {
        timeout(limit, self.chunk()).await.unwrap_or(Err(BodyError::TooSlow))
    }
}

/// Bytes that peers share.
#[derive(Clone, Debug)]
struct Pool {
    per_peer: usize,
    total: Arc<Semaphore>,
    peers: Arc<Mutex<HashMap<IpAddr, Weak<Semaphore>>>>,
}

#[derive(Debug)]
struct Share {
    _of_peer: OwnedSemaphorePermit,
    _of_total: OwnedSemaphorePermit,
}

impl Pool {
    fn new(per_peer: usize) -> Self {
        Self { per_peer, total: Arc::new(Semaphore::new(PEERS * per_peer)), peers: Arc::default() }
    }

    /// A share of so many bytes, at most what a peer may hold, once it is free. Each peer waits for itself first and
    /// so has no more than one share's worth in the line for all.
    async fn reserve(&self, peer: IpAddr, bytes: usize) -> Option<Share> {
        let permits = u32::try_from(bytes).ok()?;
        let of_peer = self.of(peer).acquire_many_owned(permits).await.ok()?;
        let of_total = self.total.clone().acquire_many_owned(permits).await.ok()?;
        Some(Share { _of_peer: of_peer, _of_total: of_total })
    }

    /// What a peer may hold. It is forgotten when nobody holds or waits for any of it.
    fn of(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get(&peer).and_then(Weak::upgrade) {
            return known;
        }
        peers.retain(|_, known| known.strong_count() > 0);
        let new = Arc::new(Semaphore::new(self.per_peer));
        peers.insert(peer, Arc::downgrade(&new));
        new
    }
}

impl BodyError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoBudget => StatusCode::SERVICE_UNAVAILABLE,
            Self::BrokeOff(_) => StatusCode::BAD_REQUEST,
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
pub(super) mod tests;
