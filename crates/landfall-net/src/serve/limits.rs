//! Limits of a server: number of connections and timeouts.

use std::time::Duration;

/// Limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServeLimits {
    /// Open connections at most. One that waits for a request gives way to a new one; while all are busy, further ones
    /// wait in the kernel's queue.
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

impl ServeLimits {
    /// Returns the number of connections that one client may have: half of all, and at least one. As many further ones
    /// wait while all of them are busy, for [`ServeLimits::header`] at most. The others are closed.
    #[must_use]
    pub fn connections_of_client(&self) -> usize {
        self.connections.div_ceil(2)
    }
}

/// Largest head of a request, in bytes. hyper would take 400 KiB of every client before any login.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

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
