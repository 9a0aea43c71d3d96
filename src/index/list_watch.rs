//! Lists and watches objects one by one: an object that can't be decoded, or is too large, doesn't hide the others, and
//! reading takes no more memory than the largest object. (The watcher of kube-runtime decodes whole pages.)

use std::{io, sync::Arc, time::Duration};

use futures::{Stream, stream::unfold};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Client, Error,
    api::WatchParams,
    core::Status,
    runtime::watcher::{self, Event},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, timeout},
};

use super::{
    list::{Next, Objects, Page, Selectors},
    object_quota::KindQuota,
    slim::{identity, reference},
    split::{JsonLayout, OBJECT_LIMIT, Text},
    unusable_objects::{UnusableObjects, UnusableReason},
    watched::Watched,
};
use crate::runtime::client::WATCH_SILENCE;

/// The minimum time between the starts of two watches.
const MIN_WATCH_DURATION: Duration = Duration::from_secs(1);
/// The minimum time of a watch before objects are listed again because some weren't kept.
const MIN_LIST_INTERVAL: Duration = Duration::from_mins(1);
/// The timeout of a watch on the API server, in seconds. kube rejects 295 and more.
const WATCH_SECONDS: u32 = 290;

/// The objects to list and watch.
#[derive(Clone)]
pub(super) struct ListWatch<K> {
    pub(super) client: Client,
    /// The URL path of the objects.
    pub(super) path: String,
    pub(super) api_version: String,
    pub(super) kind: &'static str,
    pub(super) fields: Option<String>,
    pub(super) unusable: UnusableObjects,
    /// The kind's part of the quota.
    pub(super) quota: Arc<KindQuota>,
    /// Returns the cached object if it is the same.
    pub(super) reuse: Arc<dyn Fn(K) -> K + Send + Sync>,
    /// Limits how many pages of lists are read at a time, together with those of other kinds.
    pub(super) pages: Option<Arc<Semaphore>>,
}

/// Lists the objects, then watches them. After an error it resumes from the last resourceVersion, or lists again if that
/// has expired. The last usable version of an object that becomes unusable stays.
pub(super) fn list_watch<K: Watched>(
    source: ListWatch<K>,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send {
    unfold((source, State::Start), |(source, mut state)| async move {
        loop {
            let (item, next) = source.step(state).await;
            state = next;
            if let Some(item) = item {
                return Some((item, (source, state)));
            }
        }
    })
}

enum State {
    Start,
    Page(Page),
    Listing(Page, Box<OpenPage>),
    Synced(String),
    Watching { version: String, events: Box<Objects>, since: Instant },
}

/// A page that is being read.
struct OpenPage {
    objects: Objects,
    _permit: Option<OwnedSemaphorePermit>,
}

type Step<K> = (Option<watcher::Result<Event<K>>>, State);

impl<K: Watched> ListWatch<K> {
    async fn step(&self, state: State) -> Step<K> {
        match state {
            State::Start => {
                self.unusable.list_begins(self.counted_as());
                self.quota.list_begins();
                (Some(Ok(Event::Init)), State::Page(Page::default()))
            }
            State::Page(page) => match self.open(&page).await {
                Ok(open) => (None, State::Listing(page, Box::new(open))),
                Err(error) => failed(page, error),
            },
            State::Listing(page, open) => self.list(page, open).await,
            State::Synced(version) => match self.watch(&version).await {
                Ok(events) => {
                    (None, State::Watching { version, events: Box::new(events), since: Instant::now() })
                }
                Err(error) => {
                    let next = if is_gone(&error) { State::Start } else { State::Synced(version) };
                    (Some(Err(watcher::Error::WatchStartFailed(error))), next)
                }
            },
            State::Watching { version, mut events, since } => {
                let text = match timeout(WATCH_SILENCE, events.next()).await {
                    Ok(Ok(Some(text))) => text,
                    Ok(Err(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                        let error = watcher::Error::WatchFailed(Error::ReadEvents(error));
                        return (Some(Err(error)), State::Synced(version));
                    }
                    // The API server ended the watch, or may have died.
                    ended => {
                        tracing::debug!(kind = self.kind, silent = ended.is_err(), "watch restarted");
                        sleep(MIN_WATCH_DURATION.saturating_sub(since.elapsed())).await;
                        let next =
                            if self.should_relist(since) { State::Start } else { State::Synced(version) };
                        return (None, next);
                    }
                };
                match self.event(&text) {
                    Ok((event, now)) => {
                        let version = now.unwrap_or(version);
                        (event.map(Ok), State::Watching { version, events, since })
                    }
                    Err(error) => {
                        let gone = matches!(&error, watcher::Error::WatchError(status) if status.code == 410);
                        (Some(Err(error)), if gone { State::Start } else { State::Synced(version) })
                    }
                }
            }
        }
    }

    /// Opens a page, once few enough others are open.
    async fn open(&self, page: &Page) -> Result<OpenPage, Error> {
        let permit = match self.pages.clone() {
            // It is never closed.
            Some(pages) => pages.acquire_owned().await.ok(),
            None => None,
        };
        let objects = page.open(&self.client, &self.path, self.selectors()).await?;
        Ok(OpenPage { objects, _permit: permit })
    }

    /// Reads the next object of a page, or the end of the page.
    async fn list(&self, page: Page, mut open: Box<OpenPage>) -> Step<K> {
        match open.objects.next().await {
            Ok(Some(text)) => {
                let event = self.usable(&text).map(|object| Ok(Event::InitApply(object)));
                (event, State::Listing(page, open))
            }
            Ok(None) => match page.next(&open.objects) {
                Ok(Next::Page(next)) => (None, State::Page(next)),
                Ok(Next::Complete(version)) if version.is_empty() => {
                    (Some(Err(watcher::Error::NoResourceVersion)), State::Start)
                }
                Ok(Next::Complete(version)) => {
                    self.unusable.list_ends(self.counted_as());
                    self.quota.list_ends();
                    (Some(Ok(Event::InitDone)), State::Synced(version))
                }
                Err(error) => failed(page, error),
            },
            Err(error) => failed(page, Error::ReadEvents(error)),
        }
    }

    async fn watch(&self, version: &str) -> Result<Objects, Error> {
        let parameters = WatchParams {
            field_selector: self.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            ..WatchParams::default()
        };
        let request = kube::core::Request::new(&self.path);
        let request = if K::IS_METADATA {
            request.watch_metadata(&parameters, version)
        } else {
            request.watch(&parameters, version)
        };
        Objects::request(&self.client, request, JsonLayout::Events).await
    }

    /// Decodes an event of a watch, and its resourceVersion.
    fn event(&self, text: &Text) -> watcher::Result<(Option<Event<K>>, Option<String>)> {
        let Some(bytes) = text.complete() else {
            self.usable(text);
            return Ok((None, None));
        };
        let undecodable = |error| watcher::Error::WatchFailed(Error::SerdeError(error));
        let event: WatchEvent<'_> = serde_json::from_slice(bytes).map_err(undecodable)?;
        let object = event.object.get().as_bytes();
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_slice(object).map_err(undecodable)?;
            return Err(watcher::Error::WatchError(Box::new(status)));
        }
        let metadata = identity(object);
        let version = metadata.resource_version.clone().filter(|version| !version.is_empty());
        let event = match event.kind {
            "BOOKMARK" => None,
            "DELETED" => {
                let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
                self.unusable.remove(self.counted_as(), namespace, name);
                self.quota.release(&metadata);
                Some(Event::Delete(K::of_metadata(metadata)))
            }
            _ => self.decoded(object, metadata).map(Event::Apply),
        };
        Ok((event, version))
    }

    fn usable(&self, text: &Text) -> Option<K> {
        if let Some(bytes) = text.complete() {
            return self.decoded(bytes, identity(bytes));
        }
        let reason = UnusableReason::too_large("an object", text.length(), OBJECT_LIMIT);
        self.add_unusable(&ObjectMeta::default(), reason);
        None
    }

    fn selectors(&self) -> Selectors<'_> {
        Selectors { fields: self.fields.as_deref(), labels: None, is_metadata: K::IS_METADATA }
    }

    /// The name under which unusable objects are counted.
    fn counted_as(&self) -> &'static str {
        K::counted_as(&self.api_version, self.kind)
    }

    fn add_unusable(&self, metadata: &ObjectMeta, reason: UnusableReason) {
        let object = reference(&self.api_version, self.kind, metadata);
        self.unusable.add(self.counted_as(), object, reason);
    }

    /// Whether objects that were rejected, or aren't known by name, may be used after a new list.
    fn should_relist(&self, since: Instant) -> bool {
        since.elapsed() >= MIN_LIST_INTERVAL
            && (self.quota.should_relist() || self.unusable.should_relist(self.counted_as()))
    }

    fn decoded(&self, text: &[u8], metadata: ObjectMeta) -> Option<K> {
        let decode = || match K::decode_as(&self.api_version, self.kind, text)? {
            object if object.is_relevant() => self.keep(&metadata, (self.reuse)(object)).map(Some),
            _ => Ok(None),
        };
        let kept = self.unusable.attempt(decode).flatten();
        let unusable = match &kept {
            Ok(object) => {
                let reason = object.as_ref().and_then(Watched::too_large);
                reason.map(|reason| UnusableReason::TooLarge(reason.to_owned()))
            }
            Err(reason) => Some(reason.clone()),
        };
        if let Some(reason) = unusable {
            self.add_unusable(&metadata, reason);
        } else if !(K::USABLE_ONCE_APPLIED && matches!(kept, Ok(Some(_)))) {
            let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
            self.unusable.remove(self.counted_as(), namespace, name);
        }
        kept.ok().flatten()
    }

    /// The object, or a stub of it, for which the quota has room.
    fn keep(&self, metadata: &ObjectMeta, object: K) -> Result<K, UnusableReason> {
        if !K::IS_CACHED {
            return Ok(object);
        }
        let is_stub = object.too_large().is_some();
        let Err(why) = self.quota.reserve(metadata, object.cached_size(), is_stub) else { return Ok(object) };
        let stub = (self.reuse)(object.stub(&why.to_string()).ok_or(why)?);
        self.quota.reserve(metadata, stub.cached_size(), true)?;
        Ok(stub)
    }
}

/// Requests the same page again, or all pages if the continue token has expired.
fn failed<K>(page: Page, error: Error) -> Step<K> {
    let next = if is_gone(&error) { State::Start } else { State::Page(page) };
    (Some(Err(watcher::Error::InitialListFailed(error))), next)
}

/// The status of an answer that is an error.
pub(super) fn status_code(error: &watcher::Error) -> Option<u16> {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return None;
    };
    if let Error::Api(status) = error { Some(status.code) } else { None }
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 410)
}

#[derive(Deserialize)]
struct WatchEvent<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[cfg(test)]
#[path = "list_watch_tests.rs"]
mod tests;
