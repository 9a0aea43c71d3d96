//! Receives request bodies in bounded memory and time.
//!
//! Any client that reaches the port may send anything, so memory is limited per peer and in total:
//!
//! - With its first bytes, a body reserves its whole share of a budget, and then one buffer of exactly its length.
//!   Bodies that reserved step by step could deadlock.
//! - There are two budgets, for small bodies (almost all reviews) and for large ones, so that a small body never queues
//!   behind a large one. A peer may hold a third of either. Two greedy peers leave a third to the API server, enough for
//!   the largest body; other requests queue.
//! - A share is held for a limited time: the body must arrive at [`RATE`], then it gets its response.
//! - Of a namespace, one large body of a peer at a time has a share or waits for one, so the objects of one tenant delay
//!   only each other.
//! - A peer is an IP address. The API server is one or a few peers: one per control plane node, or one tunnel agent. Its
//!   bodies arrive immediately and get responses within milliseconds, so a third of the budget is enough for hundreds of
//!   concurrent requests; beyond that they queue and are not rejected.
//! - IPv6 addresses aren't grouped by prefix: the pods of a node, including that agent, share a /64.
//!
//! Responses are limited as well, because a client may not read them: one of more than [`SMALL_RESPONSE`] holds its share
//! of a third budget until it is sent.
//!
//! A body larger than [`BODY_LIMIT`] is read and dropped, except for the header of a review. It holds a share of
//! [`HEADER_LIMIT`] until the header is read, which is where the object begins if the API server sends it.

use std::{net::IpAddr, sync::Arc, time::Duration};

use adieu_review::{BadRequest, HEADER_LIMIT, HeaderScanner, HeaderState, ReviewHeader};
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

use super::{deadline::Deadline, keyed_limit::KeyedLimit};

const KIB: usize = 1024;
/// The largest body that is buffered, in bytes. etcd stores objects of 1.5 MiB, and an update has two.
pub(super) const BODY_LIMIT: usize = 4096 * KIB;
/// The largest body that is read. The API server accepts requests of 3 MiB, and etcd stores objects of 1.5 MiB: as JSON, in
/// which `<`, `>` and `&` take six bytes each, both together have up to 27 MiB.
pub(super) const DISCARD_LIMIT: u64 = 32 * 1024 * 1024;
/// The largest small body. Few reviews are larger.
pub(super) const SMALL: usize = 64 * KIB;
/// A peer's share of the budget for small bodies.
const SMALL_SHARE: usize = 1536 * KIB;
/// The number of shares in a budget.
const SHARES_PER_BUDGET: usize = 3;

/// The largest response, in bytes. A patch grows with the number of containers, and with the annotations of an earlier
/// revision.
pub(super) const RESPONSE_LIMIT: usize = 2048 * KIB;
/// The largest response that needs no share of the budget.
const SMALL_RESPONSE: usize = 8 * KIB;

/// The time for a body to arrive, in addition to its length at [`RATE`].
const ARRIVAL: Duration = Duration::from_secs(1);
/// The lowest rate at which a body may arrive, in bytes per second. The API server sends it immediately, within the
/// cluster's network.
const RATE: usize = 2048 * KIB;

/// The memory for bodies, shared by all requests.
#[derive(Clone, Debug)]
pub(super) struct BodyBudget {
    small: Pool,
    large: Pool,
    /// Large bodies of a namespace, by peer: others could send any namespace.
    namespaces: KeyedLimit<(IpAddr, String)>,
    responses: Pool,
}

/// A response, with its share of the budget until it is sent.
struct BudgetedResponse {
    text: Vec<u8>,
    _share: Share,
}

impl AsRef<[u8]> for BudgetedResponse {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// A body, with its share of the budget until it is dropped.
#[derive(Debug)]
pub(super) struct BufferedBody {
    pub(super) bytes: Vec<u8>,
    _share: Share,
    _of_namespace: Option<OwnedSemaphorePermit>,
}

/// A body over [`BODY_LIMIT`].
pub(super) struct OversizedBody {
    pub(super) header: Result<ReviewHeader, BadRequest>,
    pub(super) rest: IncomingBody,
}

/// A received body.
pub(super) enum ReceivedBody {
    Buffered(BufferedBody),
    Oversized(OversizedBody),
}

/// Why a body wasn't received.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error(
        "length limit exceeded: a body of more than {BODY_LIMIT} bytes must be an AdmissionReview of at most \
         {DISCARD_LIMIT}"
    )]
    TooLarge,
    #[error("a body of more than {SMALL} bytes needs a Content-Length")]
    NoLength,
    #[error("the body did not arrive in time: at least {RATE} bytes per second are expected")]
    TooSlow,
    #[error("no memory is free for another body of this size: try again")]
    NoBudget,
    #[error("the body ended early: {0}")]
    EndedEarly(#[from] axum::Error),
}

impl Default for BodyBudget {
    fn default() -> Self {
        Self {
            small: Pool::new(SMALL_SHARE),
            large: Pool::new(BODY_LIMIT),
            namespaces: KeyedLimit::new(1),
            responses: Pool::new(RESPONSE_LIMIT),
        }
    }
}

impl BodyBudget {
    /// Waits for the share of a response of at most [`RESPONSE_LIMIT`].
    pub(super) async fn reserve_response(
        &self,
        text: Vec<u8>,
        peer: IpAddr,
        deadline: Deadline,
    ) -> Result<Bytes, BodyError> {
        if text.len() <= SMALL_RESPONSE {
            return Ok(text.into());
        }
        let share = timeout(deadline.left(), self.responses.reserve(peer, text.len())).await;
        let share = share.ok().flatten().ok_or(BodyError::NoBudget)?;
        Ok(Bytes::from_owner(BudgetedResponse { text, _share: share }))
    }

    /// Receives a body, or the header of one that is too large.
    pub(super) async fn receive(
        &self,
        body: Body,
        peer: IpAddr,
        deadline: Deadline,
    ) -> Result<ReceivedBody, BodyError> {
        let length = body.size_hint().exact();
        if length.is_some_and(|length| length > DISCARD_LIMIT) {
            return Err(BodyError::TooLarge);
        }
        let length = length.and_then(|length| usize::try_from(length).ok());
        let mut incoming = IncomingBody { chunks: body.into_data_stream(), first: None };
        incoming.first = incoming.next(ARRIVAL.min(deadline.left())).await?;
        match length {
            Some(length) if length > BODY_LIMIT => {
                let oversized = self.receive_header(incoming, length, peer, deadline).await?;
                Ok(ReceivedBody::Oversized(oversized))
            }
            length => {
                let capacity = length.unwrap_or(SMALL);
                Ok(ReceivedBody::Buffered(self.receive_all(incoming, capacity, peer, deadline).await?))
            }
        }
    }

    /// Receives a body of at most this length.
    async fn receive_all(
        &self,
        mut incoming: IncomingBody,
        capacity: usize,
        peer: IpAddr,
        deadline: Deadline,
    ) -> Result<BufferedBody, BodyError> {
        let reserved =
            timeout(deadline.left(), self.reserve(peer, incoming.first.as_deref(), capacity)).await;
        let (share, of_namespace) = reserved.ok().flatten().ok_or(BodyError::NoBudget)?;
        let mut bytes = Vec::with_capacity(capacity);
        let fill = async {
            while let Some(chunk) = incoming.chunk().await? {
                if chunk.len() > capacity - bytes.len() {
                    return Err(BodyError::NoLength);
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(())
        };
        let limit = arrival_limit(capacity).min(deadline.left());
        timeout(limit, fill).await.unwrap_or(Err(BodyError::TooSlow))?;
        Ok(BufferedBody { bytes, _share: share, _of_namespace: of_namespace })
    }

    /// Receives the header of a body of this length.
    async fn receive_header(
        &self,
        mut incoming: IncomingBody,
        length: usize,
        peer: IpAddr,
        deadline: Deadline,
    ) -> Result<OversizedBody, BodyError> {
        let share = timeout(deadline.left(), self.small.reserve(peer, HEADER_LIMIT)).await;
        let _share = share.ok().flatten().ok_or(BodyError::NoBudget)?;
        let mut scanner = HeaderScanner::default();
        let scan = async {
            while let Some(chunk) = incoming.chunk().await? {
                match scanner.read(&chunk) {
                    HeaderState::Incomplete => {}
                    HeaderState::Complete => return Ok(()),
                    HeaderState::TooLong => break,
                }
            }
            Err(BodyError::TooLarge)
        };
        let limit = arrival_limit(length).min(deadline.left());
        timeout(limit, scan).await.unwrap_or(Err(BodyError::TooSlow))?;
        Ok(OversizedBody { header: scanner.header(), rest: incoming })
    }

    /// Waits for the share of a body with these first bytes.
    async fn reserve(
        &self,
        peer: IpAddr,
        start: Option<&[u8]>,
        capacity: usize,
    ) -> Option<(Share, Option<OwnedSemaphorePermit>)> {
        if capacity <= SMALL {
            return Some((self.small.reserve(peer, capacity).await?, None));
        }
        let namespace = start.and_then(namespace_at_start).unwrap_or_default();
        let of_namespace = self.namespaces.acquire((peer, namespace), 1).await?;
        Some((self.large.reserve(peer, capacity).await?, Some(of_namespace)))
    }
}

/// The namespace of a review, from its first bytes: the API server writes it before the object.
fn namespace_at_start(start: &[u8]) -> Option<String> {
    let mut scanner = HeaderScanner::default();
    scanner.read(&start[..start.len().min(SMALL)]);
    scanner.header().ok().map(|header| header.namespace)
}

/// The time limit for a body of this length to arrive.
pub(super) fn arrival_limit(length: usize) -> Duration {
    ARRIVAL + Duration::from_millis((1000 * length / RATE) as u64)
}

/// A body that is being received.
pub(super) struct IncomingBody {
    chunks: BodyDataStream,
    /// Its first bytes, which are received before the others.
    first: Option<Bytes>,
}

impl IncomingBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => Ok(self.chunks.try_next().await?),
        }
    }

    async fn next(&mut self, limit: Duration) -> Result<Option<Bytes>, BodyError> {
        timeout(limit, self.chunk()).await.unwrap_or(Err(BodyError::TooSlow))
    }

    /// Reads and drops the rest, because a client reads the response only once it has sent the whole body.
    pub(super) async fn discard(mut self, deadline: Deadline) -> Result<(), BodyError> {
        let discard = async {
            while self.chunk().await?.is_some() {}
            Ok(())
        };
        timeout(deadline.left(), discard).await.unwrap_or(Err(BodyError::TooSlow))
    }
}

/// A budget of bytes that peers share.
#[derive(Clone, Debug)]
struct Pool {
    total: Arc<Semaphore>,
    peers: KeyedLimit<IpAddr>,
}

#[derive(Debug)]
struct Share {
    _of_peer: OwnedSemaphorePermit,
    _of_total: OwnedSemaphorePermit,
}

impl Pool {
    fn new(per_peer: usize) -> Self {
        let total = Arc::new(Semaphore::new(SHARES_PER_BUDGET * per_peer));
        Self { total, peers: KeyedLimit::new(per_peer) }
    }

    /// Waits for a share of the budget. A peer waits for its own part first, so it never has more than that in the queue
    /// for the total.
    async fn reserve(&self, peer: IpAddr, bytes: usize) -> Option<Share> {
        let permits = u32::try_from(bytes).ok()?;
        let of_peer = self.peers.acquire(peer, permits).await?;
        let of_total = self.total.clone().acquire_many_owned(permits).await.ok()?;
        Some(Share { _of_peer: of_peer, _of_total: of_total })
    }
}

impl BodyError {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoLength => StatusCode::LENGTH_REQUIRED,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoBudget => StatusCode::SERVICE_UNAVAILABLE,
            Self::EndedEarly(_) => StatusCode::BAD_REQUEST,
        }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
pub(super) mod tests;
