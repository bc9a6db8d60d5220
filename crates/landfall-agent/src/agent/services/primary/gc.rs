//! Garbage collection in the content store and the embedded registry.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use landfall_core::jitter::spread;
use landfall_net::random::random_fraction;
use landfall_registry::{GRACE, Registry};
use tokio::time::Instant;

use crate::failure::error_line;

const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Deletes garbage once an hour.
#[derive(Debug)]
pub(crate) struct GarbageCollector {
    /// The time of the next collection.
    next: Instant,
}

impl GarbageCollector {
    pub(crate) fn new() -> GarbageCollector {
        GarbageCollector { next: next_time() }
    }

    /// Collects garbage if an hour has passed. A failure is logged and is no reason to stop: free space may become
    /// short, nothing else.
    pub(crate) async fn run_when_due(&mut self, registry: impl Future<Output = anyhow::Result<Arc<Registry>>>) {
        if Instant::now() < self.next {
            return;
        }
        self.next = next_time();
        let report = match registry.await {
            Ok(registry) => tokio::task::spawn_blocking(move || registry.gc(GRACE, SystemTime::now()))
                .await
                .map_err(anyhow::Error::from)
                .and_then(|report| Ok(report?)),
            Err(error) => Err(error),
        };
        match report {
            Ok(report) => tracing::info!(deleted = report.deleted, bytes = report.bytes, "garbage collected"),
            Err(error) => tracing::error!(error = error_line(&error), "garbage cannot be collected"),
        }
    }
}

fn next_time() -> Instant {
    Instant::now() + spread(INTERVAL, random_fraction())
}
