//! Connections that end without a reset. A client may be sending a request at the very moment in which the
//! server says goodbye (HTTP/2's GOAWAY) and closes. The kernel answers that with a reset, which also throws
//! away the goodbye that the client hasn't read yet: the request fails, where otherwise it would be sent again
//! on another connection. So the server ends its side, and then listens until the client has ended its own.

use std::{
    future::{Future as _, Ready, ready},
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum_server::accept::Accept;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// How long a client may take to end its side.
const PATIENCE: Duration = Duration::from_secs(2);

/// Accepts connections that linger.
#[derive(Clone, Copy, Debug)]
pub struct Acceptor;

impl<S> Accept<TcpStream, S> for Acceptor {
    type Stream = Lingering;
    type Service = S;
    type Future = Ready<io::Result<(Self::Stream, Self::Service)>>;

    fn accept(&self, stream: TcpStream, service: S) -> Self::Future {
        // Answers are small, and waited for.
        let made = stream.set_nodelay(true).map(|()| (Lingering { stream, patience: None }, service));
        ready(made)
    }
}

/// A connection that lingers.
#[derive(Debug)]
pub struct Lingering {
    stream: TcpStream,
    /// Runs out when the client has taken too long.
    patience: Option<Pin<Box<Sleep>>>,
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.patience.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
        loop {
            if patience.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; 1024];
            let mut buffer = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // The client has ended its side, one way or another.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::Instant,
    };

    use super::*;

    async fn connected() -> (Lingering, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, ()) = Acceptor.accept(listener.accept().await.unwrap().0, ()).await.unwrap();
        (stream, client)
    }

    #[tokio::test]
    async fn a_client_that_sends_too_late_still_reads_the_goodbye() {
        let (mut server, mut client) = connected().await;
        server.write_all(b"goodbye").await.unwrap();
        let ended = tokio::spawn(async move { server.shutdown().await });
        // More than one write: the second would meet the reset that the first had caused.
        for _ in 0..10 {
            client.write_all(&[0; 4096]).await.unwrap();
        }
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"goodbye");
        drop(client);
        ended.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stays_is_left_after_a_while() {
        let (mut server, client) = connected().await;
        let started = Instant::now();
        server.shutdown().await.unwrap();
        assert!(started.elapsed() >= PATIENCE);
        drop(client);
    }
}
