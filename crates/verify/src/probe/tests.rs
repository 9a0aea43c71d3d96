//! Servers on the loopback interface whose behavior is known.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Response};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    load::{Options, Probes},
    verify::{ConnectionKind, Ending, HeldConnection, IdleEnd, KeepAlive, Observation},
};

/// Longer than any step of a test takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nx-pod: web-1\r\ncontent-length: 2\r\n\r\nok";
const CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A server that handles every connection with `handle`.
async fn server<F>(handle: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(handle(stream));
        }
    });
    address
}

fn options(address: SocketAddr, probes: Probes) -> Options {
    Options { pod_header: Some("x-pod".to_owned()), probes, ..Options::to(format!("http://{address}/")) }
}

fn target(address: SocketAddr, probes: Probes) -> Arc<Target> {
    Arc::new(Target::new(&options(address, probes)).unwrap())
}

async fn answer(stream: &mut TcpStream, response: &[u8]) -> bool {
    let mut request = [0; 4096];
    stream.read(&mut request).await.is_ok_and(|read| read > 0) && stream.write_all(response).await.is_ok()
}

/// Without a linger time a connection is reset.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

async fn measured(address: SocketAddr, limit: Duration) -> KeepAlive {
    let target = target(address, Probes::default());
    let stop = CancellationToken::new();
    let observations = keep_alive(&target, limit, &stop);
    let observations = timeout(LIMIT, observations).await.unwrap();
    KeepAlive::of(observations.iter().filter_map(|observation| match observation {
        Observation::Idle(probe) => Some(probe),
        _ => None,
    }))
    .unwrap()
}

#[tokio::test]
async fn the_keep_alive_timeout_of_a_server_is_found() {
    let closing = server(|mut stream| async move {
        let mut request = [0; 4096];
        while let Ok(Ok(1..)) = timeout(Duration::from_secs(1), stream.read(&mut request)).await {
            if stream.write_all(OK).await.is_err() {
                break;
            }
        }
    })
    .await;
    let found = measured(closing, Duration::from_secs(3)).await;
    assert_eq!(found.ended_by, Some(IdleEnd::Closed), "{found:?}");
    assert!((0.9..2.9).contains(&found.ends_after_seconds.unwrap()), "{found:?}");
    assert!(found.answers_after_seconds.is_some_and(|after| after < 1.5), "{found:?}");
    assert_eq!((found.failed, found.not_kept), (0, 0), "{found:?}");
}

#[tokio::test]
async fn idle_connections_that_are_reset_kept_or_ended_are_recognized() {
    let resetting = server(|mut stream| async move {
        answer(&mut stream, OK).await;
        let _ = timeout(Duration::from_millis(300), stream.readable()).await;
        reset(stream);
    })
    .await;
    let found = measured(resetting, Duration::from_secs(2)).await;
    assert_eq!(found.ended_by, Some(IdleEnd::Reset), "{found:?}");

    let keeping = server(|mut stream| async move { while answer(&mut stream, OK).await {} }).await;
    let found = measured(keeping, Duration::from_millis(500)).await;
    assert_eq!((found.ends_after_seconds, found.answers_after_seconds), (None, Some(0.5)), "{found:?}");

    let ending = server(|mut stream| async move {
        answer(&mut stream, CLOSE).await;
    })
    .await;
    let found = measured(ending, Duration::from_millis(500)).await;
    assert!(found.keeps_none(), "{found:?}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let found = measured(closed, Duration::from_millis(500)).await;
    assert_eq!(found.failed, found.connections, "{found:?}");
}

/// Holds connections until `is_enough`, and returns the observations so far.
async fn observe(options: &Options, is_enough: impl Fn(&[Observation]) -> bool) -> Vec<Observation> {
    let target = Arc::new(Target::new(options).unwrap());
    let stop = CancellationToken::new();
    let mut observations = Vec::new();
    let sink = |observation| {
        observations.push(observation);
        if is_enough(&observations) {
            stop.cancel();
        }
    };
    timeout(LIMIT, hold(&target, Instant::now(), sink, stop.clone())).await.unwrap();
    observations
}

/// How the first connection of a kind ended: whether that was announced, and how.
fn ending(observations: &[Observation], kind: ConnectionKind) -> Option<(bool, Option<Ending>)> {
    observations.iter().find_map(|observation| match observation {
        Observation::Held(HeldConnection { kind: of, announced, ended, .. }) if *of == kind => {
            Some((announced.is_some(), ended.map(|(_, how)| how)))
        }
        _ => None,
    })
}

fn has_ended(kinds: &'static [ConnectionKind]) -> impl Fn(&[Observation]) -> bool {
    move |observations| kinds.iter().all(|kind| ending(observations, *kind).is_some())
}

/// Answers requests, until so many are answered on all connections that each of them has a response and busy ones have
/// more; then does `after`.
async fn signalled<F>(after: impl Fn(TcpStream) -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    const ANSWERS: usize = 24;
    let (sender, receiver) = watch::channel(0);
    let sender = Arc::new(sender);
    server(move |mut stream| {
        let (sender, mut receiver, after) = (sender.clone(), receiver.clone(), after.clone());
        async move {
            loop {
                tokio::select! {
                    biased;
                    () = async { drop(receiver.wait_for(|answers| *answers >= ANSWERS).await) } => break,
                    is_open = answer(&mut stream, OK) => if !is_open { return },
                }
                sender.send_modify(|answers| *answers += 1);
            }
            after(stream).await;
        }
    })
    .await
}

#[tokio::test]
async fn the_end_of_http_1_connections_is_observed() {
    use ConnectionKind::{Busy, Idle};
    let probes = || Probes { hold: true, ..Probes::default() };
    let announcing = signalled(|mut stream| async move {
        answer(&mut stream, CLOSE).await;
    })
    .await;
    let observations = observe(&options(announcing, probes()), has_ended(&[Busy])).await;
    assert_eq!(ending(&observations, Busy), Some((true, Some(Ending::Closed))), "{observations:?}");

    let closing = signalled(|stream| async move { drop(stream) }).await;
    let observations = observe(&options(closing, probes()), has_ended(&[Idle])).await;
    assert_eq!(ending(&observations, Idle), Some((false, Some(Ending::Closed))), "{observations:?}");

    let resetting = signalled(|stream| async move { reset(stream) }).await;
    let observations = observe(&options(resetting, probes()), has_ended(&[Idle])).await;
    assert_eq!(ending(&observations, Idle), Some((false, Some(Ending::Reset))), "{observations:?}");

    // It dies with a request in progress.
    let dying = signalled(|mut stream| async move { drop(stream.read(&mut [0; 4096]).await) }).await;
    let observations = observe(&options(dying, probes()), has_ended(&[Busy])).await;
    assert_eq!(ending(&observations, Busy), Some((false, Some(Ending::Cut))), "{observations:?}");
    let mut named = observations.iter().filter_map(|observation| match observation {
        Observation::Held(held) => held.pod.as_deref(),
        _ => None,
    });
    assert!(named.all(|pod| pod == "web-1"), "{observations:?}");
}

/// An HTTP/2 server, also of gRPC streams, that ends connections by GOAWAY and streams with a status; or cuts them.
async fn http2_server(is_graceful: bool) -> SocketAddr {
    server(move |stream| async move {
        let Ok(mut connection) = h2::server::handshake(stream).await else { return };
        let mut streams = Vec::new();
        let deadline = tokio::time::sleep(Duration::from_millis(700));
        let mut deadline = std::pin::pin!(deadline);
        loop {
            let accepted = tokio::select! {
                accepted = connection.accept() => accepted,
                () = &mut deadline => break,
            };
            let Some(Ok((request, mut respond))) = accepted else { return };
            let is_stream = request.headers().get("te").is_some();
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            if is_stream {
                streams.push(body);
            } else {
                body.send_data(Bytes::from_static(b"ok"), true).unwrap();
            }
        }
        if is_graceful {
            connection.graceful_shutdown();
            for mut stream in streams {
                let status = HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    http::HeaderValue::from_static("14"),
                )]);
                stream.send_trailers(status).unwrap();
            }
            while connection.accept().await.is_some() {}
        }
    })
    .await
}

#[tokio::test]
async fn the_end_of_http_2_connections_and_grpc_streams_is_observed() {
    use ConnectionKind::{Grpc, Http2};
    let probes = || Probes { hold: true, grpc: Some("shop.Orders/Watch".to_owned()), ..Probes::default() };
    let options = |address| Options { http2: true, ..options(address, probes()) };
    let observations = observe(&options(http2_server(true).await), has_ended(&[Grpc, Http2])).await;
    assert_eq!(ending(&observations, Http2), Some((true, Some(Ending::Closed))), "{observations:?}");
    assert_eq!(ending(&observations, Grpc).unwrap().1, Some(Ending::Closed), "{observations:?}");

    let observations = observe(&options(http2_server(false).await), has_ended(&[Grpc, Http2])).await;
    assert!(!ending(&observations, Http2).unwrap().0, "{observations:?}");
    assert_eq!(ending(&observations, Grpc), Some((false, Some(Ending::Cut))), "{observations:?}");
}

/// Opens `WebSocket` connections, and ends them after a ping with these bytes.
async fn websocket_server(end: &'static [u8]) -> SocketAddr {
    server(move |mut stream| async move {
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        answer(&mut stream, switch).await;
        stream.write_all(&[0x89, 1, b'x', 0x81, 2, b'h', b'i']).await.unwrap();
        let mut pong = [0; 7];
        stream.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [0x8a, 0x81, 0, 0, 0, 0, b'x']);
        stream.write_all(end).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn the_end_of_web_socket_connections_is_observed() {
    use ConnectionKind::WebSocket;
    let probes = || Probes { websocket: Some("/events".to_owned()), ..Probes::default() };
    let cases: [(&'static [u8], _); 3] = [
        (b"\x88\x02\x03\xe9", (true, Some(Ending::Closed))),
        (b"", (false, Some(Ending::Cut))),
        // A part of a frame.
        (b"\x81\x05o", (false, Some(Ending::Cut))),
    ];
    for (end, expected) in cases {
        let address = websocket_server(end).await;
        let observations = observe(&options(address, probes()), has_ended(&[WebSocket])).await;
        assert_eq!(ending(&observations, WebSocket), Some(expected), "{observations:?}");
    }
    let http = server(|mut stream| async move { while answer(&mut stream, OK).await {} }).await;
    let observations = observe(&options(http, probes()), |all| !all.is_empty()).await;
    let expected = Observation::NotOpened { kind: WebSocket, reason: "status 200 instead of 101".to_owned() };
    assert_eq!(observations[0], expected);
}

#[tokio::test]
async fn connections_that_are_open_at_the_end_are_observed() {
    let (sender, mut answers) = watch::channel(0);
    let sender = Arc::new(sender);
    let keeping = server(move |mut stream| {
        let sender = sender.clone();
        async move {
            while answer(&mut stream, OK).await {
                sender.send_modify(|answers| *answers += 1);
            }
        }
    })
    .await;
    let target = target(keeping, Probes { hold: true, ..Probes::default() });
    let stop = CancellationToken::new();
    let mut observations = Vec::new();
    let sink = |observation| observations.push(observation);
    let stopping = async {
        // The first responses of all connections.
        answers.wait_for(|answers| *answers >= 16).await.unwrap();
        stop.cancel();
    };
    tokio::join!(hold(&target, Instant::now(), sink, stop.clone()), stopping);
    assert_eq!(ending(&observations, ConnectionKind::Busy), Some((false, None)), "{observations:?}");
    assert_eq!(ending(&observations, ConnectionKind::Idle), Some((false, None)), "{observations:?}");
}

#[test]
fn an_invalid_path_or_method_is_an_error_that_names_its_option() {
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let websocket = |path: &str| Probes { websocket: Some(path.to_owned()), ..Probes::default() };
    let grpc = |method: &str| Probes { grpc: Some(method.to_owned()), ..Probes::default() };
    for (probes, part) in [
        (websocket("events"), "--websocket"),
        (grpc("Watch"), "--grpc-stream"),
        (grpc("shop.Orders/"), "--grpc-stream"),
    ] {
        let message = Target::new(&options(address, probes)).unwrap_err().to_string();
        assert!(message.starts_with(part), "{message}");
    }
    for probes in [websocket("/events?all"), grpc("grpc.health.v1.Health/Watch"), grpc("/a.B/C")] {
        Target::new(&options(address, probes)).unwrap();
    }
}
