//! Watches that fill the caches.

use std::{fmt::Debug, mem::replace, pin::pin, sync::Arc, time::Duration};

use futures::StreamExt as _;
use kube::{
    Client, Resource,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio::{sync::watch, time::sleep};

use crate::index::relevance::{ChangeFilter, Relevance};
use crate::index::{
    by_namespace::NamespacedWriter,
    list_watch::{ListWatch, list_watch, status_code},
    object_quota::Quota,
    unusable_objects::UnusableObjects,
    watched::Watched,
};

/// The time after which a kind that the API server doesn't serve is listed again.
const MISSING_KIND_RETRY: Duration = Duration::from_secs(5);

/// The number of watched kinds that the API server doesn't serve.
#[derive(Clone, Debug, Default)]
pub(super) struct MissingKinds(Arc<watch::Sender<usize>>);

impl MissingKinds {
    #[cfg(test)]
    pub(super) fn one() -> Self {
        Self(Arc::new(watch::Sender::new(1)))
    }

    pub(super) fn is_empty(&self) -> bool {
        *self.0.borrow() == 0
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    /// Counts a kind whose state changes.
    fn set(&self, is_missing: &mut bool, now_missing: bool) {
        if replace(is_missing, now_missing) != now_missing {
            self.0.send_modify(|count| *count = if now_missing { *count + 1 } else { *count - 1 });
        }
    }
}

/// The parts that the watches of all kinds share.
pub(super) struct Watches<'a> {
    pub(super) client: &'a Client,
    pub(super) unusable: &'a UnusableObjects,
    pub(super) quota: &'a Quota,
    pub(super) missing: &'a MissingKinds,
}

impl Watches<'_> {
    /// Watches a kind: applies events to `writer`, and calls `changed` with the namespace, or `None` for all, if an
    /// event is relevant. Never returns.
    pub(super) fn watch<K, C>(
        &self,
        mut writer: NamespacedWriter<K>,
        relevance: Relevance<K>,
        changed: C,
    ) -> impl Future<Output = ()> + Send + 'static + use<K, C>
    where
        K: Watched + Resource<DynamicType = ()> + Debug,
        C: Fn(Option<&str>) + Send + 'static,
    {
        let source = ListWatch {
            client: self.client.clone(),
            path: K::url_path(&(), None),
            api_version: K::api_version(&()).into_owned(),
            kind: K::KIND,
            fields: None,
            unusable: self.unusable.clone(),
            quota: Arc::new(self.quota.for_kind(K::FLOOR).with_max_objects(K::MAX_IN_NAMESPACE)),
            reuse: Arc::new(|object| object),
            pages: None,
        };
        let missing = self.missing.clone();
        async move {
            let mut filter = ChangeFilter::default();
            let mut is_missing = false;
            loop {
                let mut events = pin!(list_watch(source.clone()).default_backoff());
                while let Some(event) = events.next().await {
                    let event = match event {
                        Ok(event) => event,
                        Err(error) => {
                            tracing::warn!(kind = %K::kind(&()), %error, "watch failed, retrying");
                            if status_code(&error) != Some(404) {
                                continue;
                            }
                            missing.set(&mut is_missing, true);
                            // Only a new list shows that the kind is served again.
                            sleep(MISSING_KIND_RETRY).await;
                            break;
                        }
                    };
                    writer.apply(&event);
                    if !matches!(event, watcher::Event::Init | watcher::Event::InitApply(_)) {
                        missing.set(&mut is_missing, false);
                    }
                    if filter.passes(&event, &relevance) {
                        changed(affected_namespace(&event));
                    }
                }
            }
        }
    }
}

/// The namespace of the event's object, or the Namespace that it is; `None` for all.
fn affected_namespace<K: Resource<DynamicType = ()>>(event: &watcher::Event<K>) -> Option<&str> {
    let (watcher::Event::Apply(object) | watcher::Event::Delete(object)) = event else { return None };
    let metadata = object.meta();
    metadata.namespace.as_deref().or_else(|| metadata.name.as_deref().filter(|_| K::kind(&()) == "Namespace"))
}
