//! Plain HTTP, request by request: what a client library would hide is what these tests look at.

use std::sync::Once;

use reqwest::header::HeaderMap;
use reqwest::{Body, Certificate, Client, Method};
use tokio::runtime::Runtime;

use crate::docker_registry::Account;

static PROVIDER: Once = Once::new();

/// Asks one server.
#[derive(Debug)]
pub struct Wire {
    base: String,
    account: Option<(String, String)>,
    client: Client,
    runtime: Runtime,
}

/// What it answered.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// A header's value, empty when it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The body as JSON; `null` when it is something else.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

impl Wire {
    /// Asks the server at `base`, e.g. `https://127.0.0.1:5000`, trusting `authority` alone.
    ///
    /// # Panics
    /// When no client can be made.
    #[must_use]
    pub fn new(base: &str, authority: Option<&str>, account: Option<Account<'_>>) -> Wire {
        PROVIDER.call_once(|| {
            // An error means that there is a provider already.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        });
        let authorities = authority.map(|pem| Certificate::from_pem(pem.as_bytes()).expect("a PEM certificate"));
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only(authorities)
            .build()
            .expect("a client with these settings");
        Wire {
            base: base.to_owned(),
            account: account.map(|account| (account.user.to_owned(), account.password.to_owned())),
            client,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime on this thread"),
        }
    }

    /// Asks nobody's login with the next requests, or this one's.
    #[must_use]
    pub fn with_account(mut self, account: Option<Account<'_>>) -> Wire {
        self.account = account.map(|account| (account.user.to_owned(), account.password.to_owned()));
        self
    }

    /// One request; `target` is a path with its query, or a whole URL.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn try_send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> reqwest::Result<Reply> {
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
            Ok(Reply { status, headers, body })
        })
    }

    /// The same.
    ///
    /// # Panics
    /// When nobody answers.
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        self.try_send(method, target, headers, body)
            .unwrap_or_else(|error| panic!("{method} {target}: {error:?}"))
    }

    /// A request without a body.
    ///
    /// # Panics
    /// When nobody answers.
    #[must_use]
    pub fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], "")
    }
}
