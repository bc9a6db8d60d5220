//! Watches an upload from the side of its body: who has to move next, and for how long nothing did.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::time::{Instant, sleep_until};

use crate::client::Timeouts;
use crate::client::error::Fault;
use crate::client::problem::ConnectionProblem;
use crate::client::transport::stalled;
use crate::image::{BlobStream, TransferError};

/// Where an upload is. Time that is spent waiting for the source does not count as a stall of the registry: the source
/// has limits of its own.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// The source has to give bytes.
    Source,
    /// The registry has to take bytes, since then.
    Registry(Instant),
    /// The registry has all bytes and has to answer, since then.
    Answer(Instant),
}

/// Watches an upload from outside of its body.
#[derive(Clone)]
pub(super) struct Watch {
    shared: Arc<Mutex<(Turn, Option<TransferError>)>>,
}

impl Default for Watch {
    fn default() -> Watch {
        let begin = (Turn::Registry(Instant::now()), None);
        Watch {
            shared: Arc::new(Mutex::new(begin)),
        }
    }
}

impl Watch {
    fn set(&self, turn: Turn) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).0 = turn;
    }

    fn turn(&self) -> Turn {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn fail(&self, failure: TransferError) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(failure);
    }

    pub(super) fn take_failure(&self) -> Option<TransferError> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).1.take()
    }

    /// Ends when the registry has let us wait for too long.
    pub(super) async fn guard(&self, timeouts: &Timeouts) -> Fault {
        loop {
            let (deadline, fault): (_, fn(Duration) -> Fault) = match self.turn() {
                Turn::Source => (Instant::now() + timeouts.stall, stalled),
                Turn::Registry(since) => (since + timeouts.stall, stalled),
                Turn::Answer(since) => (since + timeouts.commit, no_answer),
            };
            if deadline <= Instant::now() {
                return fault(match self.turn() {
                    Turn::Answer(_) => timeouts.commit,
                    Turn::Source | Turn::Registry(_) => timeouts.stall,
                });
            }
            sleep_until(deadline).await;
        }
    }
}

fn no_answer(limit: Duration) -> Fault {
    Fault::from(ConnectionProblem::AnswerTimeout(limit))
}

/// The body of an upload: tells the watch whose turn it is, and keeps the source's failure, which the HTTP client would
/// wrap beyond recognition.
pub(super) struct WatchedStream {
    inner: BlobStream,
    left: u64,
    watch: Watch,
}

impl WatchedStream {
    /// A body of so many bytes.
    pub(super) fn new(inner: BlobStream, length: u64, watch: Watch) -> WatchedStream {
        WatchedStream {
            inner,
            left: length,
            watch,
        }
    }
}

impl Stream for WatchedStream {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.inner.as_mut().poll_next(cx) {
            Poll::Pending => {
                self.watch.set(Turn::Source);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(chunk))) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                let now = Instant::now();
                // The HTTP client may not ask again once it has as many bytes as it announced.
                self.watch.set(if self.left == 0 {
                    Turn::Answer(now)
                } else {
                    Turn::Registry(now)
                });
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(failure))) => {
                self.watch.fail(failure);
                Poll::Ready(Some(Err(std::io::Error::other("the source failed"))))
            }
            Poll::Ready(None) => {
                self.watch.set(Turn::Answer(Instant::now()));
                Poll::Ready(None)
            }
        }
    }
}
