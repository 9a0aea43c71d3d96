//! Frames of `WebSocket` connections (RFC 6455, section 5).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, copy, sink};

/// A frame of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Data, which is not kept.
    Data,
    Ping(Vec<u8>),
    Pong,
    Close,
}

const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// The bit of a frame that is complete.
const FINAL: u8 = 0x80;
/// The bit of a masked payload, which those of clients must be.
const MASKED: u8 = 0x80;

/// Reads a frame.
///
/// # Errors
/// The connection ended, or the frame is invalid.
pub(super) async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut head = [0; 2];
    io.read_exact(&mut head).await?;
    let length = match head[1] & !MASKED {
        126 => u64::from(io.read_u16().await?),
        127 => io.read_u64().await?,
        short => u64::from(short),
    };
    if head[1] & MASKED != 0 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of the server is masked"));
    }
    let opcode = head[0] & 0x0f;
    if opcode == PING && length < 126 {
        let mut payload = Vec::new();
        io.take(length).read_to_end(&mut payload).await?;
        return if payload.len() as u64 == length { Ok(Frame::Ping(payload)) } else { Err(ended()) };
    }
    if copy(&mut io.take(length), &mut sink()).await? != length {
        return Err(ended());
    }
    Ok(match opcode {
        CLOSE => Frame::Close,
        PONG => Frame::Pong,
        _ => Frame::Data,
    })
}

/// The response to a ping.
pub(super) fn pong(payload: &[u8]) -> Vec<u8> {
    masked(PONG, payload)
}

/// The response to a close frame.
pub(super) fn close() -> Vec<u8> {
    masked(CLOSE, &[])
}

/// A control frame of the client, masked with zeros.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap_or_default() & !MASKED;
    let head = [FINAL | opcode, MASKED | length, 0, 0, 0, 0];
    [&head[..], &payload[..usize::from(length)]].concat()
}

fn ended() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_every_length_are_read() {
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let longer = [&[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0][..], &vec![7; 65_536]].concat();
        for (bytes, expected) in [
            (vec![0x81, 2, b'o', b'k'], Frame::Data),
            (long, Frame::Data),
            (longer, Frame::Data),
            (vec![0x89, 1, b'x'], Frame::Ping(vec![b'x'])),
            (vec![0x8a, 0], Frame::Pong),
            (vec![0x88, 2, 0x03, 0xe9], Frame::Close),
        ] {
            let mut rest = bytes.as_slice();
            assert_eq!(read(&mut rest).await.unwrap(), expected);
            assert!(rest.is_empty(), "{} bytes are left of {expected:?}", rest.len());
        }
    }

    #[tokio::test]
    async fn a_cut_or_masked_frame_is_an_error() {
        for (bytes, expected) in [
            (&[][..], io::ErrorKind::UnexpectedEof),
            (&[0x81][..], io::ErrorKind::UnexpectedEof),
            (&[0x81, 5, b'o'][..], io::ErrorKind::UnexpectedEof),
            (&[0x89, 5, b'o'][..], io::ErrorKind::UnexpectedEof),
            (&[0x81, 0x80, 0, 0, 0, 0][..], io::ErrorKind::InvalidData),
        ] {
            let mut rest = bytes;
            assert_eq!(read(&mut rest).await.unwrap_err().kind(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn responses_are_masked() {
        assert_eq!(pong(b"x"), [0x8a, 0x81, 0, 0, 0, 0, b'x']);
        assert_eq!(close(), [0x88, 0x80, 0, 0, 0, 0]);
    }
}
