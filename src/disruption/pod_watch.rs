//! Follows the pods with some labels, and the EndpointSlices of their namespace.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use tokio::{sync::watch, time::Instant};

use crate::verify::PodTimelines;

/// The number of objects on a page of a list, which is held as a whole.
const PAGE_SIZE: u32 = 25;

/// The timelines of the pods with these labels, in times from `origin`, and the task that updates them, which never ends.
pub fn follow(
    client: &Client,
    namespace: &str,
    selector: &str,
    origin: Instant,
) -> (watch::Receiver<PodTimelines>, impl Future<Output = ()> + Send + use<>) {
    let (sender, timelines) = watch::channel(PodTimelines::default());
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let all = watcher::Config::default().page_size(PAGE_SIZE);
    let pods = watcher(pods, all.clone().labels(selector)).default_backoff();
    let slices = watcher(slices, all).default_backoff();
    let task = async move {
        tokio::join!(
            update(pods, origin, &sender, PodTimelines::pod_event),
            update(slices, origin, &sender, PodTimelines::slice_event)
        );
    };
    (timelines, task)
}

/// Applies watch events. Watch errors are retried, and the next list contains the missed changes.
async fn update<K>(
    events: impl Stream<Item = Result<Event<K>, watcher::Error>>,
    origin: Instant,
    sender: &watch::Sender<PodTimelines>,
    apply: fn(&mut PodTimelines, Duration, &Event<K>),
) {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        if let Ok(event) = event {
            sender.send_modify(|timelines| apply(timelines, origin.elapsed(), &event));
        }
    }
}
