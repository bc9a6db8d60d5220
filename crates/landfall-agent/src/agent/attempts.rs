//! Trying again what may work the next time: bounded, with a growing, jittered delay.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::failure::RetryPolicy;
use landfall_core::status::{ProgressEvent, ProgressSink};

/// Tries until it works or the attempts are used up; the last error is the result.
///
/// # Errors
///
/// The error of the last attempt.
pub(crate) async fn with_attempts<T, E: fmt::Display, F: Future<Output = Result<T, E>>>(
    policy: &RetryPolicy,
    progress: &dyn ProgressSink,
    subject: &str,
    attempt: impl Fn() -> F,
) -> Result<T, E> {
    let mut failed = 0;
    loop {
        let error = match attempt().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failed += 1;
        if failed >= policy.attempts {
            return Err(error);
        }
        let delay = policy.delay(failed, jitter());
        tracing::warn!(
            subject,
            attempt = failed,
            error = format!("{error:#}"),
            ?delay,
            "failed; trying again"
        );
        progress.progress(ProgressEvent::Retrying {
            subject: subject.to_owned(),
            attempt: failed + 1,
            delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
            error: format!("{error:#}"),
        });
        tokio::time::sleep(delay).await;
    }
}

/// A number from 0 to 1 that hosts do not share: the clock's nanoseconds are enough to keep them out of step.
pub(crate) fn jitter() -> f64 {
    f64::from(Timestamp::now().subsec_nanosecond().unsigned_abs()) / Duration::from_secs(1).as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use landfall_core::status::NoProgress;

    use super::*;

    async fn attempts_until(works_at: u32) -> (Result<u32, String>, u32) {
        let made = Cell::new(0);
        let result = with_attempts(
            &RetryPolicy {
                attempts: 3,
                ..RetryPolicy::default()
            },
            &NoProgress,
            "x",
            || {
                made.set(made.get() + 1);
                let number = made.get();
                std::future::ready(if number >= works_at {
                    Ok(number)
                } else {
                    Err(format!("attempt {number}"))
                })
            },
        )
        .await;
        (result, made.get())
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_with_the_first_that_works_or_the_last_allowed() {
        assert_eq!(attempts_until(1).await, (Ok(1), 1));
        assert_eq!(attempts_until(3).await, (Ok(3), 3));
        assert_eq!(attempts_until(9).await, (Err("attempt 3".to_owned()), 3));
    }
}
