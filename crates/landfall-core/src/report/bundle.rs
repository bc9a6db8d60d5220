//! Output of `landfall bundle`: contents, damage and differences of bundles.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;
use crate::bundle::document::BundleDocument;
use crate::reference::Digest;

/// The contents of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Bundle`.
    pub kind: &'static str,
    /// The path of the file, or of one of its pieces.
    pub file: String,
    /// True if nothing was written: the report is that of the bundle that would be made.
    pub dry_run: bool,
    /// The SHA-256 of its description, which the signature covers.
    pub id: String,
    /// The size of the file in bytes, with all pieces.
    pub bytes: u64,
    /// The number of files.
    pub pieces: usize,
    /// The keys that signed it, by the SHA-256 of their public halves. They are not verified here.
    pub signed_by: Vec<String>,
    /// The name of the bundles that replace one another at a site.
    pub series: Option<String>,
    /// The number in the series.
    pub sequence: Option<u64>,
    /// The inventory, receipt or bundle that a delta counts on.
    pub base: Option<String>,
    /// The images.
    pub images: Vec<BundleImageRow>,
    /// The indexes that were made again with some of their platforms (`--narrow rewrite`).
    pub rewritten: Vec<RewrittenIndexRow>,
    /// The number of blobs and manifests.
    pub blobs: usize,
    /// The size of all blobs and manifests in bytes.
    pub content_bytes: u64,
    /// The files that it carries beside images.
    pub carried: Vec<String>,
    /// The blobs that it leaves to the site.
    pub needs: Vec<BundleNeed>,
    /// The space on the disk and the time for the file; null if nothing is written.
    pub room: Option<BundleRoom>,
}

/// An image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleImageRow {
    /// The full reference.
    pub name: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// The platforms in the bundle; empty for an image without an index.
    pub platforms: Vec<String>,
    /// The index entries that are not in the bundle: the platform, or the digest if it has none.
    pub left_out: Vec<String>,
    /// The number of signatures, attestations and bills of materials.
    pub referrers: usize,
}

/// An index that was made again with some of its platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RewrittenIndexRow {
    /// The full reference of the image.
    pub name: String,
    /// The digest at its source.
    pub from: String,
    /// The digest in the bundle.
    pub to: String,
    /// The signatures, attestations and bills of materials of the old index, by tag or digest. The bundle lacks them.
    pub lost: Vec<String>,
}

/// A blob that a bundle leaves to the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleNeed {
    /// The digest of the blob.
    pub digest: String,
    /// The size in bytes.
    pub bytes: u64,
    /// One of the images with the blob.
    pub image: String,
}

/// Space and time for a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleRoom {
    /// The bytes that the file needs.
    pub needed_bytes: u64,
    /// The bytes that the disk has free.
    pub free_bytes: u64,
    /// The files that the disk can still take; null if it does not say.
    pub free_inodes: Option<u64>,
    /// The measured rate of the disk in bytes per second.
    pub bytes_per_second: Option<u64>,
    /// The time that writing takes at this rate, in seconds.
    pub seconds: Option<u64>,
}

/// The result of the verification of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleVerificationReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `BundleVerification`.
    pub kind: &'static str,
    /// The path of the file, or of one of its pieces.
    pub file: String,
    /// The SHA-256 of its description.
    pub id: String,
    /// The key that signed it; null without `--public-key`.
    pub trusted_key: Option<String>,
    /// The number of bytes that were read.
    pub bytes: u64,
    /// The damaged parts, in the order of the file.
    pub damages: Vec<BundleDamageRow>,
}

/// A damaged part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleDamageRow {
    /// The part: a blob, a file, a header, the end or the seek table.
    pub part: String,
    /// The digest, if the part is a blob.
    pub digest: Option<String>,
    /// The size in bytes, if the part is a blob.
    pub bytes: Option<u64>,
    /// The images that need it; empty if all images can be used without it.
    pub images: Vec<String>,
}

/// The differences between two bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleDiffReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `BundleDiff`.
    pub kind: &'static str,
    /// The id of the first bundle.
    pub from: String,
    /// The id of the second bundle.
    pub to: String,
    /// The images that only the second bundle has.
    pub added: Vec<String>,
    /// The images that only the first bundle has.
    pub removed: Vec<String>,
    /// The images with other content in the second bundle.
    pub changed: Vec<BundleChange>,
    /// The number of images with the same content in both.
    pub unchanged: usize,
    /// The number of blobs and manifests that only the second bundle has.
    pub new_blobs: usize,
    /// Their size in bytes: that of a delta, without its description.
    pub new_bytes: u64,
}

/// An image with other content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleChange {
    /// The full reference.
    pub name: String,
    /// The digest in the first bundle.
    pub from: String,
    /// The digest in the second bundle.
    pub to: String,
}

impl BundleReport {
    /// Describes a bundle.
    #[must_use]
    pub fn new(file: String, id: &Digest, bytes: u64, pieces: usize, document: &BundleDocument) -> BundleReport {
        let carried = document.files.iter().filter_map(|file| {
            let name = file.path.strip_prefix(crate::bundle::document::CARRIED_PREFIX)?;
            Some(name.to_owned())
        });
        BundleReport {
            api_version: API_VERSION,
            kind: "Bundle",
            file,
            dry_run: false,
            id: id.to_string(),
            bytes,
            pieces,
            signed_by: Vec::new(),
            series: document.series.clone(),
            sequence: document.sequence,
            base: document.base.clone(),
            images: document.images.iter().map(BundleImageRow::of).collect(),
            rewritten: Vec::new(),
            blobs: document.blobs.len(),
            content_bytes: document.content_size(),
            carried: carried.collect(),
            needs: document.needs.iter().map(BundleNeed::of).collect(),
            room: None,
        }
    }
}

impl BundleImageRow {
    fn of(image: &crate::bundle::document::BundledImage) -> BundleImageRow {
        let left_out = image.left_out.iter().map(|entry| match &entry.platform {
            Some(platform) => platform.to_string(),
            None => entry.digest.to_string(),
        });
        BundleImageRow {
            name: image.name.to_string(),
            digest: image.digest.to_string(),
            platforms: image.platforms.iter().map(ToString::to_string).collect(),
            left_out: left_out.collect(),
            referrers: image.companions.len(),
        }
    }
}

impl BundleNeed {
    #[must_use]
    pub fn of(need: &crate::bundle::document::NeededBlob) -> BundleNeed {
        BundleNeed {
            digest: need.digest.to_string(),
            bytes: need.size,
            image: need.image.to_string(),
        }
    }
}

impl BundleVerificationReport {
    #[must_use]
    pub fn new(file: String, id: &Digest, bytes: u64, damages: Vec<BundleDamageRow>) -> BundleVerificationReport {
        BundleVerificationReport {
            api_version: API_VERSION,
            kind: "BundleVerification",
            file,
            id: id.to_string(),
            trusted_key: None,
            bytes,
            damages,
        }
    }
}

impl BundleDiffReport {
    /// Compares two bundles by their documents.
    #[must_use]
    pub fn new(from: (&Digest, &BundleDocument), to: (&Digest, &BundleDocument)) -> BundleDiffReport {
        fn images(document: &BundleDocument) -> BTreeMap<String, &Digest> {
            let images = document.images.iter();
            images.map(|image| (image.name.to_string(), &image.digest)).collect()
        }
        let ((from_id, from), (to_id, to)) = (from, to);
        let (old, new) = (images(from), images(to));
        let had: BTreeSet<&Digest> = from.blobs.iter().map(|blob| &blob.digest).collect();
        let new_blobs: Vec<u64> = to
            .blobs
            .iter()
            .filter(|blob| !had.contains(&blob.digest))
            .map(|blob| blob.size)
            .collect();
        let mut changed = Vec::new();
        let mut unchanged = 0;
        for (name, digest) in &new {
            match old.get(name) {
                Some(before) if before == digest => unchanged += 1,
                Some(before) => changed.push(BundleChange {
                    name: name.clone(),
                    from: before.to_string(),
                    to: digest.to_string(),
                }),
                None => {}
            }
        }
        let without = |all: &BTreeMap<String, &Digest>, other: &BTreeMap<String, &Digest>| {
            let names = all.keys().filter(|name| !other.contains_key(*name));
            names.cloned().collect()
        };
        BundleDiffReport {
            api_version: API_VERSION,
            kind: "BundleDiff",
            from: from_id.to_string(),
            to: to_id.to_string(),
            added: without(&new, &old),
            removed: without(&old, &new),
            changed,
            unchanged,
            new_blobs: new_blobs.len(),
            new_bytes: new_blobs.iter().sum(),
        }
    }
}
