//! An API server that says what a test wants.

use std::{
    convert::Infallible,
    future::pending,
    sync::atomic::{AtomicBool, Ordering},
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tower::service_fn;

/// A client of an API server that fails to list once, and then lists these; everything else is done at once.
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

/// A client of an API server that answers by method and target; `None` where it never does.
pub(crate) fn client(answer: impl Fn(&Method, &str) -> Option<(u16, Value)> + Send + 'static) -> Client {
    let service = service_fn(move |request: Request<Body>| {
        let answer = answer(request.method(), &request.uri().to_string());
        async move {
            let Some((code, body)) = answer else { return pending().await };
            let answer = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    Client::new(service, "default")
}

/// What an API server says where it doesn't do what it is asked for.
pub(crate) fn failure(code: u16, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "InternalError", "code": code})
}
