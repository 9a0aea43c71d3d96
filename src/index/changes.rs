//! Changes that wait to be handled: several changes of one item count once.

use std::{
    collections::BTreeSet,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use tokio::{sync::Notify, time::sleep};

use crate::keys::WorkloadKey;

/// A set of changed items. For one consumer.
#[derive(Debug)]
pub struct Changes<T>(Arc<(Mutex<BTreeSet<T>>, Notify)>);

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self(Arc::new((Mutex::default(), Notify::new())))
    }
}

impl<T> Clone for Changes<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Ord + Send + 'static> Changes<T> {
    /// Adds an item.
    pub fn add(&self, item: T) {
        self.items().insert(item);
        self.0.1.notify_one();
    }

    /// A stream of the items; those that arrive within `debounce` are taken together.
    pub fn stream(self, debounce: Duration) -> impl Stream<Item = T> + Send {
        let batches = stream::unfold(self, move |changes| async move {
            let mut first = changes.take().await;
            if !debounce.is_zero() {
                sleep(debounce).await;
                first.append(&mut changes.items());
            }
            Some((stream::iter(first), changes))
        });
        batches.flatten()
    }

    /// Waits for an item, and takes all. No item is lost if this is cancelled.
    pub(crate) async fn take(&self) -> BTreeSet<T> {
        loop {
            let items = take(&mut *self.items());
            if !items.is_empty() {
                return items;
            }
            self.0.1.notified().await;
        }
    }

    /// Removes all items.
    pub(crate) fn clear(&self) {
        self.items().clear();
    }

    fn items(&self) -> MutexGuard<'_, BTreeSet<T>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The maximum number of workloads in a batch. A replica that doesn't lead takes no batches; with more marks, all
/// workloads are evaluated.
const LIMIT: usize = 10_000;

/// The workloads that have to be evaluated again.
#[derive(Clone, Debug, Default)]
pub struct Dirty(Arc<(Mutex<Batch>, Notify)>);

/// The marks since the last batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) all: bool,
    pub(super) namespaces: BTreeSet<String>,
    pub(super) workloads: BTreeSet<WorkloadKey>,
}

impl Dirty {
    /// Marks a workload that was changed or deleted.
    pub fn workload(&self, key: WorkloadKey) {
        self.mark(|batch| {
            batch.workloads.insert(key);
            if batch.workloads.len() > LIMIT {
                *batch = Batch { all: true, ..Batch::default() };
            }
        });
    }

    /// Marks all workloads of a namespace.
    pub fn namespace(&self, namespace: &str) {
        self.mark(|batch| {
            batch.namespaces.insert(namespace.to_owned());
        });
    }

    /// Marks all workloads.
    pub fn all(&self) {
        self.mark(|batch| *batch = Batch { all: true, ..Batch::default() });
    }

    /// Waits for a mark, and takes the batch.
    pub(super) async fn take(&self) -> Batch {
        loop {
            let batch = take(&mut *self.batch());
            if batch != Batch::default() {
                return batch;
            }
            self.0.1.notified().await;
        }
    }

    fn mark(&self, change: impl FnOnce(&mut Batch)) {
        {
            let mut batch = self.batch();
            if batch.all {
                return;
            }
            change(&mut batch);
        }
        self.0.1.notify_one();
    }

    fn batch(&self) -> MutexGuard<'_, Batch> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, pin_mut, poll};

    use super::*;
    use crate::api::WorkloadKind as Kind;

    fn key(name: &str) -> WorkloadKey {
        WorkloadKey { namespace: "shop".into(), kind: Kind::Deployment, name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn changes_of_one_item_count_once_until_it_is_taken() {
        let changes = Changes::default();
        let stream = changes.clone().stream(Duration::from_secs(1));
        pin_mut!(stream);
        assert!(poll!(stream.next()).is_pending());
        for item in ["b", "a", "b"] {
            changes.add(item);
        }
        assert_eq!([stream.next().await, stream.next().await], [Some("a"), Some("b")]);
        changes.add("b");
        assert_eq!(stream.next().await, Some("b"));
        assert!(poll!(stream.next()).is_pending());
    }

    #[tokio::test]
    async fn marking_all_workloads_replaces_single_marks() {
        let dirty = Dirty::default();
        dirty.workload(key("a"));
        dirty.namespace("bank");
        let batch = dirty.take().await;
        assert_eq!((batch.all, batch.namespaces.len(), batch.workloads.len()), (false, 1, 1));
        assert!(dirty.take().now_or_never().is_none());
        dirty.all();
        dirty.workload(key("a"));
        assert_eq!(dirty.take().await, Batch { all: true, ..Batch::default() });
        for number in 0..=LIMIT {
            dirty.workload(key(&number.to_string()));
        }
        assert!(dirty.take().await.all);
    }
}
