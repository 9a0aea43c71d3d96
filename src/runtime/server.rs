//! An HTTP/1.1 server that limits its connections in number, in total and per peer, and in time.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header::CONNECTION},
};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    connection_limits::{ConnectionDecision, Connections},
    metrics::{Component, Metrics, Port, PortLabel},
    panics::catch,
    stream::BoundedStream,
};

pub use super::connection_limits::ConnectionInfo;

/// The maximum size of a request's head, and of one read of a body.
const HEAD_SIZE: usize = 8 * 1024;
/// The first and the longest pause after an accept error such as "too many open files".
const ACCEPT_BACKOFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The limits of a port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in total.
    pub connections: usize,
    /// Connections from one IP address.
    pub connections_per_peer: usize,
    /// The time for a client to send the head of its next request.
    pub head: Duration,
    /// The age of a connection from which answers carry `Connection: close`. It is closed after another `head`.
    pub age: Duration,
    /// The time for a request in progress once its connection has to end.
    pub drain: Duration,
}

/// A server of one port.
pub struct Server<F> {
    listener: TcpListener,
    connections: Connections,
    drain: Duration,
    tasks: JoinSet<()>,
    closing: CancellationToken,
    label: PortLabel,
    metrics: Arc<Metrics>,
    serve: F,
}

impl<F, T> Server<F>
where
    F: FnMut(BoundedStream, ConnectionInfo, CancellationToken) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    /// A server that calls `serve` for each connection, which ends it once the token is cancelled.
    pub fn new(listener: TcpListener, port: Port, limits: Limits, metrics: Arc<Metrics>, serve: F) -> Self {
        Self {
            listener,
            connections: Connections::new(limits.connections, limits.connections_per_peer),
            drain: limits.drain,
            tasks: JoinSet::new(),
            closing: CancellationToken::new(),
            label: PortLabel { port },
            metrics,
            serve,
        }
    }

    /// Accepts connections. Never returns.
    pub async fn accept(&mut self) {
        let [mut backoff, longest] = ACCEPT_BACKOFF;
        loop {
            match self.accept_one().await {
                Ok(()) => [backoff, _] = ACCEPT_BACKOFF,
                // The client has closed the connection.
                Err(error) if is_client_error(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, ?backoff, "cannot accept a connection, retrying");
                    sleep(backoff).await;
                    backoff = longest.min(2 * backoff);
                }
            }
        }
    }

    /// Accepts connections until none is open.
    pub async fn accept_until_idle(&mut self) {
        while !self.tasks.is_empty() {
            // Accept errors pass when a connection is closed.
            let _ = timeout(ACCEPT_BACKOFF[1], self.accept_one()).await;
            while self.tasks.try_join_next().is_some() {}
        }
    }

    /// Stops accepting and closes the connections: idle ones immediately, the others when their request is answered,
    /// all of them after [`Limits::drain`].
    pub async fn close(mut self) {
        self.closing.cancel();
        drop(self.listener);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(self.drain, ended).await.is_err() {
            tracing::debug!(connections = self.tasks.len(), "closed connections with requests in progress");
        }
    }

    async fn accept_one(&mut self) -> io::Result<()> {
        let accepted = tokio::select! {
            accepted = self.listener.accept() => Some(accepted?),
            Some(_) = self.tasks.join_next() => None,
        };
        let Some((stream, address)) = accepted else { return Ok(()) };
        // IPv4 clients of a dual-stack socket appear as ::ffff:1.2.3.4.
        let peer = address.ip().to_canonical();
        let ConnectionDecision { connection, evicted } = self.connections.open(peer);
        if evicted || connection.is_none() {
            self.metrics.rejected_connections.get_or_create(&self.label).inc();
        }
        let Some(connection) = connection else { return Ok(()) };
        let _ = stream.set_nodelay(true);
        let (info, number) = (connection.info.clone(), connection.number);
        let serving = (self.serve)(BoundedStream::new(stream), info.clone(), self.closing.clone());
        let metrics = self.metrics.clone();
        let task = self.tasks.spawn(async move {
            // The panic is logged and counted, and ends only this connection.
            let _ = catch(Component::Connection, &metrics, serving).await;
            drop(connection);
        });
        self.connections.set_task(info.address, number, task);
        Ok(())
    }

    /// The address of the listener.
    ///
    /// # Errors
    /// If the system doesn't return it.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whether the client caused the accept error.
fn is_client_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Serves one connection with `router`, until the client closes it, a limit is reached, or `closing` is cancelled.
pub async fn serve_connection<S>(
    stream: S,
    info: ConnectionInfo,
    router: Router,
    limits: Limits,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = Instant::now();
    let address = info.address;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(info.clone());
        let (router, info) = (router.clone(), info.clone());
        async move {
            info.set_busy(true);
            let response = answer(router, request).await;
            info.set_busy(false);
            let mut response = response?;
            if response.status() == StatusCode::OK {
                info.record_success();
            }
            // Closing it without notice could lose a request in transit.
            if begun.elapsed() >= limits.age {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_SIZE)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = closing.cancelled() => None,
        () = sleep(limits.age + limits.head) => None,
    };
    let ended = if let Some(ended) = ended {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        timeout(limits.drain, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %address, "connection ended");
    }
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
) -> Result<Response<axum::body::Body>, Infallible> {
    router.call(request).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMITS: Limits = Limits {
        connections: 5,
        connections_per_peer: 2,
        head: Duration::from_secs(3),
        age: Duration::from_mins(1),
        drain: Duration::from_millis(500),
    };

    #[test]
    fn accept_errors_that_the_client_causes_do_not_back_off() {
        let too_many_open_files = io::Error::from_raw_os_error(24);
        assert!(!is_client_error(&too_many_open_files));
        assert!(is_client_error(&io::ErrorKind::ConnectionAborted.into()));
    }

    fn served(
        limits: Limits,
        closing: CancellationToken,
    ) -> (tokio::io::DuplexStream, impl Future<Output = ()>) {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let router = Router::new().route("/", get(|| async { "hello" }));
        (
            client,
            serve_connection(
                server,
                ConnectionInfo::new(Ipv4Addr::LOCALHOST.into()),
                router,
                limits,
                closing,
            ),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_half_a_head_is_disconnected() {
        let (mut client, serving) = served(LIMITS, CancellationToken::new());
        client.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        timeout(2 * LIMITS.head, serving).await.expect("the end");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_does_not_delay_the_shutdown() {
        let closing = CancellationToken::new();
        let (mut client, serving) = served(LIMITS, closing.clone());
        client.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        closing.cancel();
        timeout(2 * LIMITS.drain, serving).await.expect("the end");
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_connection_ends_with_connection_close() {
        let (mut client, serving) = served(LIMITS, CancellationToken::new());
        let serving = tokio::spawn(serving);
        let (begun, mut answers) = (Instant::now(), Vec::new());
        loop {
            client.write_all(b"GET / HTTP/1.1\r\nhost: adieu\r\n\r\n").await.unwrap();
            let mut answer = vec![0; 1024];
            let length = client.read(&mut answer).await.unwrap();
            answers.push(String::from_utf8_lossy(&answer[..length]).contains("connection: close"));
            if answers.ends_with(&[true]) {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(begun.elapsed(), LIMITS.age);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        serving.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_answers_is_disconnected() {
        let (mut client, serving) = served(LIMITS, CancellationToken::new());
        let serving = tokio::spawn(serving);
        // More requests than the buffers hold answers for.
        let asking =
            async { while client.write_all(b"GET / HTTP/1.1\r\nhost: adieu\r\n\r\n").await.is_ok() {} };
        timeout(LIMITS.age + LIMITS.head + 2 * LIMITS.drain, asking).await.expect("the end");
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_panics_is_counted_and_ends_no_other() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::<Metrics>::default();
        let connected = std::sync::atomic::AtomicUsize::new(0);
        let serve = move |mut stream: BoundedStream, _, _| {
            let first = connected.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            async move {
                assert!(!first, "on purpose");
                stream.write_all(b"hello").await.unwrap();
            }
        };
        let mut server = Server::new(listener, Port::Webhook, LIMITS, metrics.clone(), serve);
        let serving = tokio::spawn(async move { server.accept().await });
        for expected in ["", "hello"] {
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, expected);
        }
        assert!(metrics.render().unwrap().contains("adieu_panics_total{component=\"connection\"} 1"));
        serving.abort();
    }

    #[tokio::test]
    async fn a_head_over_the_limit_is_rejected() {
        let (mut client, serving) = served(LIMITS, CancellationToken::new());
        let serving = tokio::spawn(serving);
        let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(2 * HEAD_SIZE));
        client.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        serving.await.unwrap();
    }
}
