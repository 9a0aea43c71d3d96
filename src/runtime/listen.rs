//! Listening for both address families.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::net::{TcpListener, TcpSocket};

/// The size of the kernel's receive and send buffers, in bytes; it takes up to twice as much, which counts as the
/// container's memory. Within a cluster, at a round trip of a millisecond, that still allows tens of megabytes per second.
const BUFFER: u32 = 16 * 1024;
/// The number of connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens at `address`. `[::]` means all IPv6 and IPv4 addresses; if the kernel has no IPv6, all IPv4 addresses.
///
/// # Errors
/// If the address can't be bound.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address, async |address| bind_socket(address)).await
}

fn bind_socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit these.
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn bind<L>(address: SocketAddr, bind: impl AsyncFn(SocketAddr) -> io::Result<L>) -> io::Result<L> {
    match bind(address).await {
        // If the port is in use, IPv4 wouldn't help.
        Err(error) if is_any_of_ipv6(address) && error.kind() != io::ErrorKind::AddrInUse => {
            tracing::info!(%error, "IPv6 is not available, listening on IPv4 only");
            bind((Ipv4Addr::UNSPECIFIED, address.port()).into()).await
        }
        bound => bound,
    }
}

fn is_any_of_ipv6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn a_dual_stack_listener_accepts_ipv4() {
        let listener = listen((Ipv6Addr::UNSPECIFIED, 0).into()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        if listener.local_addr().unwrap().is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn without_ipv6_the_listener_uses_ipv4() {
        // EAFNOSUPPORT, or another error.
        let without = |error: fn() -> io::Error| {
            move |address: SocketAddr| async move {
                if address.is_ipv6() { Err(error()) } else { Ok(address.to_string()) }
            }
        };
        let lacks = without(|| io::Error::from_raw_os_error(97));
        assert_eq!(bind("[::]:8443".parse().unwrap(), lacks).await.unwrap(), "0.0.0.0:8443");
        let lacks = without(|| io::Error::from_raw_os_error(97));
        assert!(
            bind("[::1]:8443".parse().unwrap(), lacks).await.is_err(),
            "only the unspecified address falls back"
        );
        let taken = without(|| io::ErrorKind::AddrInUse.into());
        assert!(bind("[::]:8443".parse().unwrap(), taken).await.is_err());
    }
}
