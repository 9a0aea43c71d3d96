//! The Kubernetes client, with a user agent for audit logs and a timeout for every answer: a server whose machine dies
//! closes no connection.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{BoxError, body::HttpBody};
use bytes::Bytes;
use futures::{AsyncBufReadExt as _, FutureExt as _, future::BoxFuture};
use http::{HeaderValue, Request, Response, header::USER_AGENT};
use http_body_util::{BodyExt as _, combinators::UnsyncBoxBody};
use kube::{
    Client, Config, Error,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use tokio::time::timeout;
use tower::{Service, layer::layer_fn};
use tower_http::timeout::TimeoutBody;

use super::{
    api_errors::{Addressed, Unanswered},
    api_requests::{ApiRequests, Counted, verb},
    connection::Connection,
    metrics::Verb,
};

const NAME: &str = concat!("adieu/", env!("CARGO_PKG_VERSION"));

/// The time limit for an answer of the API server, and for each part of it. A healthy API server ends a write after 34 s
/// (`requestTimeoutUpperBound` of k8s.io/apiserver), whatever webhooks it waits for.
pub const LIMIT: Duration = Duration::from_secs(40);

/// The time limit for the start of a watch. It normally starts immediately, and until then changes go unnoticed.
pub const WATCH_START: Duration = Duration::from_secs(15);

/// The time after which a watch without events is restarted from its last resourceVersion: bookmarks arrive about every
/// minute, so its server may have died.
pub const WATCH_SILENCE: Duration = Duration::from_secs(70);

/// The additional time after which the connection of a silent watch is closed, for watches that don't restart themselves.
const SILENCE_MARGIN: Duration = Duration::from_secs(5);

/// A client for the cluster that the command line names, or else of `KUBECONFIG` or of the pod's service account.
///
/// # Errors
/// If there is none, or the configuration is invalid.
pub async fn client() -> Result<Client, Error> {
    counted_client(ApiRequests::default()).await
}

/// The same, with the name of the cluster for people: its address, and the context of the kubeconfig.
///
/// # Errors
/// As [`client`].
pub async fn client_with_cluster_name() -> Result<(Client, String), Error> {
    let connection = Connection::of_process();
    let config = config(&connection).await?;
    let address = address(&config);
    let name = match context(&connection) {
        Some(context) => format!("the cluster {address} (context {context})"),
        None => format!("the cluster {address}"),
    };
    Ok((with_limits(config, ApiRequests::default(), limit(&connection))?, name))
}

/// The same client, which counts its requests.
///
/// # Errors
/// As [`client`].
pub async fn counted_client(requests: ApiRequests) -> Result<Client, Error> {
    let connection = Connection::of_process();
    with_limits(config(&connection).await?, requests, limit(&connection))
}

/// The configuration for a connection.
async fn config(connection: &Connection) -> Result<Config, Error> {
    let options = KubeConfigOptions {
        context: connection.context.clone(),
        cluster: connection.cluster.clone(),
        user: connection.user.clone(),
    };
    let mut config = match &connection.kubeconfig {
        Some(file) => Config::from_custom_kubeconfig(Kubeconfig::read_from(file)?, &options).await?,
        None if connection.needs_kubeconfig() => Config::from_kubeconfig(&options).await?,
        None => Config::infer().await.map_err(Error::InferConfig)?,
    };
    if connection.impersonated_user.is_some() {
        let user = &mut config.auth_info;
        user.impersonate.clone_from(&connection.impersonated_user);
        user.impersonate_uid.clone_from(&connection.impersonated_uid);
        user.impersonate_groups = Some(connection.impersonated_groups.clone());
        user.impersonate_user_extra = None;
    }
    if let Some(limit) = connection.request_timeout {
        config.connect_timeout = Some(config.connect_timeout.map_or(limit, |own| own.min(limit)));
    }
    Ok(config)
}

/// The context that a connection uses; `None` without a kubeconfig.
fn context(connection: &Connection) -> Option<String> {
    let current = kubeconfig(connection).ok()?.current_context;
    connection.context.clone().or(current)
}

/// The contexts of the kubeconfig; empty without one.
#[must_use]
pub fn contexts() -> Vec<String> {
    let contexts = kubeconfig(&Connection::of_process()).map(|kubeconfig| kubeconfig.contexts);
    contexts.unwrap_or_default().into_iter().map(|context| context.name).collect()
}

fn kubeconfig(connection: &Connection) -> Result<Kubeconfig, KubeconfigError> {
    match &connection.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    }
}

fn address(config: &Config) -> String {
    config.cluster_url.to_string().trim_end_matches('/').to_owned()
}

fn limit(connection: &Connection) -> Duration {
    connection.request_timeout.unwrap_or(LIMIT)
}

fn with_limits(mut config: Config, requests: ApiRequests, limit: Duration) -> Result<Client, Error> {
    config.headers.push((USER_AGENT, HeaderValue::from_static(NAME)));
    // Callers retry themselves, without blocking others. A webhook may deny with 429.
    config.default_retry = false;
    let address: Arc<str> = address(&config).into();
    let limited = layer_fn(move |inner| Limited { inner, limit });
    let addressed = layer_fn(move |inner| Addressed { inner, address: address.clone() });
    let counted = layer_fn(move |inner| Counted { inner, requests: requests.clone() });
    let builder = ClientBuilder::try_from(config)?.with_layer(&limited).with_layer(&addressed);
    Ok(builder.with_layer(&counted).build())
}

/// Sends a request, and reads the answer without keeping it: the object in it may have `managedFields` of any size.
///
/// # Errors
/// If the request is invalid or fails.
pub(crate) async fn send(
    client: &Client,
    request: Result<Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<(), Error> {
    let mut answer = pin!(client.request_stream(request.map_err(Error::BuildRequest)?).await?);
    loop {
        let read = answer.fill_buf().await.map_err(Error::ReadEvents)?.len();
        if read == 0 {
            return Ok(());
        }
        answer.consume_unpin(read);
    }
}

/// Whether the API server gave no answer.
#[must_use]
pub(crate) fn is_unreachable(error: &Error) -> bool {
    !matches!(error, Error::Api(_) | Error::SerdeError(_))
}

/// Times out requests after `limit`; for a watch, [`WATCH_START`] and [`WATCH_SILENCE`] apply.
pub(crate) struct Limited<S> {
    pub(crate) inner: S,
    /// Usually [`LIMIT`].
    pub(crate) limit: Duration,
}

impl<S, B> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<BoxError>, Future: Send + 'static>,
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<UnsyncBoxBody<Bytes, BoxError>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let watches = verb(&request) == Verb::Watch;
        let (limit, silence) =
            if watches { (WATCH_START, WATCH_SILENCE + SILENCE_MARGIN) } else { (self.limit, self.limit) };
        let answer = timeout(limit, self.inner.call(request));
        let limited = async move {
            let answer = answer.await.map_err(|_| Unanswered(limit))?.map_err(Into::into)?;
            Ok(answer.map(|body| TimeoutBody::new(silence, body).boxed_unsync()))
        };
        limited.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        fs,
        future::{IntoFuture as _, pending},
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use axum::{Router, body::Body as Answer, http::StatusCode};
    use futures::{StreamExt as _, stream};
    use k8s_openapi::api::core::v1::Pod;
    use kube::{
        Api,
        api::{ListParams, Patch, PatchParams, WatchParams},
    };
    use serde_json::json;
    use tokio::{join, net::TcpListener, time::Instant};
    use tower::service_fn;

    use super::*;
    use crate::runtime::{
        metrics::{ApiCode, ApiRequestLabels},
        test_support::failure,
    };

    #[tokio::test]
    async fn a_connection_chooses_context_and_user() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config");
        let context_of = |name: &str| json!({"name": name, "context": {"cluster": name, "namespace": name}});
        let cluster_of = |name: &str| {
            let server = format!("https://{name}.example:6443");
            json!({"name": name, "cluster": {"server": server}})
        };
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a", "users": [],
            "clusters": [cluster_of("a"), cluster_of("b")], "contexts": [context_of("a"), context_of("b")],
        });
        fs::write(&file, text.to_string()).unwrap();
        let current = Connection { kubeconfig: Some(file), ..Connection::default() };
        let found = config(&current).await.unwrap();
        assert_eq!((address(&found).as_str(), &*found.default_namespace), ("https://a.example:6443", "a"));
        assert_eq!(context(&current).as_deref(), Some("a"));
        assert_eq!(found.auth_info.impersonate, None);
        let chosen = Connection {
            context: Some("b".into()),
            impersonated_user: Some("jane".into()),
            impersonated_groups: vec!["ops".into()],
            request_timeout: Some(Duration::from_secs(5)),
            ..current
        };
        let found = config(&chosen).await.unwrap();
        assert_eq!((address(&found).as_str(), &*found.default_namespace), ("https://b.example:6443", "b"));
        assert_eq!(context(&chosen).as_deref(), Some("b"));
        assert_eq!(found.auth_info.impersonate.as_deref(), Some("jane"));
        assert_eq!(found.auth_info.impersonate_groups.as_deref(), Some(&["ops".to_owned()][..]));
        assert_eq!(found.connect_timeout, Some(Duration::from_secs(5)));
        let unknown = Connection { context: Some("c".into()), ..chosen };
        assert!(config(&unknown).await.is_err());
    }

    #[tokio::test]
    async fn a_denial_with_status_429_is_returned_immediately() {
        let asked = Arc::new(AtomicUsize::new(0));
        let requests = asked.clone();
        let server = Router::new().fallback(move || async move {
            requests.fetch_add(1, Ordering::Relaxed);
            (StatusCode::TOO_MANY_REQUESTS, failure(429, "admission webhook denied the request").to_string())
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, server).into_future());
        let counts = ApiRequests::default();
        let client = with_limits(Config::new(address.parse().unwrap()), counts.clone(), LIMIT).unwrap();
        let pods: Api<Pod> = Api::namespaced(client, "shop");
        let denied = timeout(Duration::from_secs(10), pods.get("web")).await.expect("an answer");
        assert!(matches!(denied, Err(Error::Api(status)) if status.message.contains("denied")));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let code = ApiCode(Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(counts.get_or_create(&ApiRequestLabels { verb: Verb::Get, code }).get(), 1);
    }

    /// An API server that sends only the start of an answer, or nothing.
    fn pods(begins: bool) -> Api<Pod> {
        let service = service_fn(move |_: Request<Body>| async move {
            if !begins {
                pending::<()>().await;
            }
            let begun = stream::iter([Ok::<_, Infallible>("{")]).chain(stream::pending());
            Ok::<_, Infallible>(Response::new(Answer::from_stream(begun)))
        });
        Api::namespaced(Client::new(Limited { inner: service, limit: LIMIT }, "default"), "shop")
    }

    #[tokio::test(start_paused = true)]
    async fn requests_without_an_answer_time_out() {
        for begins in [false, true] {
            let (pods, asked) = (pods(begins), Instant::now());
            let (list, update) = (ListParams::default(), PatchParams::default());
            let patch = Patch::Merge(json!({}));
            let asking = async { join!(pods.list(&list), pods.patch("web", &update, &patch)) };
            let (listed, patched) = timeout(2 * LIMIT, asking).await.expect("the end");
            assert!(listed.is_err() && patched.is_err());
            assert_eq!(asked.elapsed().as_secs(), LIMIT.as_secs());
        }
        let error = pods(false).get("web").await.unwrap_err();
        assert!(error.to_string().contains("the API server did not answer within 40 s"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_may_be_silent_but_must_begin_in_time() {
        let parameters = WatchParams::default();
        let begun = pods(true).watch(&parameters, "0").await.unwrap();
        let mut events = pin!(begun);
        assert!(timeout(WATCH_SILENCE, events.next()).await.is_err(), "it stays open");
        assert!(timeout(2 * SILENCE_MARGIN, events.next()).await.expect("the end").unwrap().is_err());
        let asked = Instant::now();
        assert!(pods(false).watch(&parameters, "0").await.is_err());
        assert_eq!(asked.elapsed().as_secs(), WATCH_START.as_secs());
    }
}
