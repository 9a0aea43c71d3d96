//! An accepted connection with bounded memory: for TLS messages that carry no data, and for data that the client doesn't
//! read.

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
use tokio_rustls::server::TlsStream;

/// The most bytes that a client may send before its first data, and between data. The API server needs less than 2 KiB
/// for a TLS handshake; rustls would hold 64 KiB of one message, also after the handshake. A client sends its first record
/// of data without waiting for the end of the handshake, and the whole record is read: 16 KiB, and at most 2 KiB around
/// it (RFC 5246, section 6.2.3).
const WITHOUT_DATA: usize = (16 + 18) * 1024;
/// The time for a client to read written data. The API server waits for the answer and reads it immediately.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// A TCP connection with these limits.
#[derive(Debug)]
pub struct BoundedStream {
    stream: TcpStream,
    /// The bytes that may still be read until data is received; `None` if there is no TLS.
    without_data: Option<usize>,
    /// The timer for data that the client hasn't read.
    unread: Option<Pin<Box<Sleep>>>,
}

impl BoundedStream {
    /// A connection without TLS.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, without_data: None, unread: None }
    }

    /// The connection of a TLS session: limits the bytes that the client may send without data.
    #[must_use]
    pub fn of_tls(mut self) -> Self {
        self.received_data();
        self
    }

    fn received_data(&mut self) {
        self.without_data = Some(WITHOUT_DATA);
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
        if self.without_data == Some(0) {
            let error = io::Error::new(io::ErrorKind::InvalidData, "TLS messages without data are too long");
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().len() - before;
        self.without_data = self.without_data.map(|left| left.saturating_sub(read));
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

/// A TLS session on a bounded connection. The HTTP server bounds its reads of data, the connection the messages between
/// them.
#[derive(Debug)]
pub struct BoundedTlsStream(TlsStream<BoundedStream>);

impl BoundedTlsStream {
    /// The session after its handshake.
    #[must_use]
    pub fn new(stream: TlsStream<BoundedStream>) -> Self {
        Self(stream)
    }
}

impl AsyncRead for BoundedTlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.0.get_mut().0.received_data();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BoundedTlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
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
    async fn bytes_without_data_are_limited_and_data_is_not() {
        for (receives_data, readable) in [(false, WITHOUT_DATA), (true, 4 * WITHOUT_DATA)] {
            let (mut client, server) = pair().await;
            let mut server = server.of_tls();
            client.write_all(&vec![1; 4 * WITHOUT_DATA]).await.unwrap();
            drop(client);
            let (mut read, mut buffer) = (0, [0; 1024]);
            while let Ok(length @ 1..) = server.read(&mut buffer).await {
                read += length;
                if receives_data {
                    server.received_data();
                }
            }
            assert_eq!(read, readable);
        }
    }
}
