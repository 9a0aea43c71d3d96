//! The memory for the trees of values that objects are parsed to.
//!
//! Reviews with large trees share [`TreeBudget`], from before they are parsed until the decision is made. Nothing waits for
//! the network in between, so a share is released after milliseconds.

use std::sync::Arc;

use adieu_review::{SMALL_TREE, TREE_LIMIT};
use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::block_in_place,
    time::timeout,
};

use super::deadline::Deadline;

/// The largest tree that needs no share of the budget. Since nothing waits between parsing and answering, there are at
/// most as many at a time as threads.
const FREE: usize = SMALL_TREE;

/// The memory for trees, shared by all requests, and the permit for large ones.
#[derive(Clone, Debug)]
pub(super) struct TreeBudget {
    bytes: Arc<Semaphore>,
    large: Arc<Semaphore>,
}

/// A share of the budget, until it is dropped.
#[derive(Debug)]
pub(super) struct TreeShare {
    _permit: Option<OwnedSemaphorePermit>,
}

/// No share was free in time.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoBudget;

impl Default for TreeBudget {
    fn default() -> Self {
        Self { bytes: Arc::new(Semaphore::new(TREE_LIMIT)), large: Arc::new(Semaphore::new(1)) }
    }
}

impl TreeBudget {
    /// Runs `work`. If it is about many bytes, it runs alone, and off the threads that serve other requests.
    pub(super) async fn work<T>(
        &self,
        bytes: usize,
        deadline: Deadline,
        work: impl FnOnce() -> T,
    ) -> Result<T, NoBudget> {
        if bytes <= FREE {
            return Ok(work());
        }
        let Ok(Ok(_permit)) = timeout(deadline.left(), self.large.acquire()).await else {
            return Err(NoBudget);
        };
        let is_one_of_many = Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        Ok(if is_one_of_many { block_in_place(work) } else { work() })
    }

    /// Reserves memory for a tree, in the order of the calls.
    pub(super) async fn reserve(&self, bytes: usize, deadline: Deadline) -> Result<TreeShare, NoBudget> {
        if bytes <= FREE {
            return Ok(TreeShare { _permit: None });
        }
        let permits = u32::try_from(bytes.min(TREE_LIMIT)).map_err(|_| NoBudget)?;
        match timeout(deadline.left(), self.bytes.clone().acquire_many_owned(permits)).await {
            Ok(Ok(permit)) => Ok(TreeShare { _permit: Some(permit) }),
            _ => Err(NoBudget),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_large_review_blocks_no_thread_of_the_others() {
        let (budget, deadline) = (TreeBudget::default(), Deadline::after(Duration::from_secs(30)));
        let (answered, wait) = std::sync::mpsc::channel();
        let large = budget.clone();
        let large = tokio::spawn(async move {
            large.work(FREE + 1, deadline, move || wait.recv_timeout(Duration::from_secs(20)).is_ok()).await
        });
        while budget.large.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let small = budget.clone();
        let small = tokio::spawn(async move { small.work(FREE, deadline, || answered.send(())).await });
        assert!(small.await.unwrap().unwrap().is_ok());
        assert!(large.await.unwrap().unwrap(), "it ended before the small one was answered");
    }

    #[tokio::test(start_paused = true)]
    async fn large_trees_wait_for_each_other_and_small_ones_for_none() {
        let budget = TreeBudget::default();
        let deadline = Deadline::after(Duration::from_secs(5));
        let all = budget.reserve(TREE_LIMIT, deadline).await.unwrap();
        assert!(budget.reserve(FREE, deadline).await.is_ok());
        let mut next = Box::pin(budget.reserve(FREE + 1, deadline));
        assert!(futures::poll!(&mut next).is_pending());
        drop(all);
        let _next = next.await.unwrap();
        assert!(budget.reserve(TREE_LIMIT, deadline).await.is_err(), "not in time");
    }
}
