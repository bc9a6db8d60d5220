//! Signals: the first SIGTERM or SIGINT starts a graceful shutdown, the second ends the program at once. SIGHUP makes a
//! service read its files again.

use std::future::Future;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs long work. The first signal cancels `shutdown` and waits for the work to end; the second abandons it.
///
/// # Errors
/// The error of the work; an error if signals cannot be received, or if a second signal came.
pub(crate) async fn run_until_signalled<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    shutdown: &CancellationToken,
) -> anyhow::Result<T> {
    let mut signals = Signals::listen()?;
    let mut work = Box::pin(work);
    tokio::select! {
        ended = &mut work => return ended,
        () = signals.next() => shutdown.cancel(),
    }
    tokio::select! {
        ended = &mut work => ended,
        () = signals.next() => bail!("a second signal came before the graceful shutdown was complete"),
    }
}

/// Runs a service as [`run_until_signalled`] runs work. Each SIGHUP calls `reload`.
///
/// # Errors
/// As [`run_until_signalled`].
pub(crate) async fn run_service<T>(
    work: impl Future<Output = anyhow::Result<T>>,
    shutdown: &CancellationToken,
    reload: impl Fn(),
) -> anyhow::Result<T> {
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for signals")?;
    let served = async {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                ended = &mut work => return ended,
                Some(()) = hangups.recv() => reload(),
            }
        }
    };
    run_until_signalled(served, shutdown).await
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Signals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
