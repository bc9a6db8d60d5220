//! The way of pods to the API server: a port that passes connections on. A cluster has kube-proxy for this.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// Passes every connection to `from` on to `to`, both `host:port`, as long as this process lives.
///
/// # Panics
/// When `from` cannot be bound.
pub(super) fn forward(from: &str, to: String) {
    let listener = TcpListener::bind(from).expect("an address of the cluster's own");
    thread::spawn(move || {
        for near in listener.incoming() {
            // Whoever cannot be served sees a closed connection, and comes again.
            if let Ok((near, far)) = near.and_then(|near| Ok((near, TcpStream::connect(&to)?))) {
                drop(pass_on(near, far));
            }
        }
    });
}

fn pass_on(near: TcpStream, far: TcpStream) -> io::Result<()> {
    for (mut from, mut to) in [(near.try_clone()?, far.try_clone()?), (far, near)] {
        thread::spawn(move || {
            drop(io::copy(&mut from, &mut to));
            drop(to.shutdown(Shutdown::Write));
        });
    }
    Ok(())
}
