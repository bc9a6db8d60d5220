//! The bundles that the phases take images from.

use std::collections::HashMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::document::BundledImage;
use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::resolve::{BundleOffers, Candidate, Why};
use landfall_oci::image::{ImageSource, TransferError};

/// Bundles, the preferred one first, in the order of [`BundleOffers`].
#[derive(Debug, Default)]
pub(crate) struct OfferedBundles {
    bundles: Vec<Offered>,
    offers: Arc<BundleOffers>,
}

/// A bundle that images are taken from.
#[derive(Debug)]
struct Offered {
    /// Its id and its place.
    identity: (Digest, Utf8PathBuf),
    source: Arc<dyn ImageSource>,
    /// Digests of the images by their canonical names.
    images: HashMap<ImageReference, Digest>,
}

/// A bundle whose images can be read.
pub(super) struct Offer<'a> {
    pub(super) path: &'a Utf8Path,
    pub(super) id: &'a Digest,
    pub(super) source: Arc<dyn ImageSource>,
    pub(super) images: &'a [BundledImage],
}

impl PartialEq for OfferedBundles {
    fn eq(&self, other: &OfferedBundles) -> bool {
        let identities = |offered: &OfferedBundles| {
            let bundles = offered.bundles.iter();
            bundles.map(|bundle| bundle.identity.clone()).collect::<Vec<_>>()
        };
        identities(self) == identities(other)
    }
}

impl OfferedBundles {
    pub(super) fn new<'a>(taken: impl Iterator<Item = Offer<'a>>) -> OfferedBundles {
        let mut offers = BundleOffers::default();
        let mut bundles = Vec::new();
        for Offer {
            path,
            id,
            source,
            images,
        } in taken
        {
            let names = images.iter().map(|image| image.name.clone());
            offers.add(path.to_string(), names);
            // Of two images with one name, the first counts.
            let images = images.iter().rev();
            let images = images.map(|image| (image.name.canonical(), image.digest.clone()));
            bundles.push(Offered {
                identity: (id.clone(), path.to_owned()),
                source,
                images: images.collect(),
            });
        }
        OfferedBundles {
            bundles,
            offers: Arc::new(offers),
        }
    }

    pub(crate) fn offers(&self) -> &Arc<BundleOffers> {
        &self.offers
    }

    /// Returns the source of a candidate that is a bundle, and the digest of the image there.
    ///
    /// # Errors
    ///
    /// If the bundle is no longer there.
    pub(crate) fn source(&self, candidate: &Candidate) -> Result<(Arc<dyn ImageSource>, Digest), TransferError> {
        let bundle = match candidate.why {
            Why::Bundle(number) => self.bundles.get(number),
            _ => None,
        };
        let image = bundle.and_then(|bundle| {
            let digest = bundle.images.get(&candidate.reference)?;
            Some((bundle.source.clone(), digest.clone()))
        });
        image.ok_or_else(|| gone(&candidate.reference))
    }
}

fn gone(image: &ImageReference) -> TransferError {
    TransferError {
        attempt: format!("cannot take `{image}` from a bundle: it is gone"),
        kind: FailureKind::NotFound,
        source: None,
    }
}
