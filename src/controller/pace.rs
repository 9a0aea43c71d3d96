//! A maximum rate for work that can wait. A policy change can concern thousands of workloads and hundreds of policies;
//! their annotations and status must not delay the requests of others at the API server.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep_until};

use crate::runtime::lock::lock;

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
            let mut next = lock(&self.0);
            let now = Instant::now();
            let earliest = now.checked_sub(INTERVAL * BURST).unwrap_or(now);
            let time = next.map_or(earliest, |next| next.max(earliest));
            *next = Some(time + INTERVAL);
            time
        };
        sleep_until(time).await;
    }
}

/// What is known of items that wait.
pub(super) struct WaitingItems<T> {
    /// The namespace of an item.
    pub(super) namespace: fn(&T) -> &str,
    /// Whether an item is still needed: its object may have been deleted meanwhile.
    pub(super) is_needed: Box<dyn Fn(&T) -> bool + Send>,
}

/// How many items wait before those that are not needed are removed: a tenant may create and delete hundreds each second.
const KEPT: usize = 1000;

/// Items that wait, by namespace.
struct Queue<T> {
    waiting: BTreeMap<String, BTreeSet<T>>,
    count: usize,
    /// The number of items at which those that are not needed are removed.
    limit: usize,
    /// The namespace of the last item that was taken.
    last: String,
    items: WaitingItems<T>,
}

impl<T: Ord> Queue<T> {
    fn new(items: WaitingItems<T>) -> Self {
        Self { waiting: BTreeMap::new(), count: 0, limit: KEPT, last: String::new(), items }
    }

    fn add(&mut self, item: T) {
        let namespace = (self.items.namespace)(&item).to_owned();
        self.count += usize::from(self.waiting.entry(namespace).or_default().insert(item));
        if self.count > self.limit {
            self.waiting.values_mut().for_each(|items| items.retain(|item| (self.items.is_needed)(item)));
            self.waiting.retain(|_, items| !items.is_empty());
            self.count = self.waiting.values().map(BTreeSet::len).sum();
            self.limit = KEPT.max(2 * self.count);
        }
    }

    /// A needed item of the next namespace.
    fn take(&mut self) -> Option<T> {
        loop {
            let item = self.pop()?;
            if (self.items.is_needed)(&item) {
                return Some(item);
            }
        }
    }

    fn pop(&mut self) -> Option<T> {
        let following = (Bound::Excluded(self.last.as_str()), Bound::Unbounded);
        let next = self.waiting.range::<str, _>(following).next().or_else(|| self.waiting.first_key_value());
        let namespace = next?.0.clone();
        let items = self.waiting.get_mut(&namespace)?;
        let item = items.pop_first();
        self.count -= 1;
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
    waiting: WaitingItems<T>,
    pace: Arc<Pace>,
) -> impl Stream<Item = T> + Send {
    let queue = Queue::new(waiting);
    stream::unfold((items.boxed(), queue, pace), move |(mut items, mut queue, pace)| async move {
        loop {
            if queue.waiting.is_empty() {
                queue.add(items.next().await?);
            }
            pace.wait().await;
            while let Some(Some(item)) = items.next().now_or_never() {
                queue.add(item);
            }
            // Maybe none that waited is needed.
            if let Some(item) = queue.take() {
                return Some((item, (items, queue, pace)));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;
    use crate::index::ChangeSet;

    type Item = (&'static str, u32);

    fn paced(items: impl Stream<Item = Item> + Send + 'static) -> impl Stream<Item = Item> + Send + Unpin {
        Box::pin(super::paced(items, waiting(|_| true), Arc::default()))
    }

    fn waiting(is_needed: fn(&Item) -> bool) -> WaitingItems<Item> {
        WaitingItems { namespace: |(namespace, _)| namespace, is_needed: Box::new(is_needed) }
    }

    #[test]
    fn items_that_are_not_needed_are_removed_if_many_wait() {
        let mut queue = Queue::new(waiting(|(_, number)| number % 2 == 0));
        for number in 0..100 * u32::try_from(KEPT).unwrap() {
            // All but ten are of deleted objects.
            queue.add(("shop", if number < 10 { 2 * number } else { 2 * number + 1 }));
            assert!(queue.count <= KEPT + 1);
        }
        queue.add(("bank", 2));
        let first: Vec<_> = std::iter::from_fn(|| queue.take()).take(3).collect();
        assert_eq!(first, [("bank", 2), ("shop", 0), ("shop", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_item_that_is_not_needed_is_skipped() {
        let items = stream::iter([("shop", 1), ("shop", 2), ("bank", 3), ("bank", 4)]);
        let items = super::paced(items, waiting(|(_, number)| number % 2 == 0), Arc::default());
        assert_eq!(items.collect::<Vec<_>>().await, [("bank", 4), ("shop", 2)]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_stream_continues_if_all_that_waited_were_deleted() {
        let changes = ChangeSet::default();
        for number in 0..=u32::try_from(KEPT).unwrap() {
            changes.add(("shop", 2 * number + 1));
        }
        let items = changes.clone().stream(Duration::ZERO);
        let mut items = Box::pin(super::paced(items, waiting(|(_, number)| number % 2 == 0), Arc::default()));
        assert!(timeout(Duration::from_secs(1), items.next()).await.is_err(), "there is none");
        changes.add(("shop", 2));
        assert_eq!(items.next().await, Some(("shop", 2)));
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
