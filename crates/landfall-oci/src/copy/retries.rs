//! Trying again: carries out what [`landfall_core::retry`] decides.

use std::time::Duration;

use aws_lc_rs::rand;
use futures_util::future::BoxFuture;
use landfall_core::retry::{Action, next_action};
use landfall_core::status::ProgressEvent;

use super::Job;
use crate::image::TransferError;

impl Job<'_> {
    /// Carries out a step until it succeeds or the failure is final.
    pub(super) async fn retrying<'a, T>(
        &self,
        subject: &str,
        mut step: impl FnMut() -> BoxFuture<'a, Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        let mut failed = 0;
        loop {
            match self.unless_stopped(step()).await? {
                Ok(done) => return Ok(done),
                Err(error) => self.wait_to_retry(subject, &mut failed, error).await?,
            }
        }
    }

    /// Counts a failure and waits as long as it takes; gives the failure back when it is final.
    pub(super) async fn wait_to_retry(
        &self,
        subject: &str,
        failed: &mut u32,
        error: TransferError,
    ) -> Result<(), TransferError> {
        *failed += 1;
        let Action::Retry { delay } = next_action(error.kind, *failed, &self.options.retry, draw_jitter()) else {
            return Err(error);
        };
        if self.options.cancel.is_cancelled() {
            return Err(self.stopped());
        }
        self.progress.progress(ProgressEvent::Retrying {
            subject: subject.to_owned(),
            attempt: *failed + 1,
            delay_ms: whole_milliseconds(delay),
            error: error.chain(),
        });
        self.unless_stopped(tokio::time::sleep(delay)).await
    }
}

fn whole_milliseconds(delay: Duration) -> u64 {
    u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)
}

/// A number from 0 to 1. Without randomness, which cannot be, there is no jitter.
fn draw_jitter() -> f64 {
    let mut bytes = [0; 4];
    match rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.0,
    }
}
