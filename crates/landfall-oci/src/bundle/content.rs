//! The images of a bundle with their manifests and small blobs, before everything has a place.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use landfall_core::bundle::document::{Companion, LeftOut};
use landfall_core::oci_types::{Descriptor, Manifest, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};

use crate::image::RawManifest;
use crate::layout::parse_image;

/// Images of a bundle.
#[derive(Debug, Clone, Default)]
pub struct BundleContent {
    pub images: BTreeMap<ImageReference, ContentImage>,
    pub manifests: BTreeMap<Digest, RawManifest>,
    /// Blobs in memory, which belong to the head; empty if they are too many.
    pub small: BTreeMap<Digest, Bytes>,
    /// Blobs that are stored, or left to the site, with their sizes in bytes.
    pub large: BTreeMap<Digest, u64>,
}

/// One image of a bundle.
#[derive(Debug, Clone)]
pub struct ContentImage {
    /// The manifest or index.
    pub root: Descriptor,
    /// Signatures, attestations and bills of materials, by digest and tag.
    pub companions: Vec<Companion>,
}

impl BundleContent {
    /// Returns the manifests below an index, as far as they are in the bundle: each after its children. Missing ones are
    /// added to `left_out`.
    fn walk<'a>(
        &'a self,
        digest: &Digest,
        depth: usize,
        found: &mut Vec<&'a RawManifest>,
        left_out: &mut Vec<LeftOut>,
    ) {
        /// Limit of the nesting of indexes, as in copies.
        const DEPTH_MAX: usize = 8;
        let Some(manifest) = self.manifests.get(digest) else {
            return;
        };
        if depth < DEPTH_MAX
            && let Ok(ManifestContent::Index(index)) = parse_manifest(&manifest.bytes)
        {
            for entry in &index.manifests {
                match self.manifests.contains_key(&entry.digest) {
                    true => self.walk(&entry.digest, depth + 1, found, left_out),
                    false => left_out.push(LeftOut {
                        digest: entry.digest.clone(),
                        platform: entry.platform.clone(),
                    }),
                }
            }
        }
        found.push(manifest);
    }

    /// Returns the index entries of an image that are not in the bundle.
    pub(super) fn left_out(&self, image: &ContentImage) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        self.walk(&image.root.digest, 0, &mut Vec::new(), &mut left_out);
        left_out.sort_by(|a, b| a.digest.cmp(&b.digest));
        left_out.dedup();
        left_out
    }

    /// Returns the platforms of an image in the bundle; none for an image without an index.
    pub(super) fn platforms(&self, image: &ContentImage) -> Vec<Platform> {
        let root = self.manifests.get(&image.root.digest);
        let Some(Ok(ManifestContent::Index(index))) = root.map(|root| parse_manifest(&root.bytes)) else {
            return Vec::new();
        };
        let kept = index
            .manifests
            .iter()
            .filter(|entry| self.manifests.contains_key(&entry.digest));
        let mut platforms: Vec<Platform> = kept.filter_map(|entry| entry.image_platform().cloned()).collect();
        platforms.sort();
        platforms.dedup();
        platforms
    }

    /// Returns the blobs of all images, each with the first image by name that has it.
    pub(super) fn owners(&self) -> HashMap<Digest, &ImageReference> {
        let mut owners = HashMap::new();
        for (name, image) in &self.images {
            let companions = image.companions.iter().map(|companion| &companion.digest);
            let mut manifests = Vec::new();
            for root in std::iter::once(&image.root.digest).chain(companions) {
                self.walk(root, 0, &mut manifests, &mut Vec::new());
            }
            for content in manifests
                .iter()
                .filter_map(|manifest| parse_manifest(&manifest.bytes).ok())
            {
                for child in content.children() {
                    owners.entry(child.digest.clone()).or_insert(name);
                }
            }
        }
        owners
    }

    /// Returns the first manifest of an image that a platform can run.
    pub(super) fn runnable(&self, image: &ContentImage) -> Option<Manifest> {
        let mut manifests = Vec::new();
        self.walk(&image.root.digest, 0, &mut manifests, &mut Vec::new());
        manifests.into_iter().find_map(parse_image)
    }
}
