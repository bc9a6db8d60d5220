//! The load: HTTP/1.1 over TLS, one request at a time on each connection. All connections are in one thread, to
//! leave as much of the two cores as possible to the measured program.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Trust anchors of the client.
#[derive(Clone)]
pub(super) struct Trust(RootCertStore);

impl Trust {
    pub(super) fn of_nobody() -> Trust {
        Trust(RootCertStore::empty())
    }

    /// Reads an authority from a PEM file.
    pub(super) fn of_file(path: &Path) -> anyhow::Result<Trust> {
        let pem = fs_err::read(path)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).context("the authority is not PEM")?)?;
        Ok(Trust(roots))
    }

    fn connector(&self) -> anyhow::Result<TlsConnector> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.0.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsConnector::from(Arc::new(config)))
    }
}

/// The result of a load.
pub(super) struct Load {
    /// In ascending order.
    latencies: Vec<Duration>,
    measured: Duration,
}

impl Load {
    /// Sends the review repeatedly.
    pub(super) fn run(
        port: u16,
        trust: &Trust,
        review: &str,
        connections: usize,
        warm_up: Duration,
        measured: Duration,
    ) -> anyhow::Result<Load> {
        runtime()?.block_on(async {
            let request: Arc<[u8]> = render_request(review).into();
            let connector = trust.connector()?;
            let mut all = JoinSet::new();
            let start = Instant::now() + warm_up;
            for _ in 0..connections {
                let mut connection = Connection::open(port, &connector).await?;
                let request = request.clone();
                all.spawn(async move {
                    let mut latencies = Vec::new();
                    loop {
                        let before = Instant::now();
                        if before > start + measured {
                            return Ok::<_, anyhow::Error>(latencies);
                        }
                        connection.send(&request).await?;
                        if before >= start {
                            latencies.push(before.elapsed());
                        }
                    }
                });
            }
            let mut latencies = Vec::new();
            while let Some(ended) = all.join_next().await {
                latencies.extend(ended??);
            }
            ensure!(!latencies.is_empty(), "no review was answered");
            latencies.sort_unstable();
            Ok(Load { latencies, measured })
        })
    }

    /// Returns the latency that this share of the reviews did not exceed.
    pub(super) fn percentile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a position in a list of at most some millions"
        )]
        let position = (self.latencies.len() as f64 * share) as usize;
        self.latencies[position.min(self.latencies.len() - 1)]
    }

    /// Returns the reviews per second.
    pub(super) fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of at most some millions")]
        let count = self.latencies.len() as f64;
        count / self.measured.as_secs_f64()
    }
}

/// Sends one review on a new connection and returns the response.
pub(super) fn send_one(port: u16, trust: &Trust, review: &str) -> anyhow::Result<String> {
    runtime()?.block_on(async {
        let mut connection = Connection::open(port, &trust.connector()?).await?;
        connection.send(&render_request(review)).await?;
        Ok(String::from_utf8_lossy(&connection.answer).into_owned())
    })
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn render_request(review: &str) -> Vec<u8> {
    let length = review.len();
    format!(
        "POST /mutate?timeout=2s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: kube-apiserver-admission\r\nAccept: \
         application/json\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{review}"
    )
    .into_bytes()
}

struct Connection {
    stream: TlsStream<TcpStream>,
    answer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16, connector: &TlsConnector) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("127.0.0.1").context("an address is a server name")?;
        Ok(Connection {
            stream: connector.connect(name, stream).await?,
            answer: Vec::with_capacity(16 << 10),
        })
    }

    /// Sends a request and reads its response to the end.
    async fn send(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.answer.clear();
        loop {
            if let Some(end) = end_of_answer(&self.answer)?
                && self.answer.len() >= end
            {
                return Ok(());
            }
            ensure!(self.stream.read_buf(&mut self.answer).await? > 0, "the webhook hung up");
        }
    }
}

/// Returns the end of a response once its headers have arrived. A status other than 200 is an error.
fn end_of_answer(answer: &[u8]) -> anyhow::Result<Option<usize>> {
    const LENGTH: &str = "content-length: ";
    let Some(headers) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&answer[..headers]).context("the headers are not text")?;
    ensure!(text.starts_with("HTTP/1.1 200 "), "the webhook answered {text}");
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix(LENGTH))
        .context("there is no length")?;
    Ok(Some(headers + 4 + length.parse::<usize>()?))
}
