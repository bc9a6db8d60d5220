//! A minimal HTTP/1.1 client over plain TCP for filling and checking a registry. It shares no code with the
//! measured copies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::content::Content;

const PATIENCE: Duration = Duration::from_secs(120);
/// Upper limit of a body that is kept, in bytes.
const BODY_MAX: u64 = 8 * 1024 * 1024;
/// Size of the relay buffer, in bytes.
const PIECE: usize = 256 * 1024;

/// One connection to one server.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
    host: String,
}

/// The body of a request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    Empty,
    Bytes(&'a [u8]),
    Content(Content),
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

impl Http {
    /// Connects to `HOST:PORT`.
    pub(crate) fn connect(host: &str) -> anyhow::Result<Http> {
        let stream = TcpStream::connect(host).with_context(|| format!("cannot connect to `{host}`"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Http {
            stream: BufReader::new(stream),
            host: host.to_owned(),
        })
    }

    /// Sends one request and reads its response. `path` may be a whole URL of this server.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> anyhow::Result<Answer> {
        let answered = self.exchange(method, path, headers, body);
        answered.with_context(|| format!("`{method} {path}` at `{}` failed", self.host))
    }

    /// Streams a body of `size` bytes from one server to another and does nothing else. This is the minimum
    /// work of any program that copies.
    pub(crate) fn relay(&mut self, from: &str, to: &mut Http, path: &str, size: u64) -> anyhow::Result<Answer> {
        self.send_head("GET", from, &[], 0)?;
        let found = self.read_head()?;
        let length = found.header("content-length").and_then(|length| length.parse().ok());
        ensure!(
            found.status == 200 && length == Some(size),
            "`GET {from}` was answered with {} and size {length:?} instead of {size}",
            found.status
        );
        to.send_head("PUT", path, &[("content-type", "application/octet-stream")], size)?;
        let mut piece = vec![0; PIECE];
        let mut left = size;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let read = self.stream.read(&mut piece[..wanted])?;
            ensure!(read > 0, "the server closed the connection");
            to.stream.get_mut().write_all(&piece[..read])?;
            left -= read as u64;
        }
        to.read_answer("PUT")
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body<'_>,
    ) -> anyhow::Result<Answer> {
        let length = match body {
            Body::Empty => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::Content(content) => content.size,
        };
        self.send_head(method, path, headers, length)?;
        let out = self.stream.get_mut();
        match body {
            Body::Empty => {}
            Body::Bytes(bytes) => out.write_all(bytes)?,
            Body::Content(content) => content.write_to(out)?,
        }
        self.read_answer(method)
    }

    fn send_head(&mut self, method: &str, path: &str, headers: &[(&str, &str)], length: u64) -> anyhow::Result<()> {
        let path = path.strip_prefix(&format!("http://{}", self.host)).unwrap_or(path);
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {length}\r\n",
            self.host
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Ok(self.stream.get_mut().write_all(head.as_bytes())?)
    }

    fn read_head(&mut self) -> anyhow::Result<Answer> {
        let status_line = self.read_line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.with_context(|| format!("`{status_line}` is no status line"))?;
        let mut answer = Answer {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let line = self.read_line()?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok(answer);
            };
            answer.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    fn read_answer(&mut self, method: &str) -> anyhow::Result<Answer> {
        let mut answer = self.read_head()?;
        if method == "HEAD" || matches!(answer.status, 204 | 304) {
            return Ok(answer);
        }
        if let Some(length) = answer.header("content-length") {
            let length = length.parse()?;
            answer.body = self.read_body(length)?;
        } else if answer.header("transfer-encoding").is_some() {
            loop {
                let length = self.read_line()?;
                let length =
                    u64::from_str_radix(length.trim(), 16).with_context(|| format!("`{length}` is no chunk"))?;
                let chunk = self.read_body(length)?;
                answer.body.extend(chunk);
                self.read_line()?;
                if length == 0 {
                    break;
                }
            }
        }
        Ok(answer)
    }

    fn read_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }

    fn read_body(&mut self, length: u64) -> anyhow::Result<Vec<u8>> {
        let kept = length.min(BODY_MAX);
        let mut body = Vec::new();
        self.stream.by_ref().take(kept).read_to_end(&mut body)?;
        io::copy(&mut self.stream.by_ref().take(length - kept), &mut io::sink())?;
        Ok(body)
    }
}
