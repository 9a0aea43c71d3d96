//! `WebSocket` connections.

use http::StatusCode;
use hyper::{client::conn::http1::handshake, upgrade};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::{
    clock::{Clock, name_pod},
    error_text::text,
    frame::{self, Frame},
    target::{Target, peer},
};
use crate::verify::{ConnectionKind, Ending, HeldConnection};

/// Holds a `WebSocket` open until it ends or the observation does.
pub(super) async fn hold(target: &Target, clock: &Clock) -> Result<HeldConnection, String> {
    let stream = target.connect(false).await?;
    let mut held = clock.opened(ConnectionKind::WebSocket, peer(&stream));
    let opened = timeout(target.timeout(), async {
        let (mut sender, connection) = handshake(stream).await.map_err(|error| text(&error))?;
        tokio::spawn(connection.with_upgrades());
        let response = sender.send_request(target.websocket_request()).await;
        let mut response = response.map_err(|error| text(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(format!("status {} instead of 101", response.status().as_u16()));
        }
        name_pod(&mut held, target.pod(response.headers()));
        upgrade::on(&mut response).await.map_err(|error| text(&error))
    });
    let opened = opened.await.map_err(|_| "it got no response in time".to_owned())?;
    let mut io = TokioIo::new(opened?);
    loop {
        let Some(frame) = clock.stop.run_until_cancelled(frame::read(&mut io)).await else {
            return Ok(held);
        };
        match frame {
            Ok(Frame::Data | Frame::Pong) => {}
            // If it can't be sent, the next read fails.
            Ok(Frame::Ping(payload)) => drop(io.write_all(&frame::pong(&payload)).await),
            Ok(Frame::Close) => {
                let held = clock.end_as_announced(held);
                let _ = timeout(target.timeout(), io.write_all(&frame::close())).await;
                return Ok(held);
            }
            Err(_) => return Ok(clock.end(held, Ending::Cut)),
        }
    }
}
