//! A request to the status API on this machine, without a runtime.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Context as _;
use landfall_core::status::AgentStatus;

/// The time limit of the connection, and of each read.
const PATIENCE: Duration = Duration::from_secs(2);
/// The largest answer that is read, in bytes. Thousands of images fit into it.
const ANSWER_MAX: u64 = 16 * 1024 * 1024;

/// Asks the status API with this URL, `http://ADDRESS:PORT`. Blocks.
///
/// # Errors
///
/// If the API does not answer with a status.
pub(super) fn fetch_status(api: &str) -> anyhow::Result<AgentStatus> {
    ask(api).with_context(|| format!("{api} does not answer"))
}

fn ask(api: &str) -> anyhow::Result<AgentStatus> {
    let address = api.strip_prefix("http://").unwrap_or(api);
    let socket: SocketAddr = address.parse().context("it is not an address")?;
    let mut stream = TcpStream::connect_timeout(&socket, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // The server sends no chunks to a client of HTTP/1.0, and closes the connection after its answer.
    write!(
        stream,
        "GET /api/v1/status HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    parse_answer(&answer)
}

fn parse_answer(answer: &[u8]) -> anyhow::Result<AgentStatus> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.context("the answer is not HTTP")? + 4);
    let status = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    anyhow::ensure!(
        status == b"200",
        "the answer has the status {}",
        String::from_utf8_lossy(status)
    );
    serde_json::from_slice(body).context("the answer is not a status of the agent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_that_is_no_status_is_refused_with_a_reason() {
        for (answer, reason) in [
            ("", "the answer is not HTTP"),
            ("HTTP/1.0 404 Not Found\r\n\r\n{}", "the answer has the status 404"),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
                "the answer is not a status of the agent",
            ),
        ] {
            assert_eq!(parse_answer(answer.as_bytes()).unwrap_err().to_string(), reason);
        }
    }
}
