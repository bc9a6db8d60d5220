//! Limits and choices that copies share.

use std::sync::Arc;

use landfall_core::failure::RetryPolicy;
use landfall_core::oci_types::Platform;
use tokio_util::sync::CancellationToken;

use super::bandwidth::BandwidthLimit;
use super::blob_locks::BlobLocks;
use super::in_flight::InFlightLimit;

/// The uploads to registries that are hashed on this machine, beside the registry's own verification
/// ([spec:primary.hash]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UploadHash {
    /// All of them.
    #[default]
    Always,
    /// Large blobs on their way from one registry to another are hashed only where the destination has not proven that
    /// it verifies uploads. A blob that the destination refuses is hashed in the next attempt, which shows the side
    /// that is at fault.
    WhereUnverified,
}

/// Options of copies. Clones share the limits and locks: make one value and clone it for each image, so that the limits
/// hold for all copies together.
#[derive(Debug, Clone)]
pub struct CopyOptions {
    /// Limit of the blobs in flight.
    pub in_flight: InFlightLimit,
    /// Locks and mount hints of blobs: images that share a blob move it once.
    pub blob_locks: BlobLocks,
    /// Limit of the bytes per second read from sources.
    pub bandwidth: Option<Arc<BandwidthLimit>>,
    /// The platforms to copy; empty for all.
    pub platforms: Arc<[Platform]>,
    /// True if referrers (signatures, attestations) are copied too.
    pub referrers: bool,
    /// Decides which uploads are hashed on the way.
    pub upload_hash: UploadHash,
    /// True if every blob is looked at, also of an image that the sink says to have.
    pub force: bool,
    pub retry: RetryPolicy,
    pub cancel: CancellationToken,
}

impl CopyOptions {
    /// Returns options with `concurrency` blobs in flight (see [`InFlightLimit::new`]), without a bandwidth limit, and
    /// with the default retries.
    #[must_use]
    pub fn new(concurrency: usize) -> CopyOptions {
        CopyOptions {
            in_flight: InFlightLimit::new(concurrency),
            blob_locks: BlobLocks::default(),
            bandwidth: None,
            platforms: Arc::default(),
            referrers: false,
            upload_hash: UploadHash::default(),
            force: false,
            retry: RetryPolicy::default(),
            cancel: CancellationToken::new(),
        }
    }
}
