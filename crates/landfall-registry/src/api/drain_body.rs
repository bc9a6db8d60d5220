//! An error that comes before a request's body was read. To hang up at once on a client that is still sending is to take
//! the answer away from it: it sees a broken connection instead of the reason. So the answer goes out, and what still
//! comes is thrown away for a moment.

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

/// For how long a client may go on sending what nobody wants.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// A request's body, of which a second handle stays.
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
    /// Takes a handle of a request's body; nothing where there is none.
    pub(crate) fn of(request: Request) -> (Request, Option<SharedBody>) {
        if request.body().is_end_stream() {
            return (request, None);
        }
        let (parts, body) = request.into_parts();
        let shared = SharedBody(Arc::new(Mutex::new(body)));
        (Request::from_parts(parts, Body::new(shared.clone())), Some(shared))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Body> {
        // One handle reads at a time: the second only once the first is done.
        lock(&self.0)
    }

    /// Sends an answer, and reads on until the client is done or patience ends.
    pub(crate) fn drain_after(self, response: Response) -> Response {
        if self.is_end_stream() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let rest = stream::once(async move {
            let mut body = self;
            let drain = async { while let Some(Ok(_)) = body.frame().await {} };
            // A client that goes on for longer is hung up on.
            drop(timeout(DRAIN_MAX, drain).await);
        });
        let body = body.into_data_stream().chain(rest.filter_map(|()| async { None }));
        Response::from_parts(parts, Body::from_stream(body))
    }
}
