//! Changes that wait to be handled: several changes of one item count once.

use std::{
    collections::BTreeSet,
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use tokio::{sync::Notify, time::sleep};

/// A set of changed items. For one consumer.
#[derive(Debug)]
pub struct ChangeSet<T>(Arc<(Mutex<BTreeSet<T>>, Notify)>);

impl<T> Default for ChangeSet<T> {
    fn default() -> Self {
        Self(Arc::new((Mutex::default(), Notify::new())))
    }
}

impl<T> Clone for ChangeSet<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Ord + Send + 'static> ChangeSet<T> {
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

#[cfg(test)]
mod tests {
    use futures::{pin_mut, poll};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn changes_of_one_item_count_once_until_it_is_taken() {
        let changes = ChangeSet::default();
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
}
