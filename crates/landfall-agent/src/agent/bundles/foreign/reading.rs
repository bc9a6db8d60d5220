//! The one pass through a file of another format.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use landfall_core::bundle::document::{BundleDocument, BundledImage, Companion};
use landfall_core::failure::error_chain;
use landfall_core::oci_types::parse_manifest;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_oci::archive::stream::{ArchiveStream, Staging, StreamError, load_intact};
use landfall_oci::archive::{ArchiveError, ArchiveImage};
use landfall_oci::image::ImageSource;
use tokio::time::Instant;

use super::{ForeignContent, ForeignState, describe, mk_image};
use crate::agent::bundles::scan::ForeignSighting;
use crate::agent::host::Host;
use crate::failure::find_hint;

/// Companions of one image that are looked for.
const COMPANIONS_MAX: usize = 1000;

/// Reads a file in one pass. Its blobs are in the content store then, and nothing names them. Returns the content, or the
/// state of a file that cannot be used.
pub(in crate::agent::bundles) async fn read_file(
    host: &Host,
    sighting: &ForeignSighting,
) -> Result<ForeignContent, ForeignState> {
    let begun = Instant::now();
    let progress = Counted {
        next: &*host.meter,
        bytes: AtomicU64::new(0),
    };
    let path = sighting.path.clone();
    let (stream, hash) = blocking(move || ArchiveStream::open(&path)).await?;
    let loaded = load_intact(stream, &Staging::in_store(&host.store), &progress).await;
    host.metrics.adopted.inc_by(progress.bytes.into_inner());
    let images = loaded.map_err(|error| state_of(&error))?;
    let id = blocking(move || hash.finish()).await?;
    let again = sighting.clone();
    let has_changed = tokio::task::spawn_blocking(move || again.has_changed()).await;
    if has_changed.unwrap_or(true) {
        let text = "it changed while it was read: it may still be copied";
        return Err(ForeignState::Incomplete((text.to_owned(), None)));
    }
    let (source, document) = describe_images(&images).await?;
    Ok(ForeignContent {
        id,
        document,
        size: sighting.size,
        stamp: sighting.stamp.clone(),
        signature: sighting.signature.clone(),
        source: Some(source),
        took: Some(begun.elapsed()),
    })
}

/// Returns the source of all images, and the document that describes them.
pub(super) async fn describe_images(
    images: &[ArchiveImage],
) -> Result<(Arc<dyn ImageSource>, BundleDocument), ForeignState> {
    // Each image of the file gives access to every manifest in it.
    let source = images.first().map(|image| image.source.clone());
    let source = source.ok_or(ForeignState::Other)?;
    let document = describe(name_images(images).await);
    if document.images.is_empty() {
        return Err(ForeignState::Failed((
            "none of its images has a full name".to_owned(),
            Some("write it again with full names, as `skopeo copy SOURCE oci-archive:FILE:NAME` does".to_owned()),
        )));
    }
    Ok((source, document))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ArchiveError> + Send + 'static,
) -> Result<T, ForeignState> {
    let postponed = |text: String| ForeignState::Postponed((text, None));
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| state_of(&StreamError::from(error))),
        Err(error) => Err(postponed(error.to_string())),
    }
}

/// Returns the state of a file that was not read to its end.
fn state_of(error: &StreamError) -> ForeignState {
    let text = error_chain(error);
    let hint = find_hint(error).map(std::borrow::Cow::into_owned);
    let or = |otherwise: &str| Some(hint.clone().unwrap_or_else(|| otherwise.to_owned()));
    match error {
        StreamError::Archive(error) if error.is_other_file() => ForeignState::Other,
        StreamError::Archive(error) if error.is_cut_short() => ForeignState::Incomplete((
            text,
            or("wait until the copy is finished, or copy it again from where it was made"),
        )),
        StreamError::Archive(_) => ForeignState::Failed((text, or("copy it again from where it was made"))),
        StreamError::Transfer(_) => ForeignState::Postponed((text, hint)),
    }
}

/// Returns the images under their full names. Of two images with one name, the first counts.
async fn name_images(images: &[ArchiveImage]) -> Vec<BundledImage> {
    let mut named: BTreeMap<ImageReference, BundledImage> = BTreeMap::new();
    for image in images {
        let root = &image.root;
        let companions = find_companions(&*image.source, &root.digest).await;
        for name in image
            .names
            .iter()
            .filter_map(|name| name.parse::<ImageReference>().ok())
        {
            let name = name.canonical();
            let described = mk_image(name.clone(), root.digest.clone(), root.media_type.clone(), root.size);
            named.entry(name).or_insert_with(|| BundledImage {
                companions: companions.clone(),
                ..described
            });
        }
    }
    named.into_values().collect()
}

/// Finds what refers to an image, to an entry of its index, or to such a referrer. What cannot be read is left out: the copy
/// of the image tells about it.
async fn find_companions(source: &dyn ImageSource, root: &Digest) -> Vec<Companion> {
    let mut found: Vec<Companion> = Vec::new();
    let mut pending = vec![root.clone()];
    let mut seen: HashSet<Digest> = HashSet::new();
    while let Some(subject) = pending.pop() {
        if !seen.insert(subject.clone()) || found.len() > COMPANIONS_MAX {
            continue;
        }
        let Ok(manifest) = source.fetch_manifest(subject.as_str()).await else {
            continue;
        };
        if let Ok(content) = parse_manifest(&manifest.bytes) {
            let entries = content
                .children()
                .filter(|child| content.role_of(child).may_be_manifest());
            pending.extend(entries.map(|entry| entry.digest.clone()));
        }
        for referrer in source.find_referrers(&subject).await.unwrap_or_default() {
            let Ok(manifest) = source.fetch_manifest(&referrer.selector).await else {
                continue;
            };
            pending.push(manifest.digest.clone());
            found.push(Companion {
                size: manifest.bytes.len() as u64,
                media_type: manifest.media_type,
                digest: manifest.digest,
                subject: subject.clone(),
                tag: referrer.tag,
            });
        }
    }
    found
}

/// Counts the bytes that are copied.
#[derive(Debug)]
struct Counted<'a> {
    next: &'a dyn ProgressSink,
    bytes: AtomicU64,
}

impl ProgressSink for Counted<'_> {
    fn progress(&self, event: ProgressEvent) {
        if let ProgressEvent::BlobAdvanced { bytes, .. } = &event {
            self.bytes.fetch_add(*bytes, Ordering::Relaxed);
        }
        self.next.progress(event);
    }
}
