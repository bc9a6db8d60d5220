//! Progress of the transfers: counted for the status and the metrics, and passed on to the next sink.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use landfall_core::status::{ProgressEvent, ProgressSink, TransferStatus, TransferTally};
use landfall_core::sync::lock;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::status::StatusStore;

/// The interval at which the progress is written to the status.
const TICK: Duration = Duration::from_millis(500);

/// The weight of the last tick in the shown rate. The rate shown before has the rest.
const SMOOTHING: f64 = 0.2;

/// A sink that counts progress and passes it on.
#[derive(Debug)]
pub struct Meter {
    next: Arc<dyn ProgressSink>,
    metrics: Metrics,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    /// Bytes that crossed the network in this run.
    crossed: u64,
    /// The bytes to transfer in this phase, blobs that have not been started included.
    tally: TransferTally,
}

impl Meter {
    /// Returns a meter in front of another sink.
    #[must_use]
    pub fn new(next: Arc<dyn ProgressSink>, metrics: Metrics) -> Meter {
        Meter {
            next,
            metrics,
            counts: Mutex::default(),
        }
    }

    fn counted(&self) -> (u64, u64) {
        let counts = lock(&self.counts);
        (counts.crossed, counts.tally.total() - counts.tally.done())
    }

    /// Keeps the transfer totals of the status up to date until `stop` is cancelled.
    pub async fn report(self: Arc<Self>, status: StatusStore, stop: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = (Instant::now(), 0);
        let mut shown = TransferStatus::default();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let (crossed, remaining) = self.counted();
            let now = Instant::now();
            let next = next_totals(shown, crossed - last.1, now - last.0, crossed, remaining);
            last = (now, crossed);
            if next != shown {
                shown = next;
                status.update(|status| status.transfer = next);
            }
        }
    }
}

impl ProgressSink for Meter {
    fn progress(&self, event: ProgressEvent) {
        {
            let mut counts = lock(&self.counts);
            counts.tally.note(&event);
            match &event {
                ProgressEvent::BlobAdvanced { bytes, .. } => {
                    counts.crossed += bytes;
                    self.metrics.transferred.inc_by(*bytes);
                }
                ProgressEvent::Retrying {
                    subject,
                    attempt,
                    delay_ms,
                    error,
                } => {
                    self.metrics.retries.inc();
                    tracing::warn!(subject, attempt, delay_ms, error, "failed; trying again");
                }
                // Blobs that an earlier phase could not transfer are not in progress any more.
                ProgressEvent::Phase { .. } => counts.tally = TransferTally::default(),
                ProgressEvent::BlobPlanned { .. }
                | ProgressEvent::BlobStarted { .. }
                | ProgressEvent::BlobFinished { .. }
                | ProgressEvent::BlobSkipped { .. }
                | ProgressEvent::ImageFinished { .. }
                | ProgressEvent::ImageFailed { .. } => {}
            }
        }
        self.next.progress(event);
    }
}

/// Returns the totals to show after a tick in which `bytes` crossed the network.
#[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
fn next_totals(shown: TransferStatus, bytes: u64, tick: Duration, crossed: u64, remaining: u64) -> TransferStatus {
    if remaining == 0 && bytes == 0 {
        return TransferStatus {
            bytes_done: crossed,
            bytes_total: crossed,
            rate: 0.0,
            eta_seconds: None,
        };
    }
    let current = bytes as f64 / tick.as_secs_f64().max(f64::EPSILON);
    let rate = if shown.rate == 0.0 {
        current
    } else {
        shown.rate + SMOOTHING * (current - shown.rate)
    };
    TransferStatus {
        bytes_done: crossed,
        bytes_total: crossed + remaining,
        rate,
        eta_seconds: (rate >= 1.0).then(|| remaining as f64 / rate),
    }
}

#[cfg(test)]
mod tests {
    use landfall_core::status::NoProgress;

    use super::*;

    #[test]
    fn first_tick_shows_its_own_rate_and_the_time_to_go() {
        let totals = next_totals(TransferStatus::default(), 500, Duration::from_millis(500), 500, 2_000);
        let wanted = TransferStatus {
            bytes_done: 500,
            bytes_total: 2_500,
            rate: 1_000.0,
            eta_seconds: Some(2.0),
        };
        assert_eq!(totals, wanted);
    }

    #[test]
    fn rate_is_smoothed_and_falls_to_zero_when_nothing_is_left() {
        let shown = TransferStatus {
            rate: 1_000.0,
            ..TransferStatus::default()
        };
        let slow = next_totals(shown, 0, Duration::from_secs(1), 0, 800);
        assert_eq!((slow.rate, slow.eta_seconds), (800.0, Some(1.0)));
        assert_eq!(next_totals(slow, 0, Duration::from_secs(1), 900, 0).rate, 0.0);
    }

    #[test]
    fn resumed_blob_counts_only_what_is_still_to_come() {
        let meter = Meter::new(Arc::new(NoProgress), Metrics::new());
        let digest = "sha256:a".to_owned();
        meter.progress(ProgressEvent::BlobStarted {
            image: "a".into(),
            digest: digest.clone(),
            size: 100,
            offset: 60,
        });
        meter.progress(ProgressEvent::BlobAdvanced {
            digest: digest.clone(),
            bytes: 10,
        });
        assert_eq!(meter.counted(), (10, 30));
        meter.progress(ProgressEvent::BlobFinished { digest });
        assert_eq!(meter.counted(), (10, 0));
    }

    #[test]
    fn what_nobody_has_begun_with_counts_as_soon_as_it_is_known_until_the_next_phase() {
        let meter = Meter::new(Arc::new(NoProgress), Metrics::new());
        for (digest, size) in [("sha256:a", 100), ("sha256:b", 20), ("sha256:a", 100)] {
            let digest = digest.to_owned();
            meter.progress(ProgressEvent::BlobPlanned { digest, size });
        }
        assert_eq!(meter.counted(), (0, 120));
        let phase = landfall_core::status::Phase::Images;
        meter.progress(ProgressEvent::Phase { phase });
        assert_eq!(meter.counted(), (0, 0));
    }
}
