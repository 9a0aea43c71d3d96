use std::net::Ipv4Addr;

use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn peer(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

async fn receive(budget: &BodyBudget, number: u8, body: Body) -> Result<BufferedBody, BodyError> {
    match budget.receive(body, peer(number), Deadline::after(LONG)).await? {
        ReceivedBody::Buffered(body) => Ok(body),
        ReceivedBody::Oversized(_) => Err(BodyError::TooLarge),
    }
}

fn body(length: usize) -> Body {
    vec![b' '; length].into()
}

#[tokio::test(start_paused = true)]
async fn two_greedy_peers_leave_a_third_of_the_budget() {
    let budget = BodyBudget::default();
    for length in [BODY_LIMIT, SMALL] {
        let mut held = Vec::new();
        for number in [1, 2] {
            while let Ok(body) = receive(&budget, number, body(length)).await {
                held.push(body);
            }
        }
        let third = receive(&budget, 3, body(length)).await.expect("a third peer is not affected");
        assert_eq!(third.bytes.len(), length);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_for_its_peer_and_small_bodies_wait_for_no_large_one() {
    let budget = BodyBudget::default();
    let first = receive(&budget, 1, body(BODY_LIMIT)).await.unwrap();
    let mut next = Box::pin(receive(&budget, 1, body(SMALL + 1)));
    assert!(futures::poll!(&mut next).is_pending());
    assert!(receive(&budget, 1, body(SMALL)).await.is_ok());
    drop(first);
    assert!(next.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_body_for_which_no_budget_is_free_in_time_is_rejected_and_leaves_nothing_held() {
    let budget = BodyBudget::default();
    let first = receive(&budget, 1, body(BODY_LIMIT)).await.unwrap();
    let begun = Instant::now();
    assert!(matches!(receive(&budget, 1, body(BODY_LIMIT)).await, Err(BodyError::NoBudget)));
    assert!(begun.elapsed() < LONG);
    drop(first);
    assert_eq!(budget.large.total.available_permits(), SHARES_PER_BUDGET * BODY_LIMIT);
    assert_eq!(budget.large.peers.of(peer(1)).available_permits(), BODY_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_body_holds_budget_from_its_first_bytes_until_its_time_limit() {
    let budget = BodyBudget::default();
    let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
    let announced = Sized { length: BODY_LIMIT as u64, inner: Body::from_stream(receiver) };
    let mut slow = Box::pin(receive(&budget, 1, Body::new(announced)));
    assert!(futures::poll!(&mut slow).is_pending());
    assert_eq!(
        budget.large.total.available_permits(),
        SHARES_PER_BUDGET * BODY_LIMIT,
        "no bytes arrived yet"
    );
    sender.unbounded_send(Ok(Bytes::from_static(b"{"))).unwrap();
    assert!(futures::poll!(&mut slow).is_pending());
    assert_eq!(budget.large.total.available_permits(), (SHARES_PER_BUDGET - 1) * BODY_LIMIT);
    let begun = Instant::now();
    assert!(matches!(slow.await, Err(BodyError::TooSlow)));
    assert!(begun.elapsed() <= arrival_limit(BODY_LIMIT) + Duration::from_millis(10));
    assert_eq!(budget.large.total.available_permits(), SHARES_PER_BUDGET * BODY_LIMIT);
}

/// A review as the API server writes it, with a group and spaces after the object of these lengths.
fn review(namespace: &str, group: usize, spaces: usize) -> Vec<u8> {
    let kind = r#"{"group":"apps","version":"v1","kind":"Deployment"}"#;
    let group = "g".repeat(group);
    let mut review = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"1","kind":{kind},"namespace":"{namespace}","operation":"CREATE","userInfo":{{"groups":["{group}"]}},"object":{{}}}}}}"#
    );
    review.extend(std::iter::repeat_n(' ', spaces));
    review.into_bytes()
}

#[tokio::test(start_paused = true)]
async fn only_the_header_of_an_oversized_body_is_kept() {
    let budget = BodyBudget::default();
    let is_free = || {
        (budget.small.total.available_permits(), budget.large.total.available_permits())
            == (SHARES_PER_BUDGET * SMALL_SHARE, SHARES_PER_BUDGET * BODY_LIMIT)
    };
    // Before the object there may be more than a small body has.
    for group in [1, SMALL, BODY_LIMIT] {
        let review = review("shop", group, BODY_LIMIT);
        let oversized = budget.receive(review.into(), peer(1), Deadline::after(LONG)).await.unwrap();
        let ReceivedBody::Oversized(OversizedBody { header, rest }) = oversized else {
            panic!("it was buffered")
        };
        assert_eq!(header.unwrap().namespace, "shop");
        assert!(is_free());
        rest.discard(Deadline::after(LONG)).await.unwrap();
    }
    for length in [BODY_LIMIT + 1, usize::try_from(DISCARD_LIMIT).unwrap() + 1] {
        assert!(matches!(receive(&budget, 1, body(length)).await, Err(BodyError::TooLarge)));
        assert!(is_free());
    }
}

#[tokio::test(start_paused = true)]
async fn an_oversized_body_holds_budget_until_its_header_is_read_for_a_limited_time() {
    let budget = BodyBudget::default();
    let all = SHARES_PER_BUDGET * SMALL_SHARE;
    let length = 2 * BODY_LIMIT;
    let review = review("shop", BODY_LIMIT, 0);
    let send = |sent: usize| {
        let (sender, receiver) = futures::channel::mpsc::unbounded::<Result<Bytes, std::io::Error>>();
        sender.unbounded_send(Ok(Bytes::copy_from_slice(&review[..sent]))).unwrap();
        let body = Body::new(Sized { length: length as u64, inner: Body::from_stream(receiver) });
        (sender, Box::pin(budget.receive(body, peer(1), Deadline::after(LONG))))
    };
    let (_more, mut slow) = send(BODY_LIMIT);
    assert!(futures::poll!(&mut slow).is_pending());
    assert_eq!(budget.small.total.available_permits(), all - HEADER_LIMIT);
    let begun = Instant::now();
    assert!(matches!(slow.await, Err(BodyError::TooSlow)));
    assert!(begun.elapsed() <= arrival_limit(length) + Duration::from_millis(10));
    let (_more, complete) = send(review.len());
    assert!(matches!(complete.await, Ok(ReceivedBody::Oversized(_))), "the rest isn't needed");
    assert_eq!(budget.small.total.available_permits(), all);
}

#[tokio::test(start_paused = true)]
async fn a_body_without_a_length_is_a_small_one() {
    let budget = BodyBudget::default();
    let chunks = |length| {
        let chunk = Ok::<_, std::io::Error>(Bytes::from(vec![b' '; length]));
        Body::from_stream(stream::iter([chunk]).chain(stream::empty()))
    };
    assert_eq!(receive(&budget, 1, chunks(SMALL)).await.unwrap().bytes.len(), SMALL);
    assert!(matches!(receive(&budget, 1, chunks(SMALL + 1)).await, Err(BodyError::NoLength)));
}

#[tokio::test(start_paused = true)]
async fn peers_without_a_share_are_dropped() {
    let budget = BodyBudget::default();
    for number in 0..100 {
        receive(&budget, number, body(10)).await.unwrap();
    }
    assert_eq!(budget.small.peers.known(), 1);
}

#[tokio::test(start_paused = true)]
async fn large_bodies_of_one_namespace_delay_another_namespace_by_one_body() {
    let budget = BodyBudget::default();
    // The namespace is in the first bytes, which the object may not be.
    let review = |namespace: &str| {
        let mut rest = Bytes::from(review(namespace, SMALL, BODY_LIMIT / 2));
        let length = rest.len() as u64;
        let start = rest.split_to(SMALL / 2);
        let chunks = [start, rest].map(Ok::<_, std::io::Error>);
        let body = Sized { length, inner: Body::from_stream(stream::iter(chunks)) };
        Box::pin(receive(&budget, 1, Body::new(body)))
    };
    let first = review("tenant").await.unwrap();
    let mut others: Vec<_> = (0..50).map(|_| review("tenant")).collect();
    for other in &mut others {
        assert!(futures::poll!(other).is_pending());
    }
    let second = budget.large.reserve(peer(1), BODY_LIMIT / 4).await;
    let mut shop = review("shop");
    assert!(futures::poll!(&mut shop).is_pending(), "the peer's share is used");
    drop((first, second));
    let shop = shop.await.expect("the next share is that of the other namespace");
    drop(shop);
    for other in others {
        other.await.unwrap();
    }
}

/// A body with a known length.
pub(in crate::webhook) struct Sized {
    pub(in crate::webhook) length: u64,
    pub(in crate::webhook) inner: Body,
}

impl axum::body::HttpBody for Sized {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        std::pin::Pin::new(&mut self.inner).poll_frame(context)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.length)
    }
}
