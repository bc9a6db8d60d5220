//! Draining of request bodies after an early error. If the server closed the connection while the client is still
//! sending, the client would see a broken connection and not the error. So the server sends the response, then reads
//! and discards the rest of the body for a limited time.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use landfall_core::sync::lock;
use tokio::time::timeout;

/// Time limit for draining.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A request body with a second handle for draining.
#[derive(Debug, Clone)]
pub(crate) struct SharedBody(Arc<Mutex<Body>>);

impl HttpBody for SharedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.lock()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().size_hint()
    }
}

impl SharedBody {
    /// Wraps a request's body and returns its second handle, or `None` without a body.
    pub(crate) fn of(request: Request) -> (Request, Option<SharedBody>) {
        if request.body().is_end_stream() {
            return (request, None);
        }
        let (parts, body) = request.into_parts();
        let shared = SharedBody(Arc::new(Mutex::new(body)));
        (Request::from_parts(parts, Body::new(shared.clone())), Some(shared))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Body> {
        // Only one handle reads at a time: the second starts after the first has finished.
        lock(&self.0)
    }

    /// Sends a response and then drains the request's body, until it ends or [`DRAIN_MAX`] is over.
    pub(crate) fn drain_after(self, response: Response) -> Response {
        if self.is_end_stream() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let rest = stream::once(async move {
            let mut body = self;
            let drain = async { while let Some(Ok(_)) = body.frame().await {} };
            // The server closes the connection of a client that sends for longer.
            drop(timeout(DRAIN_MAX, drain).await);
        });
        let body = body.into_data_stream().chain(rest.filter_map(|()| async { None }));
        Response::from_parts(parts, Body::from_stream(body))
    }
}
