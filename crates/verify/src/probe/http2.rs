//! HTTP/2 connections and gRPC streams.

use std::{future::poll_fn, net::IpAddr, task::Poll};

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{SendRequest, handshake},
};
use http::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    clock::{Clock, INTERVAL, name_pod},
    error_text::{is_reset, text},
    target::{Target, peer},
};
use crate::verify::{ConnectionKind, Ending, HeldConnection};

/// An HTTP/2 connection.
struct Http2 {
    sender: SendRequest<Bytes>,
    /// Ends with the connection.
    connection: JoinHandle<Result<(), h2::Error>>,
    peer: Option<IpAddr>,
}

impl Http2 {
    async fn open(target: &Target) -> Result<Self, String> {
        let stream = target.connect(true).await?;
        let peer = peer(&stream);
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        Ok(Self { sender, connection: tokio::spawn(connection), peer })
    }

    /// Sends a request, and waits for the head of its response.
    async fn send(
        &mut self,
        (request, body): (Request<()>, Bytes),
    ) -> Result<Response<RecvStream>, h2::Error> {
        self.sender = self.sender.clone().ready().await?;
        let (response, mut stream) = self.sender.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(body, true)?;
        }
        response.await
    }

    /// Sends a request, and waits for its response. `None` if it took too long.
    async fn exchange(&mut self, target: &Target) -> Option<Result<HeaderMap, h2::Error>> {
        let exchange = async {
            let (parts, mut body) = self.send(target.http2_request()).await?.into_parts();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
            Ok(parts.headers)
        };
        timeout(target.timeout(), exchange).await.ok()
    }

    /// Whether the server has sent GOAWAY.
    async fn is_announced(&self) -> bool {
        let mut sender = self.sender.clone();
        let state = poll_fn(|context| Poll::Ready(sender.poll_ready(context))).await;
        matches!(&state, Poll::Ready(Err(error)) if is_from_server(error))
    }

    /// Waits until the connection ends. Call it only once more after it has ended.
    async fn ended(&mut self) -> Ending {
        match (&mut self.connection).await {
            Ok(Err(error)) if is_reset(&error) => Ending::Reset,
            _ => Ending::Closed,
        }
    }
}

/// Whether an error is the GOAWAY of the server, so that a request that it rejects can be sent again.
fn is_from_server(error: &h2::Error) -> bool {
    error.is_go_away() && error.is_remote()
}

/// Holds a connection open, with several requests a second, until it ends or the observation does.
pub(super) async fn hold(target: &Target, clock: &Clock) -> Result<HeldConnection, String> {
    let mut connection = Http2::open(target).await?;
    let mut held = clock.opened(ConnectionKind::Http2, connection.peer);
    let mut is_first = true;
    loop {
        match connection.exchange(target).await {
            Some(Ok(headers)) => name_pod(&mut held, target.pod(&headers)),
            Some(Err(error)) if is_first => return Err(text(&error)),
            None if is_first => return Err("the first request got no response".to_owned()),
            Some(Err(error)) if is_from_server(&error) => return Ok(clock.end_as_announced(held)),
            Some(Err(_)) | None => {
                if connection.is_announced().await {
                    held.announced = Some(clock.now());
                }
                return Ok(clock.end(held, Ending::Cut));
            }
        }
        is_first = false;
        if connection.is_announced().await {
            return Ok(clock.end_as_announced(held));
        }
        let ended = tokio::select! {
            () = clock.stop.cancelled() => return Ok(held),
            end = connection.ended() => Some(end),
            () = sleep(INTERVAL) => None,
        };
        if connection.is_announced().await {
            return Ok(clock.end_as_announced(held));
        }
        if let Some(end) = ended {
            return Ok(clock.end(held, end));
        }
    }
}

/// Holds a gRPC stream open until it ends or the observation does.
pub(super) async fn hold_stream(target: &Target, clock: &Clock) -> Result<HeldConnection, String> {
    let mut connection = Http2::open(target).await?;
    let mut held = clock.opened(ConnectionKind::Grpc, connection.peer);
    let response = timeout(target.timeout(), connection.send(target.grpc_request())).await;
    let response = response.map_err(|_| "the stream got no response in time".to_owned())?;
    let (parts, mut body) = response.map_err(|error| text(&error))?.into_parts();
    rejection(parts.status, &parts.headers)?;
    name_pod(&mut held, target.pod(&parts.headers));
    loop {
        let data = tokio::select! {
            () = clock.stop.cancelled() => return Ok(held),
            data = body.data() => Some(data),
            () = sleep(INTERVAL) => None,
        };
        if held.announced.is_none() && connection.is_announced().await {
            held.announced = Some(clock.now());
        }
        match data {
            None => {}
            Some(Some(Ok(data))) => {
                // The stream may have ended meanwhile.
                let _ = body.flow_control().release_capacity(data.len());
            }
            // The server has completed the stream.
            Some(None) => return Ok(clock.end(held, Ending::Closed)),
            Some(Some(Err(_))) => return Ok(clock.end(held, Ending::Cut)),
        }
    }
}

/// An error if the server rejected the stream.
fn rejection(status: StatusCode, headers: &HeaderMap) -> Result<(), String> {
    if status != StatusCode::OK {
        return Err(format!("status {}", status.as_u16()));
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "" | "0" => Ok(()),
        code => Err(format!("grpc-status {code} {}", text("grpc-message")).trim_end().to_owned()),
    }
}
