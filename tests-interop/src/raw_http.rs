//! HTTP request by request, with access to every header: these tests check what a client library hides.

use std::sync::Once;

use reqwest::header::HeaderMap;
use reqwest::{Body, Certificate, Client, Method};
use tokio::runtime::Runtime;

use crate::docker_registry::Account;

static PROVIDER: Once = Once::new();

/// A client of one server.
#[derive(Debug)]
pub struct RawHttp {
    base: String,
    account: Option<(String, String)>,
    client: Client,
    runtime: Runtime,
}

/// A response of the server.
#[derive(Debug, Clone)]
pub struct RawResponse {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl RawResponse {
    /// Returns the value of a header, or an empty string if it is missing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Parses the body as JSON; returns `null` if it is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl RawHttp {
    /// Returns a client of the server at `base`, for example `https://127.0.0.1:5000`, that trusts `authority`
    /// alone.
    ///
    /// # Panics
    /// Panics if no client can be made.
    #[must_use]
    pub fn new(base: &str, authority: Option<&str>, account: Option<Account<'_>>) -> RawHttp {
        PROVIDER.call_once(|| {
            // An error means that a provider is installed already.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        });
        let authorities = authority.map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a PEM certificate"));
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only(authorities)
            .build()
            .expect("a client with these settings");
        RawHttp {
            base: base.to_owned(),
            account: account.map(|account| (account.user.to_owned(), account.password.to_owned())),
            client,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime on this thread"),
        }
    }

    /// Replaces the credentials of the following requests; `None` sends none.
    #[must_use]
    pub fn with_account(mut self, account: Option<Account<'_>>) -> RawHttp {
        self.account = account.map(|account| (account.user.to_owned(), account.password.to_owned()));
        self
    }

    /// Sends one request; `target` is a path with its query, or a whole URL.
    ///
    /// # Errors
    /// Returns an error if the server does not answer.
    pub fn try_send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> reqwest::Result<RawResponse> {
        let url = match target.starts_with("http") {
            true => target.to_owned(),
            false => format!("{}{target}", self.base),
        };
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some((user, password)) = &self.account {
            request = request.basic_auth(user, Some(password));
        }
        self.runtime.block_on(async {
            let response = request.send().await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.bytes().await?.to_vec();
            Ok(RawResponse { status, headers, body })
        })
    }

    /// Sends one request like [`RawHttp::try_send`].
    ///
    /// # Panics
    /// Panics if the server does not answer.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> RawResponse {
        self.try_send(method, target, headers, body)
            .unwrap_or_else(|error| panic!("{method} {target}: {error:?}"))
    }

    /// Sends a GET request.
    ///
    /// # Panics
    /// Panics if the server does not answer.
    #[must_use]
    pub fn get(&self, target: &str) -> RawResponse {
        self.send("GET", target, &[], "")
    }
}
