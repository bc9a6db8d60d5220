//! A port of a server that is not up yet.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType};

/// Loopback port that refuses connections until it listens. No other program gets it meanwhile.
#[derive(Debug)]
pub struct ClosedPort {
    socket: OwnedFd,
    address: SocketAddrV4,
}

impl ClosedPort {
    /// # Panics
    /// Panics if there is no free port.
    #[must_use]
    pub fn bind() -> ClosedPort {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).expect("a loopback port is free");
        let address = rustix::net::getsockname(&socket).expect("a bound socket has an address");
        let address = SocketAddrV4::try_from(address).expect("an address of IPv4");
        ClosedPort { socket, address }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Accepts connections from now on.
    ///
    /// # Panics
    /// Panics if the system refuses.
    #[must_use]
    pub fn listen(self) -> TcpListener {
        rustix::net::listen(&self.socket, 16).expect("a bound socket can listen");
        TcpListener::from(self.socket)
    }
}
