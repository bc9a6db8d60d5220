//! Requests in flight on an HTTP/2 connection. A client can keep a connection open without using it, in ways that the
//! bytes of the connection do not show. It requests a response and opens no flow-control window for it, or it sends no
//! requests, and answers pings in both cases.

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
use crate::serve::slots::Slot;

/// Requests in flight on one connection.
#[derive(Debug, Clone)]
pub(super) struct InFlightRequests(Arc<Mutex<InFlight>>);

#[derive(Debug)]
struct InFlight {
    slot: Arc<Slot>,
    /// Per request: the time at which the client was given a part of the response that it has not taken yet. `None`
    /// while the client waits for the server.
    responses: HashMap<u64, Option<Instant>>,
    next: u64,
    /// Time at which the last response ended.
    idle_since: Instant,
}

/// Reason to close a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeoutReason {
    /// No request was in flight for [`ServeLimits::header`].
    Idle,
    /// The client did not take a response for [`ServeLimits::stall`].
    Stalled,
}

impl InFlightRequests {
    pub(super) fn new(slot: Arc<Slot>) -> InFlightRequests {
        InFlightRequests(Arc::new(Mutex::new(InFlight {
            slot,
            responses: HashMap::new(),
            next: 0,
            idle_since: Instant::now(),
        })))
    }

    /// Registers a request. It is in flight until the returned value is dropped.
    pub(super) fn start(&self) -> InFlightResponse {
        let mut in_flight = self.lock();
        let number = in_flight.next;
        in_flight.next += 1;
        // If the connection gives way at this moment, this request ends with it.
        let _gives_way = in_flight.slot.begin();
        in_flight.responses.insert(number, None);
        InFlightResponse {
            requests: self.clone(),
            number,
        }
    }

    /// Waits until the connection is idle or stalled for too long.
    pub(super) async fn wait_for_timeout(&self, limits: ServeLimits) -> TimeoutReason {
        loop {
            let (due, reason) = self.next_timeout(limits);
            let now = Instant::now();
            if due <= now {
                return reason;
            }
            // A request that starts during the sleep may time out earlier.
            sleep_until(due.min(now + limits.stall.min(limits.header))).await;
        }
    }

    /// Returns the time at which the connection times out if nothing changes, and the reason.
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
        if in_flight.responses.is_empty() {
            in_flight.slot.wait();
        }
        in_flight.idle_since = Instant::now();
    }
}

/// A response body that records when the client does not take it. hyper polls it once the connection has room for more.
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
