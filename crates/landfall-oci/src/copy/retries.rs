//! Retries: carries out what [`landfall_core::failure`] decides.

use std::time::Duration;

use futures_util::future::BoxFuture;
use landfall_core::failure::{FailureKind, NextAction, next_action};
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_net::random::random_fraction;

use super::job::CopyJob;
use super::options::CopyOptions;
use crate::image::TransferError;

impl CopyOptions {
    /// Runs a step until it succeeds or its failure is final. `subject` is its name in the progress.
    ///
    /// # Errors
    /// The last failure, or that the work was cancelled.
    pub async fn retrying<'a, T>(
        &self,
        progress: &dyn ProgressSink,
        subject: &str,
        mut step: impl FnMut() -> BoxFuture<'a, Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        let mut failed = 0;
        loop {
            match self.unless_cancelled(subject, step()).await? {
                Ok(done) => return Ok(done),
                Err(error) => self.wait_to_retry(progress, subject, &mut failed, error).await?,
            }
        }
    }

    /// Counts a failure and waits before the next attempt. Returns the failure if it is final.
    pub(super) async fn wait_to_retry(
        &self,
        progress: &dyn ProgressSink,
        subject: &str,
        failed: &mut u32,
        error: TransferError,
    ) -> Result<(), TransferError> {
        *failed += 1;
        let NextAction::Retry { delay } = next_action(error.kind, *failed, &self.retry, random_fraction()) else {
            return Err(error);
        };
        if self.cancel.is_cancelled() {
            return Err(cancelled(subject));
        }
        progress.progress(ProgressEvent::Retrying {
            subject: subject.to_owned(),
            attempt: *failed + 1,
            delay_ms: whole_milliseconds(delay),
            error: error.chain(),
        });
        self.unless_cancelled(subject, tokio::time::sleep(delay)).await
    }

    /// Runs a step unless the work is cancelled first.
    pub(super) async fn unless_cancelled<T>(
        &self,
        subject: &str,
        step: impl Future<Output = T>,
    ) -> Result<T, TransferError> {
        let ended = self.cancel.run_until_cancelled(step).await;
        ended.ok_or_else(|| cancelled(subject))
    }
}

impl CopyJob<'_> {
    pub(super) async fn retrying<'a, T>(
        &self,
        subject: &str,
        step: impl FnMut() -> BoxFuture<'a, Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        self.options.retrying(self.progress, subject, step).await
    }

    pub(super) async fn wait_to_retry(
        &self,
        subject: &str,
        failed: &mut u32,
        error: TransferError,
    ) -> Result<(), TransferError> {
        self.options.wait_to_retry(self.progress, subject, failed, error).await
    }

    pub(super) async fn unless_cancelled<T>(&self, step: impl Future<Output = T>) -> Result<T, TransferError> {
        self.options.unless_cancelled(&self.image, step).await
    }
}

/// Returns the error of cancelled work.
pub(super) fn cancelled(subject: &str) -> TransferError {
    TransferError {
        attempt: format!("copying `{subject}` was stopped on request"),
        kind: FailureKind::Stopped,
        source: None,
    }
}

fn whole_milliseconds(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}
