//! Asks a registry or a bundle for an image: if platforms are required, also for the manifests that name them.

use futures_util::StreamExt;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, ManifestContent, ManifestError, Platform, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};
use landfall_oci::client::{MANIFEST_SIZE_MAX, RegistryClient, RegistrySource};
use landfall_oci::image::{ImageSource, TransferError};

/// Indexes that are read for one image, at most.
const INDEXES_MAX: usize = 100;

/// An image as a registry or a bundle has it.
pub(super) struct FoundImage {
    /// Digest of the top manifest.
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
    let place = Place::Registry(RegistrySource {
        client: client.clone(),
        repository: reference.repository.clone(),
    });
    place.find_platforms(head.digest, platforms).await
}

/// Looks for the platforms of an image in a bundle.
///
/// # Errors
/// If a manifest cannot be read.
pub(super) async fn query_bundle(
    source: &dyn ImageSource,
    image: Digest,
    platforms: &[Platform],
) -> Result<FoundImage, TransferError> {
    Place::Bundle(source).find_platforms(image, platforms).await
}

/// Place that has an image.
enum Place<'a> {
    Registry(RegistrySource),
    Bundle(&'a dyn ImageSource),
}

impl Place<'_> {
    fn source(&self) -> &dyn ImageSource {
        match self {
            Place::Registry(source) => source,
            Place::Bundle(source) => *source,
        }
    }

    async fn has_manifest(&self, entry: &Descriptor) -> Result<bool, TransferError> {
        Ok(match self {
            Place::Registry(source) => {
                let head = source.client.head_manifest(&source.repository, entry.digest.as_str());
                head.await?.is_some()
            }
            Place::Bundle(source) => !source.lacks(entry),
        })
    }

    /// Finds the platforms of an image that is there.
    async fn find_platforms(&self, digest: Digest, platforms: &[Platform]) -> Result<FoundImage, TransferError> {
        let mut missing = Vec::new();
        if !platforms.is_empty() {
            let offered = self.offered_platforms(&digest).await?;
            let lacks = |wanted: &&Platform| !offered.iter().any(|offered| wanted.accepts(offered));
            missing.extend(platforms.iter().filter(lacks).cloned());
        }
        Ok(FoundImage { digest, missing })
    }

    /// Returns the platforms of an image. A platform of an index counts only if its manifest is there: an index may
    /// have been copied without all of its children.
    async fn offered_platforms(&self, image: &Digest) -> Result<Vec<Platform>, TransferError> {
        let source = self.source();
        let unreadable = |error: ManifestError| TransferError {
            attempt: format!("cannot read the manifest of `{image}` from {}", source.describe()),
            kind: FailureKind::Protocol,
            source: Some(Box::new(error)),
        };
        let mut offered = Vec::new();
        let mut indexes = vec![image.clone()];
        // An index may name indexes; a malicious one could do so without end.
        for _ in 0..INDEXES_MAX {
            let Some(digest) = indexes.pop() else { break };
            let manifest = source.fetch_manifest(digest.as_str()).await?;
            let index = match parse_manifest(&manifest.bytes).map_err(unreadable)? {
                ManifestContent::Index(index) => index,
                ManifestContent::Image(image) => return image_platform(source, &image.config).await,
            };
            for entry in index.manifests {
                if !self.has_manifest(&entry).await? {
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
}

/// Returns the platform in the image's configuration. Artifacts have none.
async fn image_platform(source: &dyn ImageSource, config: &Descriptor) -> Result<Vec<Platform>, TransferError> {
    if config.size > MANIFEST_SIZE_MAX as u64 {
        return Ok(Vec::new());
    }
    let mut stream = source.open_blob(config, 0).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(Platform::of_configuration(&bytes).into_iter().collect())
}
