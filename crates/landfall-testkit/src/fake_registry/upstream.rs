//! A real registry behind the fake one: requests are forwarded to it, so that faults apply to real responses.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, RANGE, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method, Response};
use landfall_net::tls::{TlsPolicy, client_config};

use super::handler::FakeBody;

pub(super) struct Upstream {
    url: String,
    client: reqwest::Client,
}

impl Upstream {
    /// Returns a client of this URL, without a trailing slash; certificates are not verified.
    pub(super) fn new(url: &str) -> Upstream {
        let policy = TlsPolicy {
            insecure: true,
            certificates: Vec::new(),
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(client_config(&policy).expect("a policy without certificates"))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build();
        Upstream {
            url: url.to_owned(),
            client: client.expect("a client without proxies"),
        }
    }

    /// Forwards a request; returns `None` if the response is incomplete.
    pub(super) async fn forward(&self, parts: &Parts, body: Bytes, ranged: bool) -> Option<Response<FakeBody>> {
        let mut headers = parts.headers.clone();
        for name in [HOST, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, AUTHORIZATION] {
            headers.remove(name);
        }
        if !ranged {
            headers.remove(RANGE);
        }
        let url = format!("{}{}", self.url, parts.uri);
        let request = self.client.request(parts.method.clone(), url).headers(headers);
        let answer = request.body(body).send().await.ok()?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await.ok()?;
        headers.remove(CONNECTION);
        headers.remove(TRANSFER_ENCODING);
        if parts.method != Method::HEAD {
            headers.remove(CONTENT_LENGTH);
        }
        // Redirects and upload URLs must lead back through the fake registry.
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        if let Some(path) = location.and_then(|location| location.strip_prefix(&self.url)) {
            let path = HeaderValue::from_str(path).expect("a part of a valid header");
            headers.insert(LOCATION, path);
        }
        let mut passed = Response::new(FakeBody::whole(bytes));
        *passed.status_mut() = status;
        *passed.headers_mut() = headers;
        Some(passed)
    }
}
