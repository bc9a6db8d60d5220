//! Asks a registry for an image: one HEAD request and, if platforms are required, the manifests that name them.

use futures_util::StreamExt;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, ManifestContent, ManifestError, Platform, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};
use landfall_oci::client::{MANIFEST_SIZE_MAX, RegistryClient};
use landfall_oci::image::TransferError;

/// Indexes that are read for one image, at most.
const INDEXES_MAX: usize = 100;

/// An image as a registry has it.
pub(super) struct FoundImage {
    /// Digest from the answer to HEAD.
    pub(super) digest: Digest,
    /// Required platforms that the image lacks.
    pub(super) missing: Vec<Platform>,
}

/// Asks a registry for an image and its platforms.
///
/// # Errors
/// [`FailureKind::NotFound`] if the registry does not have the image; another kind if it cannot be asked.
pub(super) async fn query_image(
    client: &RegistryClient,
    reference: &ImageReference,
    platforms: &[Platform],
) -> Result<FoundImage, TransferError> {
    let head = client
        .head_manifest(&reference.repository, reference.manifest_selector())
        .await?;
    let Some(head) = head else {
        return Err(TransferError {
            attempt: format!("`{reference}` is not there"),
            kind: FailureKind::NotFound,
            source: None,
        });
    };
    let mut missing = Vec::new();
    if !platforms.is_empty() {
        let offered = offered_platforms(client, reference, &head).await?;
        let lacks = |wanted: &&Platform| !offered.iter().any(|offered| wanted.accepts(offered));
        missing.extend(platforms.iter().filter(lacks).cloned());
    }
    Ok(FoundImage {
        digest: head.digest,
        missing,
    })
}

/// Returns the platforms of an image. A platform of an index counts only if its manifest is there: an index may have
/// been copied without all of its children.
async fn offered_platforms(
    client: &RegistryClient,
    reference: &ImageReference,
    head: &Descriptor,
) -> Result<Vec<Platform>, TransferError> {
    let repository = &reference.repository;
    let unreadable = |error: ManifestError| TransferError {
        attempt: format!("cannot read the manifest of `{reference}`"),
        kind: FailureKind::Protocol,
        source: Some(Box::new(error)),
    };
    let mut offered = Vec::new();
    let mut indexes = vec![head.digest.clone()];
    // An index may name indexes; a malicious one could do so without end.
    for _ in 0..INDEXES_MAX {
        let Some(digest) = indexes.pop() else { break };
        let manifest = client.fetch_manifest(repository, digest.as_str()).await?;
        let index = match parse_manifest(&manifest.bytes).map_err(unreadable)? {
            ManifestContent::Index(index) => index,
            ManifestContent::Image(image) => return image_platform(client, reference, &image.config).await,
        };
        for entry in index.manifests {
            if client.head_manifest(repository, entry.digest.as_str()).await?.is_none() {
                continue;
            }
            if entry.is_index() {
                indexes.push(entry.digest);
            } else {
                offered.extend(entry.platform);
            }
        }
    }
    Ok(offered)
}

/// Returns the platform in the image's configuration. Artifacts have none.
async fn image_platform(
    client: &RegistryClient,
    reference: &ImageReference,
    config: &Descriptor,
) -> Result<Vec<Platform>, TransferError> {
    if config.size > MANIFEST_SIZE_MAX as u64 {
        return Ok(Vec::new());
    }
    let mut stream = client.open_blob(&reference.repository, config, 0).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(Platform::of_configuration(&bytes).into_iter().collect())
}
