//! Follows a workload's pods and the EndpointSlices of its namespace.

use std::{fmt::Debug, future::ready, time::Duration};

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watch_object, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, time::Instant};

use super::Workload;
use crate::verify::Lives;

/// The lives of the workload's pods, in times from `origin`, and the task that keeps them; it never ends.
pub fn follow(
    client: &Client,
    workload: &Workload,
    origin: Instant,
) -> (watch::Receiver<Lives>, impl Future<Output = ()> + Send + use<>) {
    let (tell, lives) = watch::channel(Lives::default());
    let namespace = &workload.namespace;
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let ours = watcher::Config::default().labels(&workload.selector);
    let pods = watcher(pods, ours).default_backoff();
    let slices = watcher(slices, watcher::Config::default()).default_backoff();
    let task = async move {
        tokio::join!(
            keep(pods, origin, &tell, Lives::pod_event),
            keep(slices, origin, &tell, Lives::slice_event)
        );
    };
    (lives, task)
}

/// What an object is now and later; `None` where there is none. An error of the watch is tried again.
pub(super) fn object<K>(api: Api<K>, name: &str) -> impl Stream<Item = Option<K>> + use<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watch_object(api, name).default_backoff().filter_map(|change| ready(change.ok()))
}

/// An error of a watch is tried again; what was missed is seen when it is back.
async fn keep<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    origin: Instant,
    tell: &watch::Sender<Lives>,
    take_in: fn(&mut Lives, Duration, &Event<K>),
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if let Ok(event) = event {
            tell.send_modify(|lives| take_in(lives, origin.elapsed(), &event));
        }
    }
}
