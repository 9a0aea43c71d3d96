//! Remedies for the usual servers.

use serde::Serialize;

/// What to change in a kind of server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// The language, framework or server.
    pub server: &'static str,
    /// What to change.
    pub text: String,
}

const NODE: &str = "Node.js";
const GO: &str = "Go";
const JAVA: &str = "Java";
const PYTHON: &str = "Python";
const NGINX: &str = "nginx";

fn remedies<T: Into<String>, const N: usize>(all: [(&'static str, T); N]) -> Vec<Remedy> {
    all.into_iter().map(|(server, text)| Remedy { server, text: text.into() }).collect()
}

/// To keep idle connections for this many seconds.
pub(super) fn keep_alive(seconds: u64) -> Vec<Remedy> {
    let millis = seconds * 1000;
    remedies([
        (
            NODE,
            format!(
                "server.keepAliveTimeout = {millis} (default 5000), and server.headersTimeout = {}",
                millis + 1000
            ),
        ),
        (
            GO,
            format!(
                "http.Server{{IdleTimeout: {seconds} * time.Second}} (default: ReadTimeout, else no limit)"
            ),
        ),
        (
            JAVA,
            format!(
                "Spring Boot: server.tomcat.keep-alive-timeout={seconds}s (default: the connection timeout), \
                 server.jetty.connection-idle-timeout or server.netty.idle-timeout"
            ),
        ),
        (
            PYTHON,
            format!(
                "uvicorn --timeout-keep-alive {seconds} (default 5), or gunicorn --keep-alive {seconds} with a worker \
                 class other than sync, which keeps no connections"
            ),
        ),
        (NGINX, format!("keepalive_timeout {seconds}s (default 75s)")),
    ])
}

/// To end HTTP/1.1 connections after SIGTERM without losing requests.
pub(super) fn http1() -> Vec<Remedy> {
    remedies([
        (
            NODE,
            "on SIGTERM set Connection: close in responses, and call server.close() and \
             server.closeIdleConnections(), which server.close() does since Node.js 19",
        ),
        (GO, "on SIGTERM call Shutdown of http.Server, and exit once it returns"),
        (JAVA, "Spring Boot: server.shutdown=graceful (the default since 3.4)"),
        (
            PYTHON,
            "run uvicorn (--timeout-graceful-shutdown) or gunicorn (--graceful-timeout) as process 1, so that it \
             receives SIGTERM",
        ),
        (
            NGINX,
            "STOPSIGNAL SIGQUIT in the image, or nginx -s quit in preStop: SIGTERM ends requests immediately",
        ),
    ])
}

/// To end HTTP/2 connections by GOAWAY.
pub(super) fn http2() -> Vec<Remedy> {
    remedies([
        (NODE, "on SIGTERM call close() of every Http2Session, which sends GOAWAY"),
        (GO, "on SIGTERM call Shutdown of http.Server, which sends GOAWAY"),
        (JAVA, "Spring Boot: server.shutdown=graceful (the default since 3.4)"),
        (PYTHON, "hypercorn with --graceful-timeout; uvicorn and gunicorn have no HTTP/2"),
        (NGINX, "STOPSIGNAL SIGQUIT in the image, or nginx -s quit in preStop"),
    ])
}

/// To end gRPC streams in order.
pub(super) fn grpc() -> Vec<Remedy> {
    remedies([
        (NODE, "on SIGTERM call server.tryShutdown(), and server.forceShutdown() after a time"),
        (
            GO,
            "on SIGTERM call GracefulStop, and Stop after a time; endless streams need a handler that returns, or \
             MaxConnectionAge and MaxConnectionAgeGrace in keepalive.ServerParameters",
        ),
        (JAVA, "on SIGTERM call server.shutdown() and awaitTermination, and shutdownNow() after a time"),
        (PYTHON, "on SIGTERM call server.stop(grace), with the grace in seconds"),
    ])
}

/// To end `WebSocket` connections with a close frame.
pub(super) fn web_socket() -> Vec<Remedy> {
    remedies([
        (NODE, "with ws: on SIGTERM call client.close(1001) for each of wss.clients"),
        (
            GO,
            "Shutdown of http.Server ignores hijacked connections: send a close frame with 1001 to each in a function \
             that RegisterOnShutdown has registered, and wait for them",
        ),
        (
            JAVA,
            "Spring Boot: on ContextClosedEvent call session.close(CloseStatus.GOING_AWAY) for each session",
        ),
        (PYTHON, "run uvicorn as process 1: on SIGTERM it closes each with 1012"),
        (
            NGINX,
            "as a proxy it sends no close frame: SIGQUIT and worker_shutdown_timeout, longer than a session",
        ),
    ])
}
