//! Stall detection for uploads. The request body reports which side has to act next, and since when.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use landfall_core::sync::lock;
use landfall_net::stall::StallTimer;
use tokio::time::{Instant, sleep_until};

use crate::client::endpoint::Timeouts;
use crate::client::error::Fault;
use crate::client::error::stalled;
use crate::client::problem::ConnectionProblem;
use crate::image::{BlobStream, TransferError};

/// The side that has to act next. Time that the source takes is not a stall of the registry: the source has limits of
/// its own.
#[derive(Debug, Clone, Copy)]
enum WaitingFor {
    Source,
    /// The registry has to accept `bytes` bytes.
    Registry {
        since: Instant,
        bytes: usize,
    },
    /// The registry has all bytes and has to respond.
    Response {
        since: Instant,
    },
}

/// Observes an upload beside its body.
#[derive(Clone)]
pub(super) struct StallMonitor {
    shared: Arc<Mutex<StallState>>,
}

struct StallState {
    waiting_for: WaitingFor,
    stall_timer: StallTimer,
    failure: Option<TransferError>,
}

impl StallMonitor {
    pub(super) fn new(timeouts: &Timeouts) -> StallMonitor {
        let shared = StallState {
            waiting_for: WaitingFor::Registry {
                since: Instant::now(),
                bytes: 0,
            },
            stall_timer: timeouts.stall_timer(),
            failure: None,
        };
        StallMonitor {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    fn shared(&self) -> MutexGuard<'_, StallState> {
        lock(&self.shared)
    }

    fn set(&self, waiting_for: WaitingFor) {
        self.shared().waiting_for = waiting_for;
    }

    /// Records that the HTTP client asks for the next chunk: it has sent the previous one.
    fn registry_took_chunk(&self) {
        let mut shared = self.shared();
        if let WaitingFor::Registry { since, bytes } = shared.waiting_for {
            shared.stall_timer.add_wait(since.elapsed());
            shared.stall_timer.add_bytes(bytes);
            shared.waiting_for = WaitingFor::Source;
        }
    }

    pub(super) fn take_failure(&self) -> Option<TransferError> {
        self.shared().failure.take()
    }

    /// Returns when throughput stays too low for `stall`, or the registry sends no response within `response` after the
    /// last byte.
    pub(super) async fn run(&self, stall: Duration, response: Duration) -> Fault {
        loop {
            let (deadline, fault) = {
                let shared = self.shared();
                match shared.waiting_for {
                    WaitingFor::Source => (Instant::now() + stall, None),
                    WaitingFor::Registry { since, .. } => {
                        (since + shared.stall_timer.remaining(), Some(stalled(stall)))
                    }
                    WaitingFor::Response { since } => (since + response, Some(no_response(response))),
                }
            };
            match fault {
                Some(fault) if deadline <= Instant::now() => return fault,
                _ => sleep_until(deadline).await,
            }
        }
    }
}

fn no_response(limit: Duration) -> Fault {
    Fault::from(ConnectionProblem::ResponseTimeout(limit))
}

/// The body of an upload. It reports its state to the monitor, and keeps the source's failure: the HTTP client would
/// wrap that failure beyond recognition.
pub(super) struct MonitoredBody {
    inner: BlobStream,
    left: u64,
    monitor: StallMonitor,
}

impl MonitoredBody {
    /// Creates a body of `length` bytes.
    pub(super) fn new(inner: BlobStream, length: u64, monitor: StallMonitor) -> MonitoredBody {
        MonitoredBody {
            inner,
            left: length,
            monitor,
        }
    }
}

impl Stream for MonitoredBody {
    type Item = Result<Bytes, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.monitor.registry_took_chunk();
        match self.inner.as_mut().poll_next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(chunk))) => {
                self.left = self.left.saturating_sub(chunk.len() as u64);
                let since = Instant::now();
                // The HTTP client need not poll again once it has as many bytes as it announced.
                self.monitor.set(match self.left {
                    0 => WaitingFor::Response { since },
                    _ => WaitingFor::Registry {
                        since,
                        bytes: chunk.len(),
                    },
                });
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(failure))) => {
                self.monitor.shared().failure = Some(failure);
                Poll::Ready(Some(Err(std::io::Error::other("the source failed"))))
            }
            Poll::Ready(None) => {
                self.monitor.set(WaitingFor::Response { since: Instant::now() });
                Poll::Ready(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::future::{Either, select};
    use futures_util::{StreamExt, stream};

    use super::*;

    const STALL: Duration = Duration::from_secs(10);
    const RESPONSE: Duration = Duration::from_secs(60);

    /// Uploads `chunks` chunks of `chunk` bytes to a registry that accepts one per second. Returns the monitor's
    /// verdict.
    async fn upload(chunk: usize, chunks: usize, source_takes: Duration) -> Result<(), Fault> {
        let monitor = StallMonitor::new(&Timeouts {
            stall: STALL,
            min_throughput: 100,
            ..Timeouts::default()
        });
        let source = stream::iter(0..chunks).then(move |_| async move {
            tokio::time::sleep(source_takes).await;
            Ok(Bytes::from(vec![0; chunk]))
        });
        let length = (chunk * chunks) as u64;
        let mut body = MonitoredBody::new(Box::pin(source), length, monitor.clone());
        let taking = async {
            while body.next().await.is_some() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        match select(pin!(taking), pin!(monitor.run(STALL, RESPONSE))).await {
            Either::Left(((), _)) => Ok(()),
            Either::Right((fault, _)) => Err(fault),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_takes_less_than_the_limit_is_stalled_and_a_slow_one_is_not() {
        let begin = Instant::now();
        let stalled = upload(99, 1000, Duration::ZERO).await.unwrap_err();
        assert_eq!(
            stalled.to_string(),
            "the transfer stalled: almost no bytes moved for 10 s"
        );
        assert_eq!(begin.elapsed(), STALL);
        assert!(upload(101, 1000, Duration::ZERO).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_takes_its_time_is_no_stall_of_the_registry() {
        assert!(upload(99, 5, 3 * STALL).await.is_ok());
    }
}
