//! One HTTP/1.1 connection.

use std::net::IpAddr;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
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

/// One HTTP/1.1 connection.
pub(super) struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    /// Ends with the connection.
    connection: JoinHandle<hyper::Result<()>>,
    pub(super) peer: Option<IpAddr>,
}

/// A complete response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) pod: Option<String>,
    /// Whether the server ends the connection after it.
    pub(super) is_last: bool,
    /// The seconds of `Keep-Alive: timeout=`.
    pub(super) advertised_seconds: Option<u64>,
}

/// Why a request has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The connection had ended before it was sent.
    NotSent,
    /// The server closed the connection meanwhile.
    Closed,
    /// The server reset the connection meanwhile.
    Reset,
    /// There was no response in time.
    TimedOut,
}

impl Http1 {
    pub(super) async fn open(target: &Target) -> Result<Self, String> {
        let stream = target.connect(false).await?;
        let peer = peer(&stream);
        let (sender, connection) = handshake(stream).await.map_err(|error| text(&error))?;
        Ok(Self { sender, connection: tokio::spawn(connection), peer })
    }

    /// Sends a request, and waits for the whole response.
    pub(super) async fn request(&mut self, target: &Target) -> Result<Response, Lost> {
        let exchange = async {
            self.sender.ready().await.map_err(|_| Lost::NotSent)?;
            let lost = |error: hyper::Error| match error {
                error if error.is_canceled() => Lost::NotSent,
                error if is_reset(&error) => Lost::Reset,
                _ => Lost::Closed,
            };
            let response = self.sender.send_request(target.http1_request()).await.map_err(lost)?;
            let (parts, mut body) = response.into_parts();
            while let Some(frame) = body.frame().await {
                frame.map_err(lost)?;
            }
            Ok(Response {
                pod: target.pod(&parts.headers),
                is_last: is_last(&parts.headers),
                advertised_seconds: advertised_seconds(&parts.headers),
            })
        };
        timeout(target.timeout(), exchange).await.unwrap_or(Err(Lost::TimedOut))
    }

    /// Waits until the connection ends. Call it only once more after it has ended.
    pub(super) async fn ended(&mut self) -> Ending {
        match (&mut self.connection).await {
            Ok(Err(error)) if is_reset(&error) => Ending::Reset,
            _ => Ending::Closed,
        }
    }
}

/// Holds a connection open until it ends or the observation does. A busy one has several requests a second.
pub(super) async fn hold(target: &Target, is_busy: bool, clock: &Clock) -> Result<HeldConnection, String> {
    let mut connection = Http1::open(target).await?;
    let kind = if is_busy { ConnectionKind::Busy } else { ConnectionKind::Idle };
    let mut held = clock.opened(kind, connection.peer);
    let mut is_first = true;
    loop {
        match connection.request(target).await {
            Err(_) if is_first => return Err("the first request got no response".to_owned()),
            Err(Lost::NotSent) => return Ok(clock.end(held, Ending::Closed)),
            Err(Lost::Closed | Lost::Reset | Lost::TimedOut) => return Ok(clock.end(held, Ending::Cut)),
            Ok(response) => {
                name_pod(&mut held, response.pod);
                if response.is_last {
                    return Ok(clock.end_as_announced(held));
                }
            }
        }
        is_first = false;
        tokio::select! {
            () = clock.stop.cancelled() => return Ok(held),
            end = connection.ended() => return Ok(clock.end(held, end)),
            () = sleep(INTERVAL), if is_busy => {}
        }
    }
}

fn is_last(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("close"))
}

fn advertised_seconds(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let timeout = value.split(',').find_map(|part| part.trim().strip_prefix("timeout="))?;
    timeout.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn headers_give_the_last_response_and_the_timeout() {
        let headers = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        for (value, expected) in [("close", true), ("Keep-Alive, Close", true), ("keep-alive", false)] {
            assert_eq!(is_last(&headers(header::CONNECTION, value)), expected, "{value}");
        }
        let name = || http::HeaderName::from_static("keep-alive");
        for (value, expected) in [("timeout=5", Some(5)), ("max=100, timeout=75", Some(75)), ("max=1", None)]
        {
            assert_eq!(advertised_seconds(&headers(name(), value)), expected, "{value}");
        }
        assert!(!is_last(&HeaderMap::new()));
    }
}
