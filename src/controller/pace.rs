//! A maximum rate for work that can wait. A policy change can concern thousands of workloads and hundreds of policies;
//! their annotations and status must not delay the requests of others at the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep_until};

/// The time between two items: 20 per second, the default of controllers (`rest.Config.QPS` in controller-runtime).
const INTERVAL: Duration = Duration::from_millis(50);
/// How many items after a pause need not wait.
const BURST: u32 = 5;

/// Gives each item a time. The times are an interval apart, but for a few after a pause.
#[derive(Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Waits for the time of the next item.
    async fn wait(&self) {
        let time = {
            let mut next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(INTERVAL * BURST).unwrap_or(now);
            let time = next.map_or(earliest, |next| next.max(earliest));
            *next = Some(time + INTERVAL);
            time
        };
        sleep_until(time).await;
    }
}

/// Items that wait, by namespace.
struct Queue<T> {
    waiting: BTreeMap<String, BTreeSet<T>>,
    /// The namespace of the last item that was taken.
    last: String,
}

impl<T: Ord> Queue<T> {
    fn add(&mut self, namespace: String, item: T) {
        self.waiting.entry(namespace).or_default().insert(item);
    }

    /// An item of the next namespace.
    fn take(&mut self) -> Option<T> {
        let following = (Bound::Excluded(self.last.as_str()), Bound::Unbounded);
        let next = self.waiting.range::<str, _>(following).next().or_else(|| self.waiting.first_key_value());
        let namespace = next?.0.clone();
        let items = self.waiting.get_mut(&namespace)?;
        let item = items.pop_first();
        if items.is_empty() {
            self.waiting.remove(&namespace);
        }
        self.last = namespace;
        item
    }
}

/// The items at this pace. Namespaces take turns, so that none waits for the thousands of another one. An item that is
/// added again while it waits counts once.
pub(super) fn paced<T: Ord + Send + 'static>(
    items: impl Stream<Item = T> + Send + 'static,
    namespace: fn(&T) -> &str,
    pace: Arc<Pace>,
) -> impl Stream<Item = T> + Send {
    let queue = Queue { waiting: BTreeMap::new(), last: String::new() };
    stream::unfold((items.boxed(), queue, pace), move |(mut items, mut queue, pace)| async move {
        if queue.waiting.is_empty() {
            let item = items.next().await?;
            queue.add(namespace(&item).to_owned(), item);
        }
        pace.wait().await;
        while let Some(Some(item)) = items.next().now_or_never() {
            queue.add(namespace(&item).to_owned(), item);
        }
        queue.take().map(|item| (item, (items, queue, pace)))
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    type Item = (&'static str, u32);

    fn paced(items: impl Stream<Item = Item> + Send + 'static) -> impl Stream<Item = Item> + Send + Unpin {
        Box::pin(super::paced(items, |(namespace, _)| namespace, Arc::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn items_are_an_interval_apart_after_a_burst() {
        let mut items = paced(stream::iter((0..100).map(|number| ("shop", number))));
        let mut take = async |count: u32| {
            let started = Instant::now();
            for _ in 0..count {
                items.next().await.unwrap();
            }
            started.elapsed()
        };
        assert_eq!(take(BURST + 1).await, Duration::ZERO);
        let second = Duration::from_secs(1);
        let took = take(20).await;
        assert!(took >= second && took < second + INTERVAL, "{took:?}");
        advance(10 * second).await;
        assert_eq!(take(BURST + 1).await, Duration::ZERO, "a pause allows a burst again");
        assert!(take(1).await >= INTERVAL, "but no longer one");
    }

    #[tokio::test(start_paused = true)]
    async fn namespaces_take_turns_and_an_item_that_waits_counts_once() {
        let greedy = (0..1000).map(|number| ("greedy", number));
        let items: Vec<Item> = greedy.chain([("shop", 1), ("shop", 1), ("bank", 1)]).collect();
        let first: Vec<_> = paced(stream::iter(items)).take(5).collect().await;
        assert_eq!(first, [("bank", 1), ("greedy", 0), ("shop", 1), ("greedy", 1), ("greedy", 2)]);
    }
}
