//! Clients of the status API of a host [spec:security.status-api]: its address, and the trust in its certificate.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use clap::Args;
use fs_err as fs;
use landfall_core::failure::{Explanation, error_chain};
use landfall_net::tls::{Fingerprint, TlsPolicy, client_config, client_config_pinned};
use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode, Url};
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;

use crate::runtime;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit of a short request.
pub(crate) const SHORT_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest answer that is read, in bytes. The status of thousands of images fits into it.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Address of a status API.
#[derive(Debug, Clone)]
pub struct ApiAddress(Url);

impl FromStr for ApiAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ApiAddress, String> {
        let usage = || "write it as `https://HOST:5080`, on the host itself `http://127.0.0.1:5080`".to_owned();
        let url = Url::parse(text).map_err(|_| usage())?;
        let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
        match is_http && is_plain && matches!(url.path(), "" | "/") {
            true => Ok(ApiAddress(url)),
            false => Err(usage()),
        }
    }
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl ApiAddress {
    /// Returns true if what is sent leaves this machine, and has no encryption.
    fn is_readable_on_the_way(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let is_here = address.map_or(host == "localhost", |address| address.is_loopback());
        self.0.scheme() == "http" && !is_here
    }

    /// Refuses an address that a secret would go to in clear text.
    ///
    /// # Errors
    /// If others on the network could read it.
    pub(crate) fn require_encryption(&self) -> anyhow::Result<()> {
        if !self.is_readable_on_the_way() {
            return Ok(());
        }
        bail!(Explanation::new(
            format!("nothing was sent to {self}: others on the network could read the token"),
            "write `https://`, with `--fingerprint` (`landfall status` shows it on the host) or with `--ca` (the file \
             `api/ca.crt` of the agent's state directory), or go through a tunnel to the host's loopback: `ssh -L \
             5080:127.0.0.1:5080 HOST`",
        ))
    }
}

/// Trust in the certificate of a status API.
#[derive(Debug, Clone, Default, Args)]
pub struct ApiTrustArgs {
    /// Certification authority of an `https` address, in PEM [default: those of the system].
    ///
    /// The authority of a host is `api/ca.crt` in the agent's state directory.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<Utf8PathBuf>,
    /// SHA-256 of the host's certificate, or of its authority's: no other is trusted, and names do not matter.
    ///
    /// `landfall status` shows it on the host.
    #[arg(long, value_name = "SHA256", conflicts_with = "ca")]
    pub fingerprint: Option<Fingerprint>,
}

/// Status API of another host.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("ca", |arg| arg.requires("from")), mut_arg("fingerprint", |arg| arg.requires("from")))]
pub struct RemoteHostArgs {
    /// Ask the status API of another host, e.g. `https://till-7:5080` [default: the agent on this host].
    #[arg(long, value_name = "URL", conflicts_with = "state_dir")]
    pub from: Option<ApiAddress>,
    #[command(flatten)]
    pub trust: ApiTrustArgs,
}

impl RemoteHostArgs {
    /// Returns the named host; `None` if the agent on this host is meant.
    ///
    /// # Errors
    /// If the certificate cannot be read or used.
    pub(crate) fn open(&self) -> anyhow::Result<Option<RemoteHost>> {
        let Some(address) = &self.from else { return Ok(None) };
        Ok(Some(RemoteHost {
            api: HostApi::new(address, &self.trust, HeaderMap::new())?,
            runtime: runtime::current_thread()?,
        }))
    }
}

/// Another host, for a command that asks it once or again and again.
#[derive(Debug)]
pub(crate) struct RemoteHost {
    api: HostApi,
    runtime: Runtime,
}

impl RemoteHost {
    /// Returns the answer to a request for this path, as JSON.
    ///
    /// # Errors
    /// As [`HostApi::get`].
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.runtime.block_on(self.api.get(path))
    }
}

/// A client of the status API of one host.
#[derive(Debug, Clone)]
pub(crate) struct HostApi {
    pub(crate) address: ApiAddress,
    pub(crate) http: reqwest::Client,
}

impl HostApi {
    /// Returns a client that sends these headers with each request.
    ///
    /// # Errors
    /// If the certificate cannot be read or used.
    pub(crate) fn new(address: &ApiAddress, trust: &ApiTrustArgs, headers: HeaderMap) -> anyhow::Result<HostApi> {
        let tls = match trust.fingerprint {
            Some(pin) => client_config_pinned(pin),
            None => {
                let policy = TlsPolicy {
                    insecure: false,
                    certificates: trust
                        .ca
                        .as_ref()
                        .map(fs::read_to_string)
                        .transpose()?
                        .into_iter()
                        .collect(),
                };
                client_config(&policy).context("cannot use the certificate of `--ca`")?
            }
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("landfall/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .context("cannot set up an HTTP client")?;
        let address = address.clone();
        Ok(HostApi { address, http })
    }

    /// Returns the answer to a request for this path, as JSON.
    ///
    /// # Errors
    /// If the host does not answer, or refuses.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let request = self.http.get(format!("{}{path}", self.address)).timeout(SHORT_TIMEOUT);
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        match response.status() {
            StatusCode::OK => self.parse(&read_body(response).await?),
            _ => Err(read_refusal(response).await),
        }
    }

    /// Parses the body of an answer.
    ///
    /// # Errors
    /// If it is not what this path answers.
    pub(crate) fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> anyhow::Result<T> {
        serde_json::from_slice(body).with_context(|| {
            Explanation::new(
                format!("the answer of {} is not that of a status API", self.address),
                "name the address of `landfall.listen`, or port 5080 of the host",
            )
        })
    }

    /// Returns true if the host's certificate was refused: another attempt ends in the same way.
    pub(crate) fn refused_certificate(&self, error: &reqwest::Error) -> bool {
        self.address.0.scheme() == "https" && error_chain(error).contains("certificate")
    }

    pub(crate) fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        // The address is in the message; the path is of no use.
        let error = error.without_url();
        let chain = error_chain(&error);
        let hint = match self.refused_certificate(&error) {
            true => {
                "trust the host by `--fingerprint` (`landfall status` shows it there) or by `--ca` (the file \
                 `api/ca.crt` of the agent's state directory)"
            }
            false => {
                "check the address, and that the agent runs there; it listens beyond the host itself only with \
                 `landfall.listen`"
            }
        };
        Explanation::new(format!("{} does not answer: {chain}", self.address), hint).into()
    }
}

/// Reads the error of an answer that is none of success.
pub(crate) async fn read_refusal(response: Response) -> anyhow::Error {
    #[derive(serde::Deserialize)]
    struct Problem {
        error: String,
        hint: Option<String>,
    }
    let status = response.status();
    let body = read_body(response).await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(Problem {
            error,
            hint: Some(hint),
        }) => Explanation::new(error, hint).into(),
        Ok(Problem { error, hint: None }) => anyhow::anyhow!(error),
        Err(_) if status == StatusCode::NOT_FOUND => Explanation::new(
            "the address has nothing of this kind",
            "name the status API of a Landfall agent that is as new as this program",
        )
        .into(),
        Err(_) => anyhow::anyhow!("the answer has the status {status}"),
    }
}

pub(crate) async fn read_body(mut response: Response) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > ANSWER_MAX {
            bail!("the answer is too long");
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_goes_to_loopback_or_over_tls_alone() {
        for (address, is_open) in [
            ("http://127.0.0.1:5080", true),
            ("http://[::1]:5080", true),
            ("http://localhost:5080", true),
            ("https://till-7:5080", true),
            ("http://till-7:5080", false),
            ("http://10.0.0.7:5080", false),
            ("http://localhost.example:5080", false),
        ] {
            let address: ApiAddress = address.parse().unwrap();
            assert_eq!(address.require_encryption().is_ok(), is_open, "{address}");
        }
    }
}
