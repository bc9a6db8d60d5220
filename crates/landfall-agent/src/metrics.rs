//! Metrics for Prometheus. Values that the status has are taken from it at each scrape, so that the two never disagree.
//! The others are counted where they occur.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::status::{AgentStatus, Phase, ServingStatus};
use landfall_oci::store::disk_space::{DiskSpace, MinFreeSpace};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the webhook's latency buckets, in seconds.
const LATENCY_BUCKETS: [f64; 8] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0];

/// Every metric of the agent. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    phase: Family<PhaseLabel, Gauge>,
    images: Family<ImageLabel, Gauge>,
    certificates: Family<CertificateLabel, Gauge>,
    disk_free: Family<DiskLabel, Gauge>,
    disk_floor: Family<DiskLabel, Gauge>,
    /// Bytes that crossed the network.
    pub transferred: Counter,
    /// Retried transfers.
    pub retries: Counter,
    /// Admission reviews by answer.
    pub reviews: Family<ReviewLabel, Counter>,
    /// Images that the webhook rewrote.
    pub rewrites: Counter,
    /// Duration of a review in seconds.
    pub review_duration: Histogram,
    /// Writes of the webhook's registration, repairs included.
    pub registrations: Counter,
    /// Images of live pods that the sweeper changed.
    pub repaired: Counter,
    bundles: Family<BundleLabel, Gauge>,
    /// Bytes that were copied out of bundles into the content store.
    pub adopted: Counter,
    /// Bytes of bundles that clients uploaded.
    pub uploaded: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BundleLabel {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ImageLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabel {
    certificate: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiskLabel {
    disk: &'static str,
}

/// The disk with the state directory.
const STATE_DISK: DiskLabel = DiskLabel { disk: "state" };

/// The label of an admission review.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReviewLabel {
    pub answer: ReviewAnswer,
}

/// The answer to an admission review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum ReviewAnswer {
    Patched,
    /// In observe-only mode: the changes that a patch would have made.
    Observed,
    Unchanged,
    /// The request was not a valid review.
    Refused,
}

impl Metrics {
    /// Returns the metrics, all at zero.
    #[must_use]
    pub fn new() -> Metrics {
        let phase = Family::default();
        let images = Family::default();
        let certificates = Family::default();
        let (disk_free, disk_floor) = (Family::default(), Family::default());
        let transferred = Counter::<u64, AtomicU64>::default();
        let retries = Counter::<u64, AtomicU64>::default();
        let reviews = Family::default();
        let rewrites = Counter::<u64, AtomicU64>::default();
        let review_duration = Histogram::new(LATENCY_BUCKETS);
        let registrations = Counter::<u64, AtomicU64>::default();
        let repaired = Counter::<u64, AtomicU64>::default();
        let bundles = Family::default();
        let adopted = Counter::<u64, AtomicU64>::default();
        let uploaded = Counter::<u64, AtomicU64>::default();
        let mut registry = Registry::with_prefix("landfall");
        registry.register("phase", "1 for the phase that the agent is in", Family::clone(&phase));
        registry.register("images", "Images of the profiles, by state", Family::clone(&images));
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "Time at which a serving certificate expires, as Unix time",
            Unit::Seconds,
            Family::clone(&certificates),
        );
        registry.register_with_unit(
            "disk_free",
            "Free bytes of a disk",
            Unit::Bytes,
            Family::clone(&disk_free),
        );
        registry.register_with_unit(
            "disk_floor",
            "Free bytes of a disk below which no more images are stored",
            Unit::Bytes,
            Family::clone(&disk_floor),
        );
        registry.register_with_unit(
            "transferred",
            "Bytes that crossed the network",
            Unit::Bytes,
            Counter::clone(&transferred),
        );
        registry.register("retries", "Retries of transfers", Counter::clone(&retries));
        registry.register(
            "webhook_reviews",
            "Admission reviews, by answer",
            Family::clone(&reviews),
        );
        registry.register(
            "webhook_rewrites",
            "Images that the webhook rewrote",
            Counter::clone(&rewrites),
        );
        registry.register_with_unit(
            "webhook_review_duration",
            "Duration of an admission review",
            Unit::Seconds,
            Histogram::clone(&review_duration),
        );
        registry.register(
            "webhook_registrations",
            "Writes of the webhook's registration, including repairs",
            Counter::clone(&registrations),
        );
        registry.register(
            "webhook_mended",
            "Images of live pods that the sweeper changed",
            Counter::clone(&repaired),
        );
        registry.register("bundles", "Bundles of this host, by phase", Family::clone(&bundles));
        registry.register_with_unit(
            "bundles_adopted",
            "Bytes that were copied out of bundles into the content store",
            Unit::Bytes,
            Counter::clone(&adopted),
        );
        registry.register_with_unit(
            "bundles_uploaded",
            "Bytes of bundles that clients uploaded",
            Unit::Bytes,
            Counter::clone(&uploaded),
        );
        Metrics {
            registry: Arc::new(registry),
            phase,
            images,
            certificates,
            disk_free,
            disk_floor,
            transferred,
            retries,
            reviews,
            rewrites,
            review_duration,
            registrations,
            repaired,
            bundles,
            adopted,
            uploaded,
        }
    }

    /// Counts one review.
    pub fn count_review(&self, answer: ReviewAnswer, rewrites: usize, took: Duration) {
        self.reviews.get_or_create(&ReviewLabel { answer }).inc();
        self.rewrites.inc_by(rewrites as u64);
        self.review_duration.observe(took.as_secs_f64());
    }

    /// Records the size of the disk with the state directory.
    pub fn set_disk(&self, disk: DiskSpace) {
        let floor = MinFreeSpace::default().for_disk(disk.total);
        for (gauge, bytes) in [(&self.disk_free, disk.free), (&self.disk_floor, floor)] {
            gauge
                .get_or_create(&STATE_DISK)
                .set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
    }

    /// Renders every metric in the OpenMetrics text format.
    #[must_use]
    pub fn render(&self, status: &AgentStatus) -> String {
        self.take_over(status);
        let mut text = String::new();
        match text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => {
                tracing::error!(%error, "cannot render the metrics");
                String::new()
            }
        }
    }

    fn take_over(&self, status: &AgentStatus) {
        for phase in Phase::WORK.into_iter().chain([Phase::Running, Phase::Degraded]) {
            self.phase
                .get_or_create(&PhaseLabel { phase: phase.name() })
                .set(i64::from(phase == status.phase));
        }
        let count = |state, is: fn(&landfall_core::status::ImageStatus) -> bool| {
            let number = status.images.values().filter(|image| is(image)).count();
            self.images
                .get_or_create(&ImageLabel { state })
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        };
        count("planned", |_| true);
        count("stored", |image| image.stored);
        count("loaded", |image| image.loaded);
        count("in_primary", |image| image.in_primary);
        count("failed", |image| image.error.is_some());
        for phase in BundlePhase::ALL {
            let number = status.bundles.iter().filter(|bundle| bundle.phase == phase).count();
            self.bundles
                .get_or_create(&BundleLabel { phase: phase.name() })
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        let end_of = |serving: &Option<ServingStatus>| serving.as_ref().and_then(|serving| serving.certificate_expires);
        let authority = status.cluster.as_ref().and_then(|cluster| cluster.authority_expires);
        for (certificate, end) in [
            ("webhook", end_of(&status.webhook)),
            ("webhook-authority", authority),
            ("primary", end_of(&status.primary)),
            (
                "status-api",
                status.remote_api.as_ref().map(|api| api.certificate_expires),
            ),
        ] {
            if let Some(end) = end {
                self.certificates
                    .get_or_create(&CertificateLabel { certificate })
                    .set(end.as_second());
            }
        }
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn scrape_shows_what_the_status_says() {
        let metrics = Metrics::new();
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        status.phase = Phase::Running;
        status.images.entry("a".to_owned()).or_default().stored = true;
        status.webhook = Some(ServingStatus {
            url: "https://127.0.0.1:10280/mutate".to_owned(),
            ca_file: None,
            certificate_expires: Some(Timestamp::from_second(1_800_000_000).unwrap()),
        });
        status.cluster.get_or_insert_default().authority_expires = Some(Timestamp::from_second(2_000_000_000).unwrap());
        status.images.entry("b".to_owned()).or_default().error = Some("no".to_owned());
        metrics.transferred.inc_by(7);
        metrics.set_disk(DiskSpace { free: 700, total: 2000 });
        metrics.count_review(ReviewAnswer::Patched, 2, Duration::from_micros(300));
        let text = metrics.render(&status);
        let values: Vec<_> = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("bucket"))
            .collect();
        let mut values: Vec<_> = values.into_iter().filter(|line| !line.ends_with(" 0")).collect();
        values.sort_unstable();
        insta::assert_snapshot!(values.join("\n"), @r#"
        landfall_certificate_expiry_timestamp_seconds{certificate="webhook"} 1800000000
        landfall_certificate_expiry_timestamp_seconds{certificate="webhook-authority"} 2000000000
        landfall_disk_floor_bytes{disk="state"} 100
        landfall_disk_free_bytes{disk="state"} 700
        landfall_images{state="failed"} 1
        landfall_images{state="planned"} 2
        landfall_images{state="stored"} 1
        landfall_phase{phase="Running"} 1
        landfall_transferred_bytes_total 7
        landfall_webhook_review_duration_seconds_count 1
        landfall_webhook_review_duration_seconds_sum 0.0003
        landfall_webhook_reviews_total{answer="Patched"} 1
        landfall_webhook_rewrites_total 2
        "#);
    }
}
