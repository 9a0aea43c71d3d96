//! An HTTP/1.1 server whose connections are bounded: in number, in all and for each peer, and in time.
//!
//! A peer is an IP address. It may have a bounded number of connections, and never more than are left free, so that
//! also several peers that open as many as they can leave some to others. For the webhook's port the
//! API server is a peer, or a few: one for each control plane node, or one tunnel agent in front of all. It opens a
//! connection for each request that it sends while others are open, so the limit is far above the number of admissions
//! that a cluster has at a time.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderValue, header::CONNECTION},
};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::metrics::{Metrics, Port, PortLabel};

/// The most bytes of a request's head, and what is read of a body at a time.
const HEAD_SIZE: usize = 8 * 1024;
/// How long no connection is accepted after an error such as "too many open files", at first and at most.
const ACCEPT_BACKOFF: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// The bounds of a port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one IP address.
    pub connections_per_peer: usize,
    /// What a client may take to send the head of its next request.
    pub head: Duration,
    /// How long a connection is used. The first answer after that tells the client to close it, and once it had the
    /// time to ask for one, it is cut off.
    pub age: Duration,
    /// What an open request may take once its connection has to end.
    pub drain: Duration,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// The open connections of a port.
#[derive(Clone, Debug)]
pub struct Connections {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct Connection {
    peer: IpAddr,
    open: Arc<Mutex<Open>>,
}

impl Connections {
    /// No connections.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// A connection from `peer`; `None` where a limit is reached.
    #[must_use]
    pub fn open(&self, peer: IpAddr) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = open.by_peer.get(&peer).copied().unwrap_or_default();
        let free = self.limits.connections.saturating_sub(open.all);
        if of_peer >= free.min(self.limits.connections_per_peer) {
            return None;
        }
        open.all += 1;
        open.by_peer.insert(peer, of_peer + 1);
        Some(Connection { peer, open: self.open.clone() })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        match open.by_peer.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.by_peer.remove(&self.peer)),
        }
    }
}

/// A port that is served.
pub struct Server<F> {
    listener: TcpListener,
    connections: Connections,
    tasks: JoinSet<()>,
    closing: CancellationToken,
    label: PortLabel,
    metrics: Arc<Metrics>,
    serve: F,
}

impl<F, T> Server<F>
where
    F: FnMut(TcpStream, Peer, CancellationToken) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    /// Serves each connection with `serve`, which ends it once the token is cancelled.
    pub fn new(listener: TcpListener, port: Port, limits: Limits, metrics: Arc<Metrics>, serve: F) -> Self {
        Self {
            listener,
            connections: Connections::new(limits),
            tasks: JoinSet::new(),
            closing: CancellationToken::new(),
            label: PortLabel { port },
            metrics,
            serve,
        }
    }

    /// Accepts connections for ever.
    pub async fn accept(&mut self) {
        let [mut backoff, longest] = ACCEPT_BACKOFF;
        loop {
            match self.accept_one().await {
                Ok(()) => [backoff, _] = ACCEPT_BACKOFF,
                // The client has left already.
                Err(error) if is_of_client(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, ?backoff, "no connection accepted, trying again");
                    sleep(backoff).await;
                    backoff = longest.min(2 * backoff);
                }
            }
        }
    }

    /// Accepts connections until there are none.
    pub async fn accept_until_idle(&mut self) {
        while !self.tasks.is_empty() {
            // An error is one that ends with a connection.
            let _ = timeout(ACCEPT_BACKOFF[1], self.accept_one()).await;
            while self.tasks.try_join_next().is_some() {}
        }
    }

    /// Accepts no more, and ends the connections: idle ones at once, the others when their request is answered, all
    /// of them after what [`Limits::drain`] allows.
    pub async fn close(mut self) {
        self.closing.cancel();
        drop(self.listener);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(self.connections.limits.drain, ended).await.is_err() {
            tracing::debug!(connections = self.tasks.len(), "connections were cut off");
        }
    }

    async fn accept_one(&mut self) -> io::Result<()> {
        let accepted = tokio::select! {
            accepted = self.listener.accept() => Some(accepted?),
            Some(_) = self.tasks.join_next() => None,
        };
        let Some((stream, address)) = accepted else { return Ok(()) };
        // IPv4 clients of a socket for both families come as ::ffff:1.2.3.4.
        let peer = address.ip().to_canonical();
        let Some(connection) = self.connections.open(peer) else {
            self.metrics.rejected_connections.get_or_create(&self.label).inc();
            return Ok(());
        };
        let _ = stream.set_nodelay(true);
        let serving = (self.serve)(stream, Peer(peer), self.closing.clone());
        self.tasks.spawn(async move {
            serving.await;
            drop(connection);
        });
        Ok(())
    }

    /// Where it listens.
    ///
    /// # Errors
    /// Where the system doesn't say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Whether accepting failed because of the client.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Answers the requests of one connection with `router`, until the client leaves, takes too long, or `closing`.
pub async fn serve_connection<S>(
    stream: S,
    peer: Peer,
    router: Router,
    limits: Limits,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let begun = Instant::now();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let router = router.clone();
        async move {
            let mut response = answer(router, request).await?;
            // Closing it without a word could lose a request that is on its way.
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
        tracing::debug!(%error, peer = %peer.0, "connection ended");
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

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    #[test]
    fn connections_are_bounded_in_all_and_for_each_peer() {
        let connections = Connections::new(LIMITS);
        let two = [connections.open(peer(1)).unwrap(), connections.open(peer(1)).unwrap()];
        assert!(connections.open(peer(1)).is_none());
        let others = [2, 2, 3].map(|number| connections.open(peer(number)).unwrap());
        assert!(connections.open(peer(4)).is_none());
        drop(two);
        assert!(connections.open(peer(1)).is_some());
        drop(others);
        assert_eq!(connections.open.lock().unwrap().by_peer.len(), 0);
    }

    #[test]
    fn greedy_peers_leave_connections_to_others() {
        let connections = Connections::new(Limits { connections: 100, connections_per_peer: 100, ..LIMITS });
        let mut held = Vec::new();
        for number in 1..=5 {
            while let Some(connection) = connections.open(peer(number)) {
                held.push(connection);
            }
        }
        assert!(connections.open(peer(6)).is_some());
    }

    #[test]
    fn only_errors_of_the_client_are_not_waited_after() {
        let too_many_open_files = io::Error::from_raw_os_error(24);
        assert!(!is_of_client(&too_many_open_files));
        assert!(is_of_client(&io::ErrorKind::ConnectionAborted.into()));
    }

    fn served(
        limits: Limits,
        closing: CancellationToken,
    ) -> (tokio::io::DuplexStream, impl Future<Output = ()>) {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let router = Router::new().route("/", get(|| async { "hello" }));
        (client, serve_connection(server, Peer(peer(1)), router, limits, closing))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_half_a_head_is_cut_off() {
        let (mut client, serving) = served(LIMITS, CancellationToken::new());
        client.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        timeout(2 * LIMITS.head, serving).await.expect("an end");
    }

    #[tokio::test(start_paused = true)]
    async fn half_a_request_does_not_delay_the_end() {
        let closing = CancellationToken::new();
        let (mut client, serving) = served(LIMITS, closing.clone());
        client.write_all(b"GET / HTTP/1.1\r\nhost:").await.unwrap();
        closing.cancel();
        timeout(2 * LIMITS.drain, serving).await.expect("an end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_used_ends_with_an_answer_that_says_so() {
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
    async fn a_client_that_does_not_read_its_answers_is_cut_off() {
        let (mut client, serving) = served(LIMITS, CancellationToken::new());
        let serving = tokio::spawn(serving);
        // More requests than there is room for answers.
        let asking =
            async { while client.write_all(b"GET / HTTP/1.1\r\nhost: adieu\r\n\r\n").await.is_ok() {} };
        timeout(LIMITS.age + LIMITS.head + 2 * LIMITS.drain, asking).await.expect("an end");
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_head_over_the_limit_is_refused() {
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
