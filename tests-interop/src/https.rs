//! A plain HTTP client for the endpoints of the agent: one request, one answer.

use std::sync::Once;

use reqwest::{Certificate, Client, Method};
use serde_json::Value;

static PROVIDER: Once = Once::new();

/// Status and body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is something else.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }
}

/// Reads a URL. Only `authority` (PEM) is trusted.
///
/// # Errors
/// When nobody answers, or somebody who is not trusted.
pub fn get(url: &str, authority: Option<&str>) -> reqwest::Result<Answer> {
    request(Method::GET, url, authority, None)
}

/// Posts JSON. Only `authority` (PEM) is trusted.
///
/// # Errors
/// When nobody answers, or somebody who is not trusted.
pub fn post(url: &str, authority: Option<&str>, body: &Value) -> reqwest::Result<Answer> {
    request(Method::POST, url, authority, Some(body))
}

fn request(method: Method, url: &str, authority: Option<&str>, body: Option<&Value>) -> reqwest::Result<Answer> {
    PROVIDER.call_once(|| {
        // An error means that there is a provider already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    });
    let authorities = authority
        .into_iter()
        .map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a PEM certificate"));
    let client = Client::builder()
        .no_proxy()
        .tls_certs_only(authorities)
        .build()
        .expect("a client with these settings");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime on this thread");
    runtime.block_on(async {
        let mut request = client.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok(Answer {
            status,
            body: response.text().await?,
        })
    })
}
