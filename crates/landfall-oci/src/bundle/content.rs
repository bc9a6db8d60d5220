//! The images of a bundle with their manifests and small blobs, before everything has a place.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use landfall_core::bundle::document::{Companion, LeftOut};
use landfall_core::oci_types::{Descriptor, Manifest, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};

use super::graph::{Visited, walk_manifests};
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
    fn walk(&self, root: &Digest, visit: &mut impl FnMut(Visited<'_>)) {
        let find = |digest: &Digest| self.manifests.get(digest).map(|manifest| &manifest.bytes);
        walk_manifests(root, &find, visit);
    }

    /// Returns the index entries of an image that are not in the bundle.
    pub(super) fn left_out(&self, image: &ContentImage) -> Vec<LeftOut> {
        let mut left_out = Vec::new();
        self.walk(&image.root.digest, &mut |visited| {
            if let Visited::LeftOut(entry) = visited {
                left_out.push(LeftOut {
                    digest: entry.digest.clone(),
                    platform: entry.platform.clone(),
                });
            }
        });
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
            for root in std::iter::once(&image.root.digest).chain(companions) {
                self.walk(root, &mut |visited| {
                    if let Visited::Manifest(_, Some(content)) = visited {
                        for child in content.children() {
                            owners.entry(child.digest.clone()).or_insert(name);
                        }
                    }
                });
            }
        }
        owners
    }

    /// Returns the first manifest of an image that a platform can run.
    pub(super) fn runnable(&self, image: &ContentImage) -> Option<Manifest> {
        let mut runnable = None;
        self.walk(&image.root.digest, &mut |visited| {
            if let Visited::Manifest(digest, Some(ManifestContent::Image(_))) = visited
                && runnable.is_none()
            {
                runnable = self.manifests.get(digest).and_then(parse_image);
            }
        });
        runnable
    }
}
