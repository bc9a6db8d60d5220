//! A place: content that is read where it lies, under the names of a server, and verified.
//!
//! A whole blob is hashed while it is read, until it has been found right once. A part of a blob cannot be: the client
//! verifies it. Blobs of one chunk are hashed before the first byte leaves. A blob that was found wrong is gone from
//! then on.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use camino::Utf8Path;
use futures_util::{TryStreamExt, stream};
use landfall_core::oci_types::{Descriptor, ManifestContent, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Repository};

use crate::content::names::ImageNames;
use crate::content::parts::ManifestParts;
use crate::content::read_only::{CHUNK_SIZE_MAX, ReadOnlyContent};
use crate::content::verified::{CheckedRead, PlaceError, Reads};
use crate::digest::{Algorithm, Digester};
use crate::image::{BlobStream, RawManifest, TransferError};
use crate::store::MANIFEST_SIZE_MAX;

/// Bytes of manifests that a place may have: it bounds what is known of them in memory.
const MANIFESTS_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// A manifest or index of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedManifest {
    pub media_type: String,
    /// In bytes.
    pub size: u64,
    pub parts: ManifestParts,
}

/// Content under the names of a server.
#[derive(Debug)]
pub struct Place {
    content: Arc<dyn ReadOnlyContent>,
    pub(super) names: ImageNames,
    manifests: HashMap<Digest, Arc<PlacedManifest>>,
    /// Blobs that the images need, here or elsewhere.
    needed: HashSet<Digest>,
    /// Descriptors of referrers, by subject and digest.
    referrers: HashMap<Digest, BTreeMap<Digest, Descriptor>>,
    reads: Arc<Reads>,
}

impl Place {
    /// Reads the manifests of all images. `naming` returns the repositories under which a server has an image. A
    /// manifest that cannot be read is left out, with a warning.
    pub async fn open(
        content: Arc<dyn ReadOnlyContent>,
        naming: impl Fn(&ImageReference) -> Vec<Repository>,
    ) -> Arc<Place> {
        let images = content.images();
        let reads = Arc::new(Reads::of(content.describe()));
        let mut place = Place {
            names: ImageNames::new(&images, naming),
            content,
            manifests: HashMap::new(),
            needed: HashSet::new(),
            referrers: HashMap::new(),
            reads,
        };
        place.read_manifests(images.into_iter().map(|(_, digest)| digest)).await;
        Arc::new(place)
    }

    async fn read_manifests(&mut self, roots: impl Iterator<Item = Digest>) {
        let (mut pending, mut seen): (Vec<Digest>, HashSet<Digest>) = (roots.collect(), HashSet::new());
        let mut bytes_left = MANIFESTS_SIZE_MAX;
        while let Some(digest) = pending.pop() {
            // An index may name platforms that were left out of the place.
            let Some(size) = self.content.blob_size(&digest).filter(|_| seen.insert(digest.clone())) else {
                continue;
            };
            let Some(left) = bytes_left.checked_sub(size) else {
                tracing::warn!(
                    place = self.describe(),
                    limit = MANIFESTS_SIZE_MAX,
                    "a place has too many manifests; \
                    some images of it are not served"
                );
                return;
            };
            bytes_left = left;
            match self.load_manifest(&digest, size).await {
                Ok(content) => {
                    pending.extend(self.add_manifest(&digest, size, &content).iter().cloned());
                }
                Err(error) => tracing::warn!(error = error.chain(), "an image of a place is not served"),
            }
        }
    }

    /// Reads a manifest that is not known yet, and parses it.
    async fn load_manifest(&self, digest: &Digest, size: u64) -> Result<ManifestContent, TransferError> {
        if size > MANIFEST_SIZE_MAX {
            return Err(self.reads.fail(digest, PlaceError::TooLarge));
        }
        let bytes = self.read_whole(digest, size).await?;
        parse_manifest(&bytes).map_err(|error| self.reads.fail(digest, error.into()))
    }

    fn add_manifest(&mut self, digest: &Digest, size: u64, content: &ManifestContent) -> Arc<[Digest]> {
        let manifest = PlacedManifest {
            media_type: content.media_type().to_owned(),
            size,
            parts: ManifestParts::of(content),
        };
        if let Some(subject) = content.subject() {
            let mut descriptor = Descriptor::new(&manifest.media_type, digest.clone(), size);
            descriptor.artifact_type = content.artifact_type().map(str::to_owned);
            descriptor.annotations.clone_from(content.annotations());
            let known = self.referrers.entry(subject.digest.clone()).or_default();
            known.insert(digest.clone(), descriptor);
        }
        let needed = manifest.parts.needed.iter();
        self.needed.extend(needed.map(|(needed, _)| needed.clone()));
        let entries = manifest.parts.entries.clone();
        self.manifests.insert(digest.clone(), Arc::new(manifest));
        entries
    }

    /// Returns the name of the place in messages.
    #[must_use]
    pub fn describe(&self) -> &str {
        self.reads.place()
    }

    /// Returns the path of the content, if it is a file.
    #[must_use]
    pub fn path(&self) -> Option<&Utf8Path> {
        self.content.path()
    }

    /// Returns a manifest of an image, or of an index entry.
    #[must_use]
    pub fn manifest(&self, digest: &Digest) -> Option<&Arc<PlacedManifest>> {
        self.manifests.get(digest).filter(|_| self.reads.may_have(digest))
    }

    /// Returns the size of a blob or manifest; `None` if it is not here, or was found wrong.
    #[must_use]
    pub fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.content.blob_size(digest).filter(|_| self.reads.may_have(digest))
    }

    /// Returns true if an image of the place needs a blob, which may be elsewhere.
    #[must_use]
    pub fn needs(&self, digest: &Digest) -> bool {
        self.needed.contains(digest)
    }

    /// Returns the descriptors of the referrers of a manifest, by digest.
    pub fn referrers(&self, subject: &Digest) -> impl Iterator<Item = (&Digest, &Descriptor)> {
        self.referrers.get(subject).into_iter().flatten()
    }

    /// Reads a manifest and verifies it.
    ///
    /// # Errors
    /// If the place lacks it, cannot be read, or has other bytes there.
    pub async fn read_manifest(&self, digest: &Digest) -> Result<RawManifest, TransferError> {
        let missing = || self.reads.fail(digest, PlaceError::Missing);
        let manifest = self.manifest(digest).ok_or_else(missing)?;
        Ok(RawManifest {
            media_type: manifest.media_type.clone(),
            bytes: self.read_whole(digest, manifest.size).await?,
            digest: digest.clone(),
        })
    }

    /// Opens a part of a blob, or the whole. A whole blob with a wrong digest ends with an error before its last bytes.
    ///
    /// # Errors
    /// If the place lacks the blob or the part, cannot be read, or has other bytes there.
    pub async fn open_blob(&self, digest: &Digest, offset: u64, length: u64) -> Result<BlobStream, TransferError> {
        let fits = |size: &u64| offset.checked_add(length).is_some_and(|end| end <= *size);
        let Some(size) = self.blob_size(digest).filter(fits) else {
            return Err(self.reads.fail(digest, PlaceError::Missing));
        };
        let is_right = self.reads.is_right(digest);
        if !is_right && size <= CHUNK_SIZE_MAX as u64 {
            let bytes = self.read_whole(digest, size).await?;
            // The part fits into the blob, which fits into a chunk.
            let part = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
            let part = part.map_or_else(Bytes::new, |(offset, length)| bytes.slice(offset..offset + length));
            return Ok(Box::pin(stream::iter((!part.is_empty()).then_some(Ok(part)))));
        }
        let digester = (!is_right && length == size).then(|| Digester::new(Algorithm::of(digest)));
        let opened = self
            .reads
            .until_removed(self.content.open_blob(digest, offset, length))
            .await;
        let read = CheckedRead {
            reads: self.reads.clone(),
            digest: digest.clone(),
            stream: opened.ok_or_else(|| self.reads.fail(digest, PlaceError::Removed))??,
            left: length,
            digester,
        };
        Ok(read.into_stream())
    }

    /// Reads a blob into memory and verifies it. The caller has looked at its size.
    async fn read_whole(&self, digest: &Digest, size: u64) -> Result<Bytes, TransferError> {
        let read = async {
            let mut stream = self.content.open_blob(digest, 0, size).await?;
            let mut bytes = Vec::new();
            while let Some(chunk) = stream.try_next().await? {
                if bytes.len() as u64 + chunk.len() as u64 > size {
                    return Err(self.reads.fail(digest, PlaceError::Long));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok(Bytes::from(bytes))
        };
        let read = self.reads.until_removed(read).await;
        let bytes = read.ok_or_else(|| self.reads.fail(digest, PlaceError::Removed))??;
        if let Some(left) = size.checked_sub(bytes.len() as u64).filter(|left| *left > 0) {
            return Err(self.reads.fail(digest, PlaceError::Short { left }));
        }
        let digester = Digester::new(Algorithm::of(digest));
        let found = self.reads.hash(digest, digester, bytes.clone()).await?.finish();
        let is_right = found == *digest;
        self.reads.note_checked(digest, is_right);
        if !is_right {
            return Err(self.reads.fail(digest, PlaceError::WrongDigest { found }));
        }
        Ok(bytes)
    }

    /// Ends all reads: the file of the content is closed once they have ended.
    pub(super) fn remove(&self) {
        self.reads.end();
    }
}
