//! Upper bound of the rate of small responses: two threads that take turns over a socket, without any work in
//! between.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::ensure;

use super::load::{Load, run_load};
use crate::http::{Body, Http};

const REQUEST_MAX: usize = 16 * 1024;

/// Records the response of a server to one request, for [`measure`].
pub(super) fn record_answer(host: &str, method: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let found = Http::connect(host)?.request(method, path, &[], Body::Empty)?;
    ensure!(
        found.status == 200,
        "`{method} {path}` was answered with {}",
        found.status
    );
    let mut answer = b"HTTP/1.1 200 OK\r\n".to_vec();
    for (name, value) in &found.headers {
        write!(answer, "{name}: {value}\r\n")?;
    }
    answer.extend_from_slice(b"\r\n");
    answer.extend(found.body);
    Ok(answer)
}

/// Runs the load against a server that does not parse requests. It has a thread for each connection, which
/// waits in `recv(2)` and sends the recorded response.
pub(super) fn measure(answer: &[u8], method: &str, connections: usize, duration: Duration) -> anyhow::Result<Load> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let host = listener.local_addr()?.to_string();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for client in listener.incoming().take(connections).flatten() {
                // The load generator sees the end of a connection, too.
                scope.spawn(move || drop(answer_all(client, answer)));
            }
        });
        run_load(&host, method, "/", connections, duration)
    })
}

fn answer_all(mut client: TcpStream, answer: &[u8]) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let mut request = [0; REQUEST_MAX];
    let mut filled = 0;
    loop {
        let read = client.read(&mut request[filled..])?;
        ensure!(read > 0, "the client has closed the connection");
        filled += read;
        if request[..filled].ends_with(b"\r\n\r\n") {
            client.write_all(answer)?;
            filled = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_answered() {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        let load = measure(answer, "GET", 3, Duration::ZERO).unwrap();
        assert_eq!((load.answers, load.bytes), (0, 0));
        let load = measure(answer, "GET", 3, Duration::from_millis(5)).unwrap();
        assert!(load.answers >= 3);
        assert_eq!(load.bytes, 5 * load.answers);
    }
}
