//! An HTTP client for the endpoints of the agent: one request, one response.

use std::sync::Once;

use reqwest::{Certificate, Client, Method};
use serde_json::Value;

use crate::docker_registry::Account;

static PROVIDER: Once = Once::new();

/// Installs the crypto provider of every client of this crate.
pub fn install_crypto_provider() {
    PROVIDER.call_once(|| {
        // An error means that a provider is installed already.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    });
}

/// Status and body of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextResponse {
    pub status: u16,
    pub body: String,
}

impl TextResponse {
    /// Parses the body as JSON.
    ///
    /// # Panics
    /// Panics if the body is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }
}

/// Trust and credentials of a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpsClient<'a> {
    /// The only trusted authority (PEM).
    pub authority: Option<&'a str>,
    /// Credentials that are sent with every request.
    pub account: Option<Account<'a>>,
}

impl HttpsClient<'_> {
    /// Sends a GET request.
    ///
    /// # Errors
    /// Returns an error if the server does not answer or is not trusted.
    pub fn get(&self, url: &str) -> reqwest::Result<TextResponse> {
        self.request(Method::GET, url, None)
    }

    /// Sends a POST request with JSON.
    ///
    /// # Errors
    /// Returns an error if the server does not answer or is not trusted.
    pub fn post(&self, url: &str, body: &Value) -> reqwest::Result<TextResponse> {
        self.request(Method::POST, url, Some(body))
    }

    fn request(&self, method: Method, url: &str, body: Option<&Value>) -> reqwest::Result<TextResponse> {
        install_crypto_provider();
        let authorities = self
            .authority
            .map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a PEM certificate"));
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only(authorities)
            .build()
            .expect("a client with these settings");
        let mut request = client.request(method, url);
        if let Some(Account { user, password }) = self.account {
            request = request.basic_auth(user, Some(password));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime on this thread");
        runtime.block_on(async {
            let response = request.send().await?;
            Ok(TextResponse {
                status: response.status().as_u16(),
                body: response.text().await?,
            })
        })
    }
}
