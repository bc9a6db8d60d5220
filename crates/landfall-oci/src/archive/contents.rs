//! Images and content that an archive was found to hold.

use std::collections::HashMap;

use bytes::Bytes;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;

use crate::archive::entries::Extent;
use crate::referrers::ReferrerMap;

/// What becomes of an index that the archive holds a part of: an export of one platform has the whole index, and the
/// content of that platform only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PartialIndex {
    /// It stays what it is.
    #[default]
    Kept,
    /// It names what is there only. Its digest changes with that.
    Narrowed,
}

/// Where content is.
#[derive(Debug, Clone)]
pub(super) enum ContentLocation {
    /// A piece of the archive.
    Archive(Extent),
    /// Made by us, or small.
    Memory(Bytes),
}

/// Where all content is.
pub(super) type ContentLocations = HashMap<Digest, ContentLocation>;

/// What a manifest became: itself, or narrowed.
#[derive(Debug, Clone)]
pub(super) struct KeptManifest {
    digest: Digest,
    size: u64,
}

impl KeptManifest {
    pub(super) fn of(descriptor: &Descriptor) -> KeptManifest {
        KeptManifest {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        }
    }

    /// As an index describes it, which may add platform and annotations.
    pub(super) fn named_by(self, entry: &Descriptor) -> Descriptor {
        Descriptor {
            digest: self.digest,
            size: self.size,
            ..entry.clone()
        }
    }
}

/// What an archive was found to hold.
#[derive(Debug, Default)]
pub(super) struct ArchiveContents {
    pub(super) partial: PartialIndex,
    pub(super) images: Vec<ArchivedImage>,
    pub(super) locations: ContentLocations,
    pub(super) referrers: ReferrerMap,
    /// Manifests that were looked for, and what they became.
    pub(super) visited: HashMap<Digest, Option<KeptManifest>>,
}

/// One image, as far as it is known without a source to read it from.
#[derive(Debug)]
pub(super) struct ArchivedImage {
    pub(super) names: Vec<String>,
    pub(super) root: Descriptor,
    pub(super) narrowed_from: Option<Digest>,
}
