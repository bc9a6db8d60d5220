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
pub(super) struct ConnectionWatch(Arc<Mutex<UnderWay>>);

#[derive(Debug)]
struct UnderWay {
    /// By number: since when a client that was given a piece of its answer has not taken it; `None` while it waits for us.
    answers: HashMap<u64, Option<Instant>>,
    next: u64,
    /// When the last answer ended.
    quiet_since: Instant,
}

/// Why a connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outstayed {
    /// Nothing was asked for a while.
    Idle,
    /// An answer is not taken.
    Stalled,
}

impl ConnectionWatch {
    pub(super) fn new() -> ConnectionWatch {
        ConnectionWatch(Arc::new(Mutex::new(UnderWay {
            answers: HashMap::new(),
            next: 0,
            quiet_since: Instant::now(),
        })))
    }

    /// Notes a request; it is under way until the value is dropped.
    pub(super) fn begin(&self) -> Answer {
        let mut under_way = self.lock();
        let number = under_way.next;
        under_way.next += 1;
        under_way.answers.insert(number, None);
        Answer {
            watch: self.clone(),
            number,
        }
    }

    /// Waits until the connection is of no more use.
    pub(super) async fn outstayed(&self, limits: ServeLimits) -> Outstayed {
        loop {
            let (due, why) = self.next_due(limits);
            let now = Instant::now();
            if due <= now {
                return why;
            }
            // What begins meanwhile may be due before.
            sleep_until(due.min(now + limits.stall.min(limits.header))).await;
        }
    }

    /// When the connection will be of no more use, if nothing changes.
    fn next_due(&self, limits: ServeLimits) -> (Instant, Outstayed) {
        let under_way = self.lock();
        if under_way.answers.is_empty() {
            return (under_way.quiet_since + limits.header, Outstayed::Idle);
        }
        let oldest = under_way.answers.values().flatten().min();
        let since = oldest.copied().unwrap_or_else(Instant::now);
        (since + limits.stall, Outstayed::Stalled)
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        lock(&self.0)
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Answer {
    watch: ConnectionWatch,
    number: u64,
}

impl Answer {
    fn waits_for_client(&self, since: Option<Instant>) {
        self.watch.lock().answers.insert(self.number, since);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let mut under_way = self.watch.lock();
        under_way.answers.remove(&self.number);
        under_way.quiet_since = Instant::now();
    }
}

/// An answer's body that tells when the client does not take it: it is polled once there is room for more.
#[derive(Debug)]
pub(super) struct WatchedBody {
    body: Body,
    answer: Answer,
}

impl WatchedBody {
    pub(super) fn new(body: Body, answer: Answer) -> WatchedBody {
        WatchedBody { body, answer }
    }
}

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let WatchedBody { body, answer } = self.get_mut();
        let poll = Pin::new(body).poll_frame(context);
        answer.waits_for_client(match &poll {
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
