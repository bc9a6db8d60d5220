//! Ports for programs that cannot be handed a listener.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range of local ports for outgoing connections: a client could take a port of that range while its
/// server restarts.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// Returns a port of 127.0.0.1 on which nothing listens and that this process has not handed out before.
///
/// # Panics
/// Panics if all of them are taken.
#[must_use]
pub fn free_port() -> u16 {
    // Test binaries that run at the same time start far apart.
    let start = (process::id() % u32::from(COUNT)) * 37;
    (0..COUNT)
        .map(|_| {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            FIRST + u16::try_from((start + step) % u32::from(COUNT)).expect("a remainder below a u16")
        })
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port on 127.0.0.1")
}
