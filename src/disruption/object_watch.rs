//! Watches a single object.

use std::{fmt::Debug, future::ready};

use futures::{Stream, StreamExt as _};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use serde::de::DeserializeOwned;

/// The states of an object, now and later; `None` while it doesn't exist. Watch errors are retried.
pub fn states<K>(api: Api<K>, name: &str) -> impl Stream<Item = Option<K>> + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch_object(api, name).default_backoff().filter_map(|change| ready(change.ok()))
}
