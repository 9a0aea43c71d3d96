//! Counts the requests to the API server, by verb and status.

use std::task::{Context, Poll};

use futures::{FutureExt as _, future::BoxFuture};
use http::{Method, Request, Response};
use prometheus_client::metrics::{counter::Counter, family::Family};
use tower::Service;

use super::metrics::{ApiCode, ApiRequestLabels, Verb};

/// The counts of requests.
pub(super) type ApiRequests = Family<ApiRequestLabels, Counter>;

/// Counts requests when their response begins, or when it is known that there is none. A request that its caller drops
/// before is not counted.
pub(super) struct Counted<S> {
    pub(super) inner: S,
    pub(super) requests: ApiRequests,
}

impl<S, B, C> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<C>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (verb, requests) = (verb(&request), self.requests.clone());
        let response = self.inner.call(request);
        let counted = async move {
            let response = response.await;
            let code = ApiCode(response.as_ref().ok().map(Response::status));
            requests.get_or_create(&ApiRequestLabels { verb, code }).inc();
            response
        };
        counted.boxed()
    }
}

/// The verb of a request, as audit logs name it.
pub(super) fn verb<B>(request: &Request<B>) -> Verb {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    match *request.method() {
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE => Verb::Delete,
        _ if query.split('&').any(|parameter| parameter == "watch=true") => Verb::Watch,
        _ if is_collection(path) => Verb::List,
        _ => Verb::Get,
    }
}

/// Whether a path is that of the objects of a kind, in the cluster or in a namespace.
fn is_collection(path: &str) -> bool {
    let segments: Vec<_> = path.split('/').skip(1).collect();
    matches!(
        segments.as_slice(),
        ["api", _, _]
            | ["api", _, "namespaces", _, _]
            | ["apis", _, _, _]
            | ["apis", _, _, "namespaces", _, _]
    )
}

#[cfg(test)]
mod tests {
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    #[test]
    fn requests_have_the_verbs_of_audit_logs() {
        for (method, target, expected) in [
            (Method::GET, "/version", Verb::Get),
            (Method::GET, "/apis/apps/v1", Verb::Get),
            (Method::GET, "/api/v1/namespaces", Verb::List),
            (Method::GET, "/api/v1/namespaces/shop", Verb::Get),
            (Method::GET, "/api/v1/namespaces/shop/pods?&limit=25", Verb::List),
            (Method::GET, "/api/v1/namespaces/shop/pods/web", Verb::Get),
            (Method::GET, "/api/v1/nodes/node-1", Verb::Get),
            (Method::GET, "/api/v1/nodes/node-1/proxy", Verb::Get),
            (Method::GET, "/apis/apps/v1/deployments?&limit=25", Verb::List),
            (Method::GET, "/apis/apps/v1/deployments?&watch=true&resourceVersion=1", Verb::Watch),
            (Method::GET, "/apis/apps/v1/namespaces/shop/deployments/web/scale", Verb::Get),
            (Method::POST, "/api/v1/namespaces/shop/events?", Verb::Create),
            (Method::PUT, "/apis/coordination.k8s.io/v1/namespaces/adieu/leases/adieu", Verb::Update),
            (Method::PATCH, "/apis/apps/v1/namespaces/shop/deployments/web", Verb::Patch),
            (Method::DELETE, "/apis/policy/v1/namespaces/shop/poddisruptionbudgets/web", Verb::Delete),
        ] {
            let request = Request::builder().method(&method).uri(target).body(()).unwrap();
            assert_eq!(verb(&request), expected, "{method} {target}");
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_verb_and_status_also_without_a_response() {
        let requests = ApiRequests::default();
        for (method, answer) in [
            (Method::GET, Some(200)),
            (Method::GET, Some(200)),
            (Method::GET, Some(404)),
            (Method::GET, None),
            (Method::PATCH, Some(200)),
        ] {
            let inner = service_fn(move |_: Request<()>| async move {
                answer.map(|code| Response::builder().status(code).body(()).unwrap()).ok_or("no response")
            });
            let request = Request::builder().method(method).uri("/api/v1/namespaces/shop").body(()).unwrap();
            drop(Counted { inner, requests: requests.clone() }.oneshot(request).await);
        }
        let count = |verb, code: Option<u16>| {
            let code = ApiCode(code.map(|code| code.try_into().unwrap()));
            requests.get_or_create(&ApiRequestLabels { verb, code }).get()
        };
        let counts = [
            count(Verb::Get, Some(200)),
            count(Verb::Get, Some(404)),
            count(Verb::Get, None),
            count(Verb::Patch, Some(200)),
            count(Verb::Patch, None),
        ];
        assert_eq!(counts, [2, 1, 1, 1, 0]);
    }
}
