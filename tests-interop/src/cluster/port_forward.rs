//! Forwards connections of pods to the API server. Other clusters have kube-proxy for this.

use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

/// Forwards every connection on `from` to `to`, both `host:port`, until this process ends.
///
/// # Panics
/// Panics if `from` cannot be bound.
pub(super) fn forward(from: &str, to: String) {
    let listener = TcpListener::bind(from).expect("an address of the cluster's own");
    thread::spawn(move || {
        for near in listener.incoming() {
            // A client whose connection fails sees it closed and connects again.
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
