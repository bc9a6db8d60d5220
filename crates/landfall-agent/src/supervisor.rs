//! The only place that spawns tasks. Every task has a name, a span and the shutdown token. A task that ends unasked
//! ends the process, so that systemd restarts the whole agent instead of leaving half of it.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::failure::error_line;

/// Spawns tasks and observes their ends. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Supervisor {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    failures: mpsc::Sender<anyhow::Error>,
}

/// The receiver of failures: tasks that ended unexpectedly.
#[derive(Debug)]
pub struct Failures(mpsc::Receiver<anyhow::Error>);

impl Supervisor {
    /// Returns a supervisor whose tasks end when `shutdown` is cancelled.
    #[must_use]
    pub fn new(shutdown: CancellationToken) -> (Supervisor, Failures) {
        let (failures, receiver) = mpsc::channel(1);
        (
            Supervisor {
                tracker: TaskTracker::new(),
                shutdown,
                failures,
            },
            Failures(receiver),
        )
    }

    /// Spawns a task that lives as long as the process. The task gets a token that is cancelled at shutdown. If it ends
    /// before that, with or without an error, the process ends.
    pub fn supervise<F, Fut>(&self, name: &'static str, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.supervise_until(name, self.shutdown.child_token(), task);
    }

    /// Spawns a task as [`Supervisor::supervise`] does, but the caller may end it earlier through its own token: for
    /// example, a listener that a configuration change moves.
    pub fn supervise_until<F, Fut>(&self, name: &'static str, stop: CancellationToken, task: F)
    where
        F: FnOnce(CancellationToken) -> Fut,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let work = task(stop.clone());
        let failures = self.failures.clone();
        let span = tracing::info_span!("task", name);
        let watched = async move {
            // Unwind safety: no state of a task that panicked is used again, except behind locks that accept a poisoned
            // state.
            let end = AssertUnwindSafe(work).catch_unwind().await;
            let end = end.unwrap_or_else(|panic| Err(anyhow!("it panicked: {}", panic_text(&*panic))));
            if stop.is_cancelled() {
                if let Err(error) = end {
                    tracing::debug!(error = error_line(&error), "task failed while it was being stopped");
                }
                return;
            }
            let error = match end {
                Ok(()) => anyhow!("task `{name}` ended unexpectedly"),
                Err(error) => error.context(format!("task `{name}` failed")),
            };
            // If the channel is full, an earlier failure is ending the process already.
            let _ = failures.try_send(error);
        };
        drop(self.tracker.spawn(watched.instrument(span)));
    }

    /// Returns a token that is cancelled at shutdown.
    #[must_use]
    pub fn child_token(&self) -> CancellationToken {
        self.shutdown.child_token()
    }

    /// Waits until every task has ended, or until the time limit. Returns true if all have ended.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.tracker.close();
        let drained = tokio::time::timeout(deadline, self.tracker.wait()).await.is_ok();
        if drained {
            tracing::info!("drained");
        } else {
            tracing::warn!(tasks = self.tracker.len(), "gave up after {} s", deadline.as_secs());
        }
        drained
    }
}

/// Returns the message of a panic: a literal or a formatted text, hardly ever anything else.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no text")
}

impl Failures {
    /// Waits for the first task that ends unexpectedly. Never returns as long as all tasks run.
    pub async fn first(&mut self) -> anyhow::Error {
        match self.0.recv().await {
            Some(error) => error,
            // All senders are dropped: no task is left that could fail.
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn task_that_ends_unasked_is_reported_by_name() {
        let (supervisor, mut failures) = Supervisor::new(CancellationToken::new());
        supervisor.supervise("listener", |_stop| async { Ok(()) });
        assert_eq!(failures.first().await.to_string(), "task `listener` ended unexpectedly");
    }

    #[tokio::test]
    async fn failing_task_is_reported_with_its_cause() {
        let (supervisor, mut failures) = Supervisor::new(CancellationToken::new());
        supervisor.supervise("listener", |_stop| async { Err(anyhow!("socket closed")) });
        assert_eq!(
            format!("{:#}", failures.first().await),
            "task `listener` failed: socket closed"
        );
    }

    #[tokio::test]
    async fn panicking_task_is_reported_like_a_failing_one() {
        let (supervisor, mut failures) = Supervisor::new(CancellationToken::new());
        supervisor.supervise("listener", |_stop| async { panic!("index {} is out of bounds", 3) });
        assert_eq!(
            format!("{:#}", failures.first().await),
            "task `listener` failed: it panicked: index 3 is out of bounds"
        );
    }

    #[tokio::test]
    async fn tasks_that_end_on_request_are_drained() {
        let shutdown = CancellationToken::new();
        let (supervisor, _failures) = Supervisor::new(shutdown.clone());
        supervisor.supervise("listener", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        shutdown.cancel();
        assert!(supervisor.drain(Duration::from_secs(5)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn task_that_does_not_end_is_given_up_after_the_deadline() {
        let shutdown = CancellationToken::new();
        let (supervisor, _failures) = Supervisor::new(shutdown.clone());
        supervisor.supervise("stuck", |_stop| async {
            std::future::pending::<()>().await;
            Ok(())
        });
        shutdown.cancel();
        assert!(!supervisor.drain(Duration::from_secs(5)).await);
    }
}
