//! An HTTP/1.1 server whose connections are bounded: in number, in all and for each peer, and in time.
//!
//! A peer is an IP address. It may have a bounded number of connections. Where all are taken, the peer with the most
//! gives one up to a peer that has fewer: however many peers open as many as they can, each keeps its fair share. For
//! the webhook's port the API server is a peer, or a few: one for each control plane node, or one tunnel agent in
//! front of all. It opens a connection for each request that it sends while others are open, so the limit is far above
//! the number of admissions that a cluster has at a time.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderValue, StatusCode, header::CONNECTION},
};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use super::{
    metrics::{Metrics, Port, PortLabel},
    stream::BoundedStream,
};

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

/// Where the requests of a connection come from.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its IP address.
    pub address: IpAddr,
    /// When a request on this connection was last answered with 200: what the API server sends always is.
    served: Arc<Mutex<Option<Instant>>>,
    /// Whether a request on it is being answered.
    busy: Arc<AtomicBool>,
}

impl Peer {
    /// A new connection of this address.
    #[must_use]
    pub fn new(address: IpAddr) -> Self {
        Self { address, served: Arc::default(), busy: Arc::default() }
    }

    fn served(&self) -> Option<Instant> {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    fn set_served(&self) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The open connections of a port.
#[derive(Clone, Debug)]
pub struct Connections {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    accepted: u64,
    /// The connections of each peer, in the order in which they came.
    by_peer: HashMap<IpAddr, BTreeMap<u64, Served>>,
}

/// A connection, and the task that serves it.
#[derive(Debug)]
struct Served {
    peer: Peer,
    task: Option<AbortHandle>,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    number: u64,
    open: Arc<Mutex<Open>>,
}

/// What came of a connection.
#[derive(Debug)]
pub struct Admitted {
    connection: Option<Connection>,
    /// Whether another one was closed for it.
    displaced: bool,
}

impl Connections {
    /// No connections.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// A connection from `peer`. Where its own limit is reached it takes the place of another of its own; where all
    /// are taken, that of one of the peer that has most, if that is more than it has itself. A peer that has none
    /// takes the place of whichever is of least use. No connection gives way while a request on it is answered.
    #[must_use]
    pub fn open(&self, peer: IpAddr) -> Admitted {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.by_peer.get(&peer).map_or(0, BTreeMap::len);
        let is_own_limit_reached = own >= self.limits.connections_per_peer;
        let mut displaced = false;
        if is_own_limit_reached || open.all >= self.limits.connections {
            let (largest, count) = open.largest();
            displaced = if is_own_limit_reached {
                open.displace(|of| of == peer)
            } else {
                count > own + 1 && open.displace(|of| Some(of) == largest)
                    || own == 0 && open.displace(|_| true)
            };
            if !displaced {
                return Admitted { connection: None, displaced };
            }
        }
        open.all += 1;
        open.accepted += 1;
        let (number, peer) = (open.accepted, Peer::new(peer));
        let connections = open.by_peer.entry(peer.address).or_default();
        connections.insert(number, Served { peer: peer.clone(), task: None });
        let connection = Connection { peer, number, open: self.open.clone() };
        Admitted { connection: Some(connection), displaced }
    }

    /// What is aborted when a connection has to make room for another.
    fn is_served_by(&self, peer: IpAddr, number: u64, task: AbortHandle) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let served = open.by_peer.get_mut(&peer).and_then(|connections| connections.get_mut(&number));
        if let Some(served) = served {
            served.task = Some(task);
        }
    }
}

impl Open {
    /// The peer with the most connections, and how many these are.
    fn largest(&self) -> (Option<IpAddr>, usize) {
        let counts = self.by_peer.iter().map(|(peer, connections)| (connections.len(), *peer));
        counts.max().map_or((None, 0), |(count, peer)| (Some(peer), count))
    }

    /// Closes the connection that is of least use, of some peers: one that has yet to be, or was longest ago; of these
    /// the oldest. Whether there is one.
    fn displace(&mut self, is_of: impl Fn(IpAddr) -> bool) -> bool {
        let peers = self.by_peer.iter().filter(|(peer, _)| is_of(**peer));
        let connections = peers.flat_map(|(_, connections)| connections);
        let idle = connections.filter(|(_, served)| !served.peer.is_busy());
        let least = idle.min_by_key(|(number, served)| (served.peer.served(), **number));
        let Some((peer, number)) = least.map(|(number, served)| (served.peer.address, *number)) else {
            return false;
        };
        let displaced = self.remove(peer, number);
        if let Some(Served { task: Some(task), .. }) = &displaced {
            task.abort();
        }
        displaced.is_some()
    }

    fn remove(&mut self, peer: IpAddr, number: u64) -> Option<Served> {
        let connections = self.by_peer.get_mut(&peer)?;
        let removed = connections.remove(&number)?;
        if connections.is_empty() {
            self.by_peer.remove(&peer);
        }
        self.all -= 1;
        Some(removed)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(self.peer.address, self.number);
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
    F: FnMut(BoundedStream, Peer, CancellationToken) -> T,
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
        let Admitted { connection, displaced } = self.connections.open(peer);
        if displaced || connection.is_none() {
            self.metrics.rejected_connections.get_or_create(&self.label).inc();
        }
        let Some(connection) = connection else { return Ok(()) };
        let _ = stream.set_nodelay(true);
        let (peer, number) = (connection.peer.clone(), connection.number);
        let serving = (self.serve)(BoundedStream::new(stream), peer.clone(), self.closing.clone());
        let task = self.tasks.spawn(async move {
            serving.await;
            drop(connection);
        });
        self.connections.is_served_by(peer.address, number, task);
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
    let address = peer.address;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let (router, peer) = (router.clone(), peer.clone());
        async move {
            peer.busy.store(true, Ordering::Relaxed);
            let response = answer(router, request).await;
            peer.busy.store(false, Ordering::Relaxed);
            let mut response = response?;
            if response.status() == StatusCode::OK {
                peer.set_served();
            }
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

    fn peer(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    /// So many connections of a peer, of those that it is given; how many it has in the end.
    fn opened(connections: &Connections, number: u8, count: usize) -> (Vec<Connection>, usize) {
        let opened = (0..count).filter_map(|_| connections.open(peer(number)).connection).collect();
        let open = connections.open.lock().unwrap();
        (opened, open.by_peer.get(&peer(number)).map_or(0, BTreeMap::len))
    }

    #[test]
    fn connections_are_bounded_in_all_and_for_each_peer() {
        let connections = Connections::new(LIMITS);
        let (two, count) = opened(&connections, 1, 3);
        assert_eq!(count, 2, "the third took the place of the first");
        let others = [2, 3].map(|number| opened(&connections, number, 2).0);
        assert_eq!(connections.open.lock().unwrap().all, LIMITS.connections);
        assert!(connections.open(peer(3)).connection.is_none(), "no peer has more");
        drop((two, others));
        let open = connections.open.lock().unwrap();
        assert!(open.all == 0 && open.by_peer.is_empty(), "{open:?}");
    }

    #[test]
    fn each_peer_keeps_its_share_however_many_are_greedy() {
        let connections = Connections::new(Limits { connections: 100, connections_per_peer: 80, ..LIMITS });
        let (few, _) = opened(&connections, 0, 5);
        let mut greedy = Vec::new();
        for round in 1..=15 {
            greedy.extend(opened(&connections, round, 100).0);
        }
        let open = connections.open.lock().unwrap();
        let counts: HashMap<_, _> = open.by_peer.iter().map(|(peer, open)| (*peer, open.len())).collect();
        drop(open);
        assert_eq!(counts.values().sum::<usize>(), 100);
        assert_eq!(counts[&peer(0)], few.len(), "its share is more");
        for number in 1..=15 {
            assert!((6..=7).contains(&counts[&peer(number)]), "{counts:?}");
        }
        let (new, count) = opened(&connections, 16, 5);
        assert!(count == 5 && new.len() == 5);
    }

    #[tokio::test]
    async fn what_gives_way_is_what_has_yet_to_be_of_use_or_was_longest_ago() {
        let connections = Connections::new(Limits { connections: 4, connections_per_peer: 4, ..LIMITS });
        let (held, _) = opened(&connections, 1, 4);
        let pending = |_: &Connection| tokio::spawn(std::future::pending::<()>());
        let tasks: Vec<_> = held.iter().map(pending).collect();
        for (connection, task) in held.iter().zip(&tasks) {
            connections.is_served_by(peer(1), connection.number, task.abort_handle());
        }
        for number in [2, 0, 3] {
            held[number].peer.set_served();
        }
        let mut newcomers = Vec::new();
        for (newcomer, gone) in [(2, 1), (3, 2)] {
            newcomers.push(connections.open(peer(newcomer)));
            let still: Vec<_> = connections.open.lock().unwrap().by_peer[&peer(1)].keys().copied().collect();
            assert!(!still.contains(&held[gone].number), "{still:?}");
        }
        assert!(newcomers.iter().all(|newcomer| newcomer.displaced && newcomer.connection.is_some()));
        for (number, task) in tasks.into_iter().enumerate() {
            if [1, 2].contains(&number) {
                assert!(task.await.unwrap_err().is_cancelled());
            } else {
                assert!(!task.is_finished());
            }
        }
    }

    #[test]
    fn no_connection_gives_way_while_a_request_on_it_is_answered() {
        let connections = Connections::new(Limits { connections: 3, ..LIMITS });
        let busy = |connection: &Connection| connection.peer.busy.store(true, Ordering::Relaxed);
        let (held, _) = opened(&connections, 1, 2);
        held.iter().for_each(busy);
        assert!(connections.open(peer(1)).connection.is_none(), "its own are busy");
        let (idle, _) = opened(&connections, 2, 1);
        let new = connections.open(peer(3));
        assert!(new.displaced, "it has none, and takes the place of the one that is idle");
        assert!(!connections.open.lock().unwrap().by_peer.contains_key(&peer(2)));
        new.connection.iter().for_each(busy);
        assert!(connections.open(peer(4)).connection.is_none(), "all are busy");
        drop((held, idle));
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
        (client, serve_connection(server, Peer::new(peer(1)), router, limits, closing))
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
