//! The memory for parsed objects, and the threads that parse them and decide.
//!
//! Reviews of large objects share [`ParseBudget`], from before they are parsed until the decision is made. Nothing
//! waits for the network in between, so a share is released after milliseconds.

use std::{net::IpAddr, sync::Arc};

use adieu_review::{PARSED_SIZE_LIMIT, SMALL_PARSED_SIZE};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::block_in_place,
    time::timeout,
};

use super::{deadline::Deadline, keyed_limit::KeyedLimit};

/// The largest parsed size that needs no share of the budget. Since nothing waits between parsing and the response, there
/// are at most as many at a time as threads.
const UNRESERVED_PARSED_SIZE: usize = SMALL_PARSED_SIZE;

/// How many reviews of a peer compete for a thread at a time: as many as the webhook has threads at most. However many
/// connections and requests a peer has, its others wait for these, and not the reviews of other peers for them.
const REVIEWS_OF_PEER: usize = 4;

/// The memory for parsed objects, shared by all requests, and the permit for large ones.
#[derive(Clone, Debug)]
pub(super) struct ParseBudget {
    bytes: Arc<Semaphore>,
    large: Arc<Semaphore>,
    peers: KeyedLimit<IpAddr>,
    /// Large reviews of a namespace, by peer: others could send any namespace.
    namespaces: KeyedLimit<(IpAddr, String)>,
}

/// A share of the budget, until it is dropped.
#[derive(Debug, Default)]
pub(super) struct ParseShare {
    _of_namespace: Option<OwnedSemaphorePermit>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// No share was free in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoBudget;

impl Default for ParseBudget {
    fn default() -> Self {
        Self {
            bytes: Arc::new(Semaphore::new(PARSED_SIZE_LIMIT)),
            large: Arc::new(Semaphore::new(1)),
            peers: KeyedLimit::new(REVIEWS_OF_PEER),
            namespaces: KeyedLimit::new(1),
        }
    }
}

impl ParseBudget {
    /// Runs `work` for a peer, within the peer's limit. If it is about many bytes, it runs alone, and off the threads that
    /// serve other requests.
    pub(super) async fn work<T>(
        &self,
        bytes: usize,
        peer: IpAddr,
        deadline: Deadline,
        work: impl FnOnce() -> T,
    ) -> Result<T, NoBudget> {
        if bytes <= UNRESERVED_PARSED_SIZE {
            let Ok(_of_peer) = timeout(deadline.left(), self.peers.acquire(peer, 1)).await else {
                return Err(NoBudget);
            };
            return Ok(work());
        }
        let Ok(Ok(_permit)) = timeout(deadline.left(), self.large.acquire()).await else {
            return Err(NoBudget);
        };
        let is_one_of_many = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        Ok(if is_one_of_many { block_in_place(work) } else { work() })
    }

    /// Reserves memory for parsed objects, in the order of the calls.
    pub(super) async fn reserve(&self, bytes: usize, deadline: Deadline) -> Result<ParseShare, NoBudget> {
        if bytes <= UNRESERVED_PARSED_SIZE {
            return Ok(ParseShare::default());
        }
        let permits = u32::try_from(bytes.min(PARSED_SIZE_LIMIT)).map_err(|_| NoBudget)?;
        match timeout(deadline.left(), self.bytes.clone().acquire_many_owned(permits)).await {
            Ok(Ok(permit)) => Ok(ParseShare { _permit: Some(permit), ..ParseShare::default() }),
            _ => Err(NoBudget),
        }
    }

    /// Reserves memory for the parsed objects of a namespace. One review of a namespace at a time has a large share or
    /// waits for one, so the objects of one tenant delay only each other.
    pub(super) async fn reserve_for_namespace(
        &self,
        bytes: usize,
        (peer, namespace): (IpAddr, &str),
        deadline: Deadline,
    ) -> Result<ParseShare, NoBudget> {
        if bytes <= UNRESERVED_PARSED_SIZE {
            return Ok(ParseShare::default());
        }
        let of_namespace = self.namespaces.acquire((peer, namespace.to_owned()), 1);
        let of_namespace = timeout(deadline.left(), of_namespace).await.map_err(|_| NoBudget)?;
        let share = self.reserve(bytes, deadline).await?;
        Ok(ParseShare { _of_namespace: of_namespace, ..share })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn only_some_reviews_of_a_peer_compete_with_those_of_others() {
        let (budget, deadline) = (ParseBudget::default(), Deadline::after(Duration::from_secs(30)));
        let order = Arc::new(std::sync::Mutex::new(vec![]));
        let review = |peer: u8, number: usize| {
            let (budget, order) = (budget.clone(), order.clone());
            let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, peer));
            // The first part of a request, before its review.
            tokio::spawn(async move {
                for _ in 0..number.min(1) {
                    tokio::task::yield_now().await;
                }
                budget.work(1, peer, deadline, || order.lock().unwrap().push(peer)).await
            })
        };
        let first = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        let held = futures::future::join_all((0..4).map(|_| budget.peers.acquire(first, 1))).await;
        let greedy: Vec<_> = (0..500).map(|_| review(1, 0)).collect();
        let other = review(2, 1);
        other.await.unwrap().unwrap();
        assert_eq!(order.lock().unwrap().len(), 1, "those that wait hold no thread");
        drop(held);
        for one in greedy {
            one.await.unwrap().unwrap();
        }
        assert_eq!(order.lock().unwrap().len(), 501);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_review_blocks_no_thread_of_the_others() {
        let (budget, deadline) = (ParseBudget::default(), Deadline::after(Duration::from_secs(30)));
        let (answered, wait) = std::sync::mpsc::channel();
        let large = budget.clone();
        let large = tokio::spawn(async move {
            large
                .work(UNRESERVED_PARSED_SIZE + 1, PEER, deadline, move || {
                    wait.recv_timeout(Duration::from_secs(20)).is_ok()
                })
                .await
        });
        while budget.large.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let small = budget.clone();
        let small = tokio::spawn(async move {
            small.work(UNRESERVED_PARSED_SIZE, PEER, deadline, || answered.send(())).await
        });
        assert!(small.await.unwrap().unwrap().is_ok());
        assert!(large.await.unwrap().unwrap(), "it ended before the small one had a response");
    }

    #[tokio::test(start_paused = true)]
    async fn large_reviews_of_one_namespace_delay_another_namespace_by_one_review() {
        let (budget, deadline) = (ParseBudget::default(), Deadline::after(Duration::from_secs(30)));
        let started = tokio::time::Instant::now();
        let reviews = |namespace: &'static str, count: usize| {
            let reviews = (0..count).map(|_| {
                let budget = budget.clone();
                tokio::spawn(async move {
                    let bytes = PARSED_SIZE_LIMIT;
                    let _share =
                        budget.reserve_for_namespace(bytes, (PEER, namespace), deadline).await.unwrap();
                    // The review of an object of this size.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    started.elapsed()
                })
            });
            reviews.collect::<Vec<_>>()
        };
        let tenant = reviews("tenant", 50);
        tokio::task::yield_now().await;
        let mut ends = [Duration::ZERO; 3];
        for (end, other) in ends.iter_mut().zip(reviews("shop", 3)) {
            *end = other.await.unwrap();
        }
        assert_eq!(ends.map(|end| end.as_millis()), [200, 400, 600], "the namespaces alternate");
        for review in tenant {
            assert!(review.await.unwrap() <= Duration::from_millis(5300));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn large_reviews_wait_for_each_other_and_small_ones_do_not_wait() {
        let budget = ParseBudget::default();
        let deadline = Deadline::after(Duration::from_secs(5));
        let all = budget.reserve(PARSED_SIZE_LIMIT, deadline).await.unwrap();
        assert!(budget.reserve(UNRESERVED_PARSED_SIZE, deadline).await.is_ok());
        let mut next = Box::pin(budget.reserve(UNRESERVED_PARSED_SIZE + 1, deadline));
        assert!(futures::poll!(&mut next).is_pending());
        drop(all);
        let _next = next.await.unwrap();
        assert!(budget.reserve(PARSED_SIZE_LIMIT, deadline).await.is_err(), "not in time");
    }
}
