//! Limits of a server: number of connections and timeouts.

use std::time::Duration;

/// Limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Open connections at most. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// Timeout of a TLS handshake.
    pub handshake: Duration,
    /// Timeout for the headers of a request, and for an idle connection.
    pub header: Duration,
    /// Time that the server waits for a client while fewer than 16 KiB pass. It counts for a request body that the
    /// client sends and for a response that the client takes.
    pub stall: Duration,
    /// Time for requests in flight to finish after the server was told to stop.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> ServeLimits {
        ServeLimits {
            connections: 512,
            handshake: Duration::from_secs(10),
            header: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}
