//! An accepted connection with bounded memory: before the TLS handshake is complete, and for data that the client
//! doesn't read.

use std::{
    future::Future as _,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// The most bytes that a client may send before its TLS handshake is complete. The API server needs less than 2 KiB;
/// rustls would hold 64 KiB of one message. A client sends its first record of data without waiting for the end of the
/// handshake, and the whole record is read: 16 KiB, and at most 2 KiB around it (RFC 5246, section 6.2.3).
const HANDSHAKE_SIZE: usize = (16 + 18) * 1024;
/// The time for a client to read written data. The API server waits for the answer and reads it immediately.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// A TCP connection with these limits.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    /// The bytes that are left for the handshake; `None` once it is complete.
    handshake: Option<usize>,
    /// The timer for data that the client hasn't read.
    unread: Option<Pin<Box<Sleep>>>,
}

impl BoundedStream {
    /// A connection without a limit for the handshake: see [`Self::expect_handshake`].
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, handshake: None, unread: None }
    }

    /// Limits the bytes that the client may send before [`Self::complete_handshake`].
    #[must_use]
    pub fn expect_handshake(mut self) -> Self {
        self.handshake = Some(HANDSHAKE_SIZE);
        self
    }

    /// Ends the limit: from here on the HTTP server bounds its reads.
    pub fn complete_handshake(&mut self) {
        self.handshake = None;
    }

    fn time_limited<T>(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_pending() {
            let limit = self.unread.get_or_insert_with(|| Box::pin(sleep(WRITE_LIMIT)));
            ready!(limit.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        written
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.handshake == Some(0) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "the TLS handshake is too long");
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        self.handshake = self.handshake.map(|left| left.saturating_sub(read));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.time_limited(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.time_limited(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when all data was written.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        ready!(self.time_limited(context, flushed))?;
        self.unread = None;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut_down = Pin::new(&mut self.stream).poll_shutdown(context);
        self.time_limited(context, shut_down)
    }
}

impl Drop for BoundedStream {
    /// Resets the connection: unread data would stay in the kernel's memory for minutes.
    fn drop(&mut self) {
        if self.unread.is_some() {
            drop(self.stream.set_zero_linger());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
        time::{Instant, timeout},
    };

    use super::*;

    async fn pair() -> (TcpStream, BoundedStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, BoundedStream::new(listener.accept().await.unwrap().0))
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_reset() {
        let (mut client, mut server) = pair().await;
        tokio::time::pause();
        let begun = Instant::now();
        let writing = async { while server.write_all(&[0; 8 * 1024]).await.is_ok() {} };
        timeout(2 * WRITE_LIMIT, writing).await.expect("the end");
        assert!(begun.elapsed() >= WRITE_LIMIT);
        drop(server);
        let mut received = Vec::new();
        let error = client.read_to_end(&mut received).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_client_that_reads_in_time_stays_connected() {
        // More than the kernel's buffers hold, so each write has to wait for the client.
        const LENGTH: usize = 32 << 20;
        let (mut client, mut server) = pair().await;
        let (answer, mut read) = (vec![1; LENGTH], vec![0; LENGTH]);
        for _ in 0..4 {
            let write = async {
                server.write_all(&answer).await?;
                server.flush().await
            };
            let (written, read) = tokio::join!(write, client.read_exact(&mut read));
            assert!(written.is_ok() && read.is_ok(), "{written:?} {read:?}");
            tokio::time::pause();
            tokio::time::advance(WRITE_LIMIT / 2).await;
            tokio::time::resume();
        }
    }

    #[tokio::test]
    async fn the_handshake_is_limited_and_later_data_is_not() {
        for (complete, readable) in [(false, HANDSHAKE_SIZE), (true, 4 * HANDSHAKE_SIZE)] {
            let (mut client, server) = pair().await;
            let mut server = server.expect_handshake();
            if complete {
                server.complete_handshake();
            }
            client.write_all(&vec![1; 4 * HANDSHAKE_SIZE]).await.unwrap();
            drop(client);
            let (mut read, mut buffer) = (0, [0; 1024]);
            while let Ok(length @ 1..) = server.read(&mut buffer).await {
                read += length;
            }
            assert_eq!(read, readable);
        }
    }
}
