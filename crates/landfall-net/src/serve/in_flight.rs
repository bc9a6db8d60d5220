//! What is under way on an HTTP/2 connection. Its client can keep it open for nothing in ways that the connection's own
//! bytes do not show: it asks for an answer and opens no window for it, or asks for nothing, and answers pings all the while.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use landfall_core::sync::lock;
use tokio::time::{Instant, sleep_until};

use crate::serve::limits::ServeLimits;

/// The requests under way on one connection.
#[derive(Debug, Clone)]
pub(super) struct InFlightRequests(Arc<Mutex<InFlight>>);

#[derive(Debug)]
struct InFlight {
    /// By number: since when a client that was given a piece of its answer has not taken it; `None` while it waits for us.
    responses: HashMap<u64, Option<Instant>>,
    next: u64,
    /// When the last answer ended.
    idle_since: Instant,
}

/// Why a connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeoutReason {
    /// Nothing was asked for a while.
    Idle,
    /// An answer is not taken.
    Stalled,
}

impl InFlightRequests {
    pub(super) fn new() -> InFlightRequests {
        InFlightRequests(Arc::new(Mutex::new(InFlight {
            responses: HashMap::new(),
            next: 0,
            idle_since: Instant::now(),
        })))
    }

    /// Notes a request; it is under way until the value is dropped.
    pub(super) fn start(&self) -> InFlightResponse {
        let mut in_flight = self.lock();
        let number = in_flight.next;
        in_flight.next += 1;
        in_flight.responses.insert(number, None);
        InFlightResponse {
            requests: self.clone(),
            number,
        }
    }

    /// Waits until the connection is of no more use.
    pub(super) async fn wait_for_timeout(&self, limits: ServeLimits) -> TimeoutReason {
        loop {
            let (due, reason) = self.next_timeout(limits);
            let now = Instant::now();
            if due <= now {
                return reason;
            }
            // What begins meanwhile may be due before.
            sleep_until(due.min(now + limits.stall.min(limits.header))).await;
        }
    }

    /// When the connection will be of no more use, if nothing changes.
    fn next_timeout(&self, limits: ServeLimits) -> (Instant, TimeoutReason) {
        let in_flight = self.lock();
        if in_flight.responses.is_empty() {
            return (in_flight.idle_since + limits.header, TimeoutReason::Idle);
        }
        let oldest = in_flight.responses.values().flatten().min();
        let since = oldest.copied().unwrap_or_else(Instant::now);
        (since + limits.stall, TimeoutReason::Stalled)
    }

    fn lock(&self) -> MutexGuard<'_, InFlight> {
        lock(&self.0)
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct InFlightResponse {
    requests: InFlightRequests,
    number: u64,
}

impl InFlightResponse {
    fn set_waiting_since(&self, since: Option<Instant>) {
        self.requests.lock().responses.insert(self.number, since);
    }
}

impl Drop for InFlightResponse {
    fn drop(&mut self) {
        let mut in_flight = self.requests.lock();
        in_flight.responses.remove(&self.number);
        in_flight.idle_since = Instant::now();
    }
}

/// An answer's body that tells when the client does not take it: it is polled once there is room for more.
#[derive(Debug)]
pub(super) struct TrackedBody {
    body: Body,
    response: InFlightResponse,
}

impl TrackedBody {
    pub(super) fn new(body: Body, response: InFlightResponse) -> TrackedBody {
        TrackedBody { body, response }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let TrackedBody { body, response } = self.get_mut();
        let poll = Pin::new(body).poll_frame(context);
        response.set_waiting_since(match &poll {
            Poll::Ready(Some(_)) => Some(Instant::now()),
            Poll::Ready(None) | Poll::Pending => None,
        });
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
