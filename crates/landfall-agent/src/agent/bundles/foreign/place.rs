//! A plain archive of another program as a place that servers look into, while it is read into the content store
//! [spec:bundles.foreign].

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};
use landfall_oci::archive::open_layout_in_place;
use landfall_oci::content::read_only::ReadOnlyContent;
use landfall_oci::image::{BlobStream, ImageSource, TransferError};

use super::reading::describe_images;

/// Media type of content whose own one does not matter.
const ANY_CONTENT: &str = "application/octet-stream";

/// The images of an archive where they lie.
#[derive(Debug)]
pub(in crate::agent::bundles) struct ForeignPlace {
    path: Utf8PathBuf,
    images: Vec<(ImageReference, Digest)>,
    /// Sizes of manifests and blobs that the archive has.
    sizes: HashMap<Digest, u64>,
    source: Arc<dyn ImageSource>,
}

impl ForeignPlace {
    /// Opens an archive in place, if that takes no pass through all of it. One that cannot be opened is none: the pass
    /// through it tells why.
    pub(in crate::agent::bundles) async fn open(path: &Utf8Path, spool: &Utf8Path) -> Option<ForeignPlace> {
        let (archive, spool) = (path.to_owned(), spool.to_owned());
        let opened = tokio::task::spawn_blocking(move || open_layout_in_place(&archive, &spool)).await;
        let images = opened.ok()?.ok()??;
        let (source, document) = describe_images(&images).await.ok()?;
        let named = document.images.iter().flat_map(|image| {
            let companions = image.companions.iter().map(|companion| {
                let name = image.name.beside(companion.tag.as_ref(), &companion.digest);
                (name, companion.digest.clone())
            });
            std::iter::once((image.name.clone(), image.digest.clone())).chain(companions)
        });
        let images: Vec<_> = named.collect();
        Some(ForeignPlace {
            path: path.to_owned(),
            sizes: find_sizes(&*source, images.iter().map(|(_, digest)| digest.clone())).await,
            images,
            source,
        })
    }
}

/// Returns the sizes of all content below these manifests that the source has.
async fn find_sizes(source: &dyn ImageSource, roots: impl Iterator<Item = Digest>) -> HashMap<Digest, u64> {
    let mut sizes = HashMap::new();
    let (mut pending, mut seen): (Vec<Digest>, HashSet<Digest>) = (roots.collect(), HashSet::new());
    while let Some(digest) = pending.pop() {
        if !seen.insert(digest.clone()) {
            continue;
        }
        // An index names platforms that the archive may not have.
        let Ok(manifest) = source.fetch_manifest(digest.as_str()).await else {
            continue;
        };
        sizes.insert(digest, manifest.bytes.len() as u64);
        let Ok(content) = parse_manifest(&manifest.bytes) else {
            continue;
        };
        for child in content.children() {
            if content.role_of(child).may_be_manifest() {
                pending.push(child.digest.clone());
            } else if !sizes.contains_key(&child.digest) && source.open_blob(child, 0).await.is_ok() {
                sizes.insert(child.digest.clone(), child.size);
            }
        }
    }
    sizes
}

impl ReadOnlyContent for ForeignPlace {
    fn describe(&self) -> String {
        self.source.describe()
    }

    fn path(&self) -> Option<&Utf8Path> {
        Some(&self.path)
    }

    fn images(&self) -> Vec<(ImageReference, Digest)> {
        self.images.clone()
    }

    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.sizes.get(digest).copied()
    }

    fn open_blob<'a>(
        &'a self,
        digest: &'a Digest,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        async move {
            let size = self.blob_size(digest).ok_or_else(|| TransferError {
                attempt: format!("cannot read `{digest}` from {}", self.source.describe()),
                kind: FailureKind::NotFound,
                source: None,
            })?;
            let blob = Descriptor::new(ANY_CONTENT, digest.clone(), size);
            let content = self.source.open_blob(&blob, offset).await?;
            // The source reads on to the end of the blob.
            let part = stream::unfold((content, length), async |(mut content, left)| {
                let chunk = match left {
                    0 => return None,
                    left => content.next().await?.map(|mut bytes| {
                        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                        bytes
                    }),
                };
                let left = chunk.as_ref().map_or(0, |bytes| left - bytes.len() as u64);
                Some((chunk, (content, left)))
            });
            Ok(part.boxed())
        }
        .boxed()
    }
}
