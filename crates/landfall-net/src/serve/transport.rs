//! Encryption of a server's connections, and the transport of each request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::serve::tls::CertificateSlot;

/// First byte of a TLS connection: a record of the handshake (RFC 8446 section 5.1). No HTTP request begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Encryption of the connections of a server.
#[derive(Debug, Clone)]
pub enum Encryption {
    /// Plain HTTP.
    Off,
    /// TLS with this certificate.
    On(Arc<CertificateSlot>),
    /// TLS with this certificate for connections that begin with a TLS handshake, plain HTTP for the others. The router
    /// decides by [`Transport`] about plain requests.
    Detected(Arc<CertificateSlot>),
}

impl From<Option<Arc<CertificateSlot>>> for Encryption {
    fn from(certificate: Option<Arc<CertificateSlot>>) -> Encryption {
        certificate.map_or(Encryption::Off, Encryption::On)
    }
}

/// Transport of a request. Each request has it as an extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tls,
    /// Plain HTTP from a client on this machine: its address is one of loopback, or that of the server.
    PlainLocal,
    /// Plain HTTP over a network.
    PlainRemote,
}

impl Transport {
    /// Returns the transport of a plain connection between these addresses.
    #[must_use]
    pub fn of_plain(local: SocketAddr, peer: SocketAddr) -> Transport {
        // A socket of IPv6 shows clients of IPv4 under mapped addresses.
        let (local, peer) = (local.ip().to_canonical(), peer.ip().to_canonical());
        match peer.is_loopback() || peer == local {
            true => Transport::PlainLocal,
            false => Transport::PlainRemote,
        }
    }
}

/// Waits for the first byte of a connection, which stays there, and returns true if it begins a TLS handshake.
pub(crate) async fn begins_with_tls(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    let length = stream.peek(&mut first).await?;
    Ok(length == 1 && first[0] == TLS_HANDSHAKE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_of_this_machine_is_known_by_its_address() {
        for (local, peer, expected) in [
            ("127.0.0.1:5080", "127.0.0.1:40000", Transport::PlainLocal),
            ("[::1]:5080", "[::1]:40000", Transport::PlainLocal),
            ("[::ffff:127.0.0.1]:5080", "[::ffff:127.0.0.1]:4", Transport::PlainLocal),
            ("10.0.0.7:5080", "10.0.0.7:40000", Transport::PlainLocal),
            ("[::ffff:10.0.0.7]:5080", "[::ffff:10.0.0.7]:4", Transport::PlainLocal),
            ("10.0.0.7:5080", "10.0.0.8:40000", Transport::PlainRemote),
            ("[::ffff:10.0.0.7]:5080", "[::ffff:10.0.0.8]:4", Transport::PlainRemote),
            ("[fd00::7]:5080", "[fd00::8]:40000", Transport::PlainRemote),
        ] {
            let found = Transport::of_plain(local.parse().unwrap(), peer.parse().unwrap());
            assert_eq!(found, expected, "{peer} to {local}");
        }
    }
}
