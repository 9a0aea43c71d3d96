//! Reads the bodies of requests, in bounded memory and time.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody as _},
    http::StatusCode,
};
use futures::TryStreamExt as _;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The largest body, in bytes: etcd takes objects of 1.5 MiB, and an update carries two.
pub(super) const BODY_LIMIT: usize = 8 * 1024 * 1024;

/// How long it may take to come. The API server sends it at once; who sends more slowly takes the room of others.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(5);

const KIB: usize = 1024;
/// What a body may be without a share of the room, in KiB. Hardly a review is larger.
const SMALL: usize = 32;
/// For what larger ones have beyond that, all together, in KiB. An object takes several times its text while it is
/// reviewed.
const ROOM: usize = 16 * KIB;

/// The room for large bodies.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

/// A body, with its share of the room until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

/// Why a body isn't read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("length limit exceeded: a review has at most {BODY_LIMIT} bytes")]
    TooLarge,
    #[error("the body didn't come within {} s", TIME_LIMIT.as_secs())]
    TooSlow,
    #[error("too many large reviews at the same time: try again")]
    NoRoom,
    #[error("the body broke off: {0}")]
    BrokeOff(#[from] axum::Error),
}

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ROOM)))
    }
}

impl Room {
    /// Reads all of a body.
    pub(super) async fn read(&self, body: Body) -> Result<Held, Unread> {
        timeout(TIME_LIMIT, self.read_slowly(body)).await.unwrap_or(Err(Unread::TooSlow))
    }

    async fn read_slowly(&self, body: Body) -> Result<Held, Unread> {
        if body.size_hint().lower() > BODY_LIMIT as u64 {
            return Err(Unread::TooLarge);
        }
        let mut held = Held { bytes: Vec::new(), share: None };
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.try_next().await? {
            held.bytes.extend_from_slice(&chunk);
            if held.bytes.len() > BODY_LIMIT {
                return Err(Unread::TooLarge);
            }
            let has = SMALL + held.share.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let lacks = u32::try_from(held.bytes.len().div_ceil(KIB).saturating_sub(has)).unwrap_or(u32::MAX);
            let more = self.0.clone().try_acquire_many_owned(lacks).map_err(|_| Unread::NoRoom)?;
            match &mut held.share {
                Some(share) => share.merge(more),
                None => held.share = Some(more),
            }
        }
        Ok(held)
    }
}

impl Unread {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoom => StatusCode::SERVICE_UNAVAILABLE,
            Self::BrokeOff(_) => StatusCode::BAD_REQUEST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(kibibytes: usize) -> Body {
        vec![b' '; kibibytes * KIB].into()
    }

    #[tokio::test]
    async fn large_bodies_share_the_room_and_small_ones_need_none() {
        let room = Room::default();
        let large = BODY_LIMIT / KIB;
        let held = [room.read(body(large)).await.unwrap(), room.read(body(large)).await.unwrap()];
        let left = ROOM - 2 * (large - SMALL);
        assert!(matches!(room.read(body(SMALL + left + 1)).await, Err(Unread::NoRoom)));
        assert_eq!(room.read(body(SMALL)).await.unwrap().bytes.len(), SMALL * KIB);
        drop(held);
        assert_eq!(room.read(body(large)).await.unwrap().bytes.len(), BODY_LIMIT);
    }

    #[tokio::test]
    async fn one_that_is_too_large_is_not_read_and_leaves_its_share() {
        let room = Room::default();
        assert!(matches!(room.read(body(BODY_LIMIT / KIB + 1)).await, Err(Unread::TooLarge)));
        let chunks = vec![Ok::<_, std::io::Error>(vec![b' '; BODY_LIMIT]), Ok(vec![b' '])];
        let endless = Body::from_stream(futures::stream::iter(chunks));
        assert!(matches!(room.read(endless).await, Err(Unread::TooLarge)));
        assert_eq!(room.0.available_permits(), ROOM);
    }
}
