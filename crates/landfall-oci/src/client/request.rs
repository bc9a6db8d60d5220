//! One request to a registry, before its final host is known.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Body, Client, Url};

use super::auth::scope::Scope;

/// Value of `Accept-Encoding`: digests are those of the bytes as they are. Without the header any content coding is
/// welcome (RFC 9110 section 12.5.3).
pub(super) const ENCODING: &str = "identity";

pub(super) struct RegistryRequest {
    pub(super) method: Method,
    pub(super) target: RequestTarget,
    pub(super) headers: HeaderMap,
    pub(super) body: RequestBody,
    pub(super) scope: Scope,
}

pub(super) enum RequestTarget {
    /// Path and query on the registry.
    Path(String),
    /// URL from the registry.
    Url(Url),
}

pub(super) enum RequestBody {
    Empty,
    /// Bytes that can be sent again.
    Bytes(Bytes),
    /// A stream of known length, which can be sent once. The caller limits the wait for the response.
    Stream(Body, u64),
}

impl RegistryRequest {
    pub(super) fn new(method: Method, path: impl Into<String>, scope: Scope) -> RegistryRequest {
        RegistryRequest {
            method,
            target: RequestTarget::Path(path.into()),
            headers: HeaderMap::new(),
            body: RequestBody::Empty,
            scope,
        }
    }

    pub(super) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> RegistryRequest {
        self.headers.insert(name, value);
        self
    }

    /// Returns true if the request only reads.
    pub(super) fn only_reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// Returns true if the request can be sent again.
    pub(super) fn can_repeat(&self) -> bool {
        !matches!(self.body, RequestBody::Stream(..))
    }

    /// Returns true if the request follows a redirect with this status. Only 307 and 308 keep the method of a request
    /// that does not read (RFC 9110 section 15.4). A streamed body is consumed before the answer comes.
    pub(super) fn follows(&self, status: StatusCode) -> bool {
        match status.as_u16() {
            307 | 308 => self.can_repeat(),
            301..=303 => self.only_reads(),
            _ => false,
        }
    }

    /// Builds the request for one URL. This consumes a streamed body.
    pub(super) fn take_builder(
        &mut self,
        client: &Client,
        url: &Url,
        authorization: Option<HeaderValue>,
    ) -> reqwest::RequestBuilder {
        let mut builder = client
            .request(self.method.clone(), url.clone())
            .header(ACCEPT_ENCODING, HeaderValue::from_static(ENCODING))
            .headers(self.headers.clone());
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let reads = self.only_reads();
        match &mut self.body {
            RequestBody::Empty if reads => builder,
            // Some registries and proxies require the length of an empty POST.
            RequestBody::Empty => builder.header(CONTENT_LENGTH, 0),
            RequestBody::Bytes(bytes) => builder.body(bytes.clone()),
            RequestBody::Stream(stream, length) => {
                let stream = std::mem::take(stream);
                builder.header(CONTENT_LENGTH, *length).body(stream)
            }
        }
    }
}
