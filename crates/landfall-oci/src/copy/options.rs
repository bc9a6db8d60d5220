//! Limits and choices that copies share.

use std::sync::Arc;

use landfall_core::failure::RetryPolicy;
use landfall_core::oci_types::Platform;
use tokio_util::sync::CancellationToken;

use super::bandwidth::BandwidthLimit;
use super::blob_locks::BlobLocks;
use super::transfers::Transfers;

/// What copies have in common. Clones share everything: make one and clone it for each image, and the limits hold for all
/// of them together.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// How many blobs are under way at once.
    pub transfers: Transfers,
    /// Who copies which blob right now, and where it is already, so that images that share one move it once.
    pub blob_locks: BlobLocks,
    /// How many bytes a second may be read from sources.
    pub bandwidth: Option<Arc<BandwidthLimit>>,
    /// The platforms that are copied; all of them when there is none here.
    pub platforms: Arc<[Platform]>,
    /// Whether signatures, attestations and the like are copied as well.
    pub referrers: bool,
    /// How often and how long to try again.
    pub retry: RetryPolicy,
    /// Stops the copy.
    pub cancel: CancellationToken,
}

impl CopyOptions {
    /// With so many blobs under way at once (see [`Transfers::new`]), no limit of bandwidth and the usual retries.
    #[must_use]
    pub fn new(concurrency: usize) -> CopyOptions {
        CopyOptions {
            transfers: Transfers::new(concurrency),
            blob_locks: BlobLocks::default(),
            bandwidth: None,
            platforms: Arc::default(),
            referrers: false,
            retry: RetryPolicy::default(),
            cancel: CancellationToken::new(),
        }
    }
}
