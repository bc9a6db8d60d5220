//! One request to a registry, before it is known where it ends up.

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Body, Client, Url};

use super::auth::need::Need;

/// One request.
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: CallBody,
    pub(super) need: Need,
}

/// Where a request goes.
pub(super) enum Target {
    /// A path and query on the registry.
    Path(String),
    /// A place that the registry named.
    Url(Url),
}

/// What a request carries.
pub(super) enum CallBody {
    /// Nothing.
    Empty,
    /// Bytes that can be sent again.
    Bytes(Bytes),
    /// A stream of known length, which can be sent once; how long to wait for the answer is up to the caller.
    Stream(Body, u64),
}

impl Call {
    pub(super) fn new(method: Method, path: impl Into<String>, need: Need) -> Call {
        Call {
            method,
            target: Target::Path(path.into()),
            headers: HeaderMap::new(),
            body: CallBody::Empty,
            need,
        }
    }

    pub(super) fn header(mut self, name: http::HeaderName, value: HeaderValue) -> Call {
        self.headers.insert(name, value);
        self
    }

    /// Whether the request only reads, so that it may go where the registry points.
    pub(super) fn only_reads(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    /// The request, for one place. A stream is gone after that.
    pub(super) fn take_request(
        &mut self,
        client: &Client,
        url: &Url,
        authorization: Option<HeaderValue>,
    ) -> reqwest::RequestBuilder {
        let mut request = client
            .request(self.method.clone(), url.clone())
            .headers(self.headers.clone());
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let reads = self.only_reads();
        match &mut self.body {
            CallBody::Empty if reads => request,
            // Some registries and proxies want to hear that a POST is empty.
            CallBody::Empty => request.header(CONTENT_LENGTH, 0),
            CallBody::Bytes(bytes) => request.body(bytes.clone()),
            CallBody::Stream(stream, length) => {
                let stream = std::mem::take(stream);
                request.header(CONTENT_LENGTH, *length).body(stream)
            }
        }
    }
}
