//! Reads single objects, and lists page by page and object by object, so that only one object at a time is held as text.

use std::{io, ops::Deref, pin::Pin};

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use http::{HeaderValue, Request, header::ACCEPT_ENCODING};
use kube::{
    Client, Error,
    api::{GetParams, ListParams},
};
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};

pub use super::split::OBJECT_LIMIT;
use super::split::{JsonLayout, Splitter, Text};

/// The number of objects on the first page.
const FIRST_PAGE_SIZE: u32 = 25;
/// The maximum number of objects on a page.
const MAX_PAGE_SIZE: u32 = 500;
/// The intended size of a page, in bytes, estimated from the objects so far.
const PAGE_BYTES: usize = 4 << 20;
/// The size from which objects of all kinds are read one at a time.
const LARGE: usize = 1 << 20;
/// Held while a large object is read.
static LARGE_OBJECT: Semaphore = Semaphore::const_new(1);
/// How many answers with a single object are read at a time. Many objects may be written at the same time, and
/// `managedFields`, which come with each answer, may be of any size.
const CONCURRENT_ANSWERS: usize = 4;
/// Held while an answer with a single object is read and decoded.
static ANSWERS: Semaphore = Semaphore::const_new(CONCURRENT_ANSWERS);

/// Which objects are listed, by a field selector and a label selector, and what of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selectors<'a> {
    /// The field selector.
    pub fields: Option<&'a str>,
    /// The label selector.
    pub labels: Option<&'a str>,
    /// Whether only their metadata is listed.
    pub is_metadata: bool,
}

/// Calls `each` with the text of every object of a list, one at a time; empty if it is longer than an object of etcd can
/// be.
///
/// # Errors
/// If the API server denies it or can't be reached, or the answer ends too early.
pub async fn for_each(
    client: &Client,
    path: &str,
    selectors: Selectors<'_>,
    mut each: impl FnMut(&[u8]),
) -> Result<(), Error> {
    let mut page = Page::default();
    loop {
        let mut objects = page.open(client, path, selectors).await?;
        while let Some(text) = objects.next().await.map_err(Error::ReadEvents)? {
            each(text.complete().unwrap_or_default());
        }
        match page.next(&objects)? {
            Next::Page(next) => page = next,
            Next::Complete(_) => return Ok(()),
        }
    }
}

/// Calls `decode` with the text of an object, or with the length of a text that is longer than [`OBJECT_LIMIT`]; `None` if
/// the object doesn't exist.
///
/// # Errors
/// If the API server denies it or can't be reached, or the answer ends too early.
pub async fn get<T>(
    client: &Client,
    path: &str,
    name: &str,
    decode: impl FnOnce(Result<&[u8], usize>) -> T,
) -> Result<Option<T>, Error> {
    match answer(client, kube::core::Request::new(path).get(name, &GetParams::default()), decode).await {
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        decoded => decoded.map(Some),
    }
}

/// Sends a request that is answered by an object, such as a patch, and calls `decode` as [`get`] does.
///
/// # Errors
/// If the request is invalid, if the API server denies it or can't be reached, or if the answer ends too early.
pub async fn answer<T>(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
    decode: impl FnOnce(Result<&[u8], usize>) -> T,
) -> Result<T, Error> {
    let mut objects = Objects::request(client, request, JsonLayout::Events).await?;
    // It is never closed.
    let _permit = ANSWERS.acquire().await.ok();
    let object = objects.next().await.map_err(Error::ReadEvents)?;
    let object = object.ok_or_else(|| Error::ReadEvents(io::ErrorKind::UnexpectedEof.into()))?;
    let decoded = decode(object.complete().ok_or(object.length()));
    drop(object);
    // The connection can be used again once the answer is read to its end.
    let _ = objects.next().await;
    Ok(decoded)
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    after: Option<String>,
    limit: u32,
}

/// The end of a page.
pub(super) enum Next {
    Page(Page),
    /// The list is complete, at this resourceVersion.
    Complete(String),
}

#[derive(Deserialize)]
struct ListPage {
    #[serde(default)]
    metadata: ListMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    after: String,
}

impl Default for Page {
    fn default() -> Self {
        Self { after: None, limit: FIRST_PAGE_SIZE }
    }
}

impl Page {
    pub(super) async fn open(
        &self,
        client: &Client,
        path: &str,
        selectors: Selectors<'_>,
    ) -> Result<Objects, Error> {
        let parameters = ListParams {
            field_selector: selectors.fields.map(ToOwned::to_owned),
            label_selector: selectors.labels.map(ToOwned::to_owned),
            limit: Some(self.limit),
            continue_token: self.after.clone(),
            ..ListParams::default()
        };
        let request = kube::core::Request::new(path);
        let request = if selectors.is_metadata {
            request.list_metadata(&parameters)
        } else {
            request.list(&parameters)
        };
        Objects::request(client, request, JsonLayout::List).await
    }

    pub(super) fn next(&self, objects: &Objects) -> Result<Next, Error> {
        let page: ListPage = serde_json::from_slice(objects.splitter.rest()).map_err(Error::SerdeError)?;
        let ListMetadata { resource_version, after } = page.metadata;
        if after.is_empty() {
            return Ok(Next::Complete(resource_version));
        }
        let limit = next_limit(self.limit, objects.count, objects.bytes);
        Ok(Next::Page(Self { after: Some(after), limit }))
    }
}

/// The limit of the page after one with `count` objects and `bytes` bytes.
fn next_limit(limit: u32, count: usize, bytes: usize) -> u32 {
    let fitting = PAGE_BYTES / (bytes / count.max(1)).max(1);
    let max = limit.saturating_mul(4).min(MAX_PAGE_SIZE);
    u32::try_from(fitting).unwrap_or(u32::MAX).clamp(1, max)
}

/// The objects of an answer that is being read.
pub(super) struct Objects {
    body: Pin<Box<dyn AsyncBufRead + Send>>,
    splitter: Splitter,
    count: usize,
    bytes: usize,
}

/// An object, and the permit of a large one.
pub(super) struct Object {
    text: Text,
    _permit: Option<SemaphorePermit<'static>>,
}

impl Deref for Object {
    type Target = Text;

    fn deref(&self) -> &Text {
        &self.text
    }
}

impl Objects {
    pub(super) async fn request(
        client: &Client,
        request: Result<Request<Vec<u8>>, kube::core::request::Error>,
        layout: JsonLayout,
    ) -> Result<Self, Error> {
        let mut request = request.map_err(Error::BuildRequest)?;
        request.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = Box::pin(client.request_stream(request).await?);
        Ok(Self { body, splitter: Splitter::new(layout), count: 0, bytes: 0 })
    }

    /// The next object.
    pub(super) async fn next(&mut self) -> io::Result<Option<Object>> {
        let mut permit = None;
        loop {
            if self.splitter.held() > LARGE && permit.is_none() {
                permit = LARGE_OBJECT.acquire().await.ok();
            }
            let chunk = self.body.fill_buf().await?;
            if chunk.is_empty() {
                let is_cut = self.splitter.is_within();
                return if is_cut { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(None) };
            }
            let (read, object) = self.splitter.read(chunk);
            self.body.consume_unpin(read);
            self.bytes += read;
            if let Some(text) = object {
                self.count += 1;
                return Ok(Some(Object { text, _permit: permit }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::ready,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use axum::body::Body as Answer;
    use bytes::Bytes;
    use futures::{StreamExt as _, stream};
    use kube::client::Body;
    use tokio::{task::JoinSet, time::sleep};
    use tower::service_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn few_answers_with_an_object_are_read_at_a_time() {
        let reading = Arc::new(AtomicUsize::new(0));
        let counted = reading.clone();
        let service = service_fn(move |_: Request<Body>| {
            let counted = counted.clone();
            let first = async move {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Bytes::from_static(b"{"))
            };
            let body = stream::once(first).chain(stream::pending());
            ready(Ok::<_, Infallible>(http::Response::new(Answer::from_stream(body))))
        });
        let client = Client::new(service, "default");
        let mut tasks = JoinSet::new();
        for _ in 0..3 * CONCURRENT_ANSWERS {
            let client = client.clone();
            tasks.spawn(async move { get(&client, "/api/v1/pods", "web", |_| ()).await });
        }
        // The paused clock advances once no task can continue.
        sleep(Duration::from_secs(1)).await;
        let reading = reading.load(Ordering::Relaxed);
        assert!(reading <= CONCURRENT_ANSWERS, "{reading}");
    }

    #[test]
    fn page_sizes_follow_the_size_of_objects() {
        for (limit, count, bytes, next) in [
            (25, 25, 25 * 1_000, 100),
            (100, 100, 100_000, 400),
            (400, 400, 400_000, 500),
            (500, 500, 500 * 20_000, 209),
            (25, 25, 25 * 1_400_000, 2),
            (2, 2, 2 * 9_000_000, 1),
            (25, 0, 100, 100),
        ] {
            assert_eq!(next_limit(limit, count, bytes), next, "{limit} {count} {bytes}");
        }
    }
}
