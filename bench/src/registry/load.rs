//! A load generator: repeats the same request over kept connections, each with its own thread. It only finds
//! the end of a response, so that the server is measured and not the client.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

const BUFFER: usize = 256 * 1024;
const HEAD_MAX: usize = 16 * 1024;

/// The result of a load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    /// Number of responses.
    pub(super) answers: u64,
    /// Bytes of their bodies.
    pub(super) bytes: u64,
    /// Seconds from the first request to the last response.
    pub(super) seconds: f64,
}

/// Sends requests for at least `duration`, and waits for the responses of those that have begun.
///
/// # Errors
/// Returns an error if an answer is not 200 or not whole.
#[expect(clippy::disallowed_types, reason = "a benchmark measures real time")]
pub(super) fn run_load(
    host: &str,
    method: &str,
    path: &str,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Load> {
    let accept = "application/vnd.oci.image.manifest.v1+json";
    let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\naccept: {accept}\r\n\r\n");
    let ready = Barrier::new(connections);
    let loads = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(|| -> anyhow::Result<Load> {
                    let connected = Connection::open(host);
                    ready.wait();
                    let mut connection = connected?;
                    let start = std::time::Instant::now();
                    let mut load = Load::default();
                    while start.elapsed() < duration {
                        load.bytes += connection.ask(request.as_bytes(), method == "HEAD")?;
                        load.answers += 1;
                    }
                    load.seconds = start.elapsed().as_secs_f64();
                    Ok(load)
                })
            })
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(load) => load,
            Err(_panic) => bail!("a thread of the load generator panicked"),
        });
        joined.collect::<anyhow::Result<Vec<Load>>>()
    });
    let loads = loads.with_context(|| format!("`{method} {path}` at `{host}` failed"))?;
    Ok(loads.iter().fold(Load::default(), |sum, load| Load {
        answers: sum.answers + load.answers,
        bytes: sum.bytes + load.bytes,
        seconds: sum.seconds.max(load.seconds),
    }))
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(host: &str) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Connection {
            stream,
            buffer: vec![0; BUFFER],
        })
    }

    /// Sends one request, reads its whole response, and returns the length of the body.
    fn ask(&mut self, request: &[u8], is_head: bool) -> anyhow::Result<u64> {
        self.stream.write_all(request)?;
        let mut filled = 0;
        let body = loop {
            let read = self.stream.read(&mut self.buffer[filled..])?;
            ensure!(read > 0, "the server closed the connection");
            let from = filled.saturating_sub(3);
            filled += read;
            if let Some(end) = find(&self.buffer[from..filled], b"\r\n\r\n") {
                break from + end + 4;
            }
            ensure!(filled < HEAD_MAX, "the head of an answer has no end");
        };
        let length = body_length(&self.buffer[..body])?;
        if is_head {
            return Ok(0);
        }
        let mut left = length.saturating_sub((filled - body) as u64);
        while left > 0 {
            let read = self.stream.read(&mut self.buffer)?;
            ensure!(read > 0, "the server closed the connection");
            left = left.saturating_sub(read as u64);
        }
        Ok(length)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Returns the length of the body if the status is 200.
fn body_length(head: &[u8]) -> anyhow::Result<u64> {
    let head = std::str::from_utf8(head)?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "answered with `{}`", head.trim_end());
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse())?
            .ok()
    });
    length.context("an answer without `Content-Length`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_answer_of_known_length_counts() {
        let head = |status: &str, header: &str| format!("HTTP/1.1 {status}\r\n{header}\r\n\r\n");
        assert_eq!(
            body_length(head("200 OK", "content-LENGTH: 12").as_bytes()).unwrap(),
            12
        );
        assert!(body_length(head("404 Not Found", "content-length: 12").as_bytes()).is_err());
        assert!(body_length(head("200 OK", "transfer-encoding: chunked").as_bytes()).is_err());
    }
}
