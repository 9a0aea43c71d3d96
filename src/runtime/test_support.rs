//! A mock API server.

use std::{
    convert::Infallible,
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::body::Body as Answer;
use bytes::Bytes;
use futures::{Stream, stream};
use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::service_fn;

use super::client::{LIMIT, Limited};

/// A client of an API server whose first GET fails, and whose lists then have these items.
pub(crate) fn flaky(items: Value) -> Client {
    let failed = AtomicBool::default();
    client(move |method, target| {
        let fails = method == Method::GET && !failed.swap(true, Ordering::Relaxed);
        if target.contains("watch=") {
            None
        } else if fails {
            Some((500, failure(500, "etcd has no leader")))
        } else {
            Some((200, json!({"metadata": {"resourceVersion": "1"}, "items": items})))
        }
    })
}

/// A client of an API server that answers by method and target. With `None` it never answers, or a watch has no
/// events.
pub(crate) fn client(answer: impl Fn(&Method, &str) -> Option<(u16, Value)> + Send + 'static) -> Client {
    client_of_bodies(move |method, target, _| answer(method, target))
}

/// The same, with the body of the request.
pub(crate) fn client_of_bodies(
    answer: impl Fn(&Method, &str, &[u8]) -> Option<(u16, Value)> + Send + 'static,
) -> Client {
    let answer = Arc::new(Mutex::new(answer));
    let service = service_fn(move |request: Request<Body>| {
        let answer = answer.clone();
        async move {
            let target = request.uri().to_string();
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let answer = answer.lock().unwrap_or_else(PoisonError::into_inner)(&parts.method, &target, &body);
            let (code, body) = match answer {
                Some((code, body)) => (code, Answer::from(body.to_string())),
                None if target.contains("watch=") => (200, Answer::from_stream(silence())),
                None => return pending().await,
            };
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(Limited { inner: service, limit: LIMIT }, "default")
}

fn silence() -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::pending()
}

/// The response for an object that doesn't exist.
pub(crate) fn not_found() -> Value {
    let mut status = failure(404, "not found");
    status["reason"] = "NotFound".into();
    status
}

/// The response to a request that fails.
pub(crate) fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "InternalError", "code": code})
}
