//! Listeners with room for the clients of a site that all come at once.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, ToSocketAddrs, lookup_host};

/// Connections that wait in the kernel until the server accepts them. Beyond it the kernel drops the packets of new
/// clients, which come again after a second. The kernel's own limit, `net.core.somaxconn`, holds as well.
const BACKLOG: u32 = 1024;

/// Listens on an address. Of a name with several addresses, it takes the first that is free.
///
/// # Errors
/// The error of the last address, or if the name has none.
pub async fn listen(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in lookup_host(address).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A server that starts again does not wait for the connections of its predecessor.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_burst_of_connections_is_kept_until_it_is_accepted() {
        let listener = listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connected = Vec::new();
        for number in 0..400 {
            let client = timeout(Duration::from_secs(10), TcpStream::connect(address)).await;
            connected.push(
                client
                    .unwrap_or_else(|_| panic!("connection {number} is dropped"))
                    .unwrap(),
            );
        }
        drop(connected);
        let taken = listen(address).await.unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
