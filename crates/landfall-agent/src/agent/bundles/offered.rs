//! The bundles that the phases take images from.

use std::collections::HashMap;
use std::sync::Arc;

use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::resolve::{BundleOffers, Candidate, Why};
use landfall_oci::bundle::{BundleFile, BundleSource};
use landfall_oci::image::TransferError;

/// Bundles, the preferred one first, in the order of [`BundleOffers`].
#[derive(Debug, Default)]
pub(crate) struct OfferedBundles {
    bundles: Vec<Offered>,
    offers: Arc<BundleOffers>,
}

/// A bundle that images are taken from.
#[derive(Debug)]
struct Offered {
    file: Arc<BundleFile>,
    source: BundleSource,
    /// Digests of the images by their canonical names.
    images: HashMap<ImageReference, Digest>,
}

impl PartialEq for OfferedBundles {
    fn eq(&self, other: &OfferedBundles) -> bool {
        let same = |(one, another): (&Offered, &Offered)| Arc::ptr_eq(&one.file, &another.file);
        self.bundles.len() == other.bundles.len() && self.bundles.iter().zip(&other.bundles).all(same)
    }
}

impl OfferedBundles {
    pub(super) fn new(taken: impl Iterator<Item = (Arc<BundleFile>, BundleSource)>) -> OfferedBundles {
        let mut offers = BundleOffers::default();
        let mut bundles = Vec::new();
        for (file, source) in taken {
            let images = file.document().images.iter();
            offers.add(file.path().to_string(), images.clone().map(|image| image.name.clone()));
            // Of two images with one name, the first counts.
            let images = images.rev().map(|image| (image.name.canonical(), image.digest.clone()));
            let images = images.collect();
            bundles.push(Offered { file, source, images });
        }
        OfferedBundles {
            bundles,
            offers: Arc::new(offers),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }

    pub(crate) fn offers(&self) -> &Arc<BundleOffers> {
        &self.offers
    }

    /// Returns the position of the image whose manifest was asked for first; `None` if none of them was.
    pub(crate) fn first_asked<'a>(
        &self,
        names: impl Iterator<Item = &'a ImageReference> + Clone,
        asked: &[Digest],
    ) -> Option<usize> {
        let is_under = |name: &ImageReference, digest: &Digest| {
            let mut bundles = self.bundles.iter();
            bundles.any(|bundle| bundle.images.get(name) == Some(digest))
        };
        let find = |digest: &Digest| names.clone().position(|name| is_under(name, digest));
        asked.iter().find_map(find)
    }

    /// Returns the source of a candidate that is a bundle, and the digest of the image there.
    ///
    /// # Errors
    ///
    /// If the bundle is no longer there.
    pub(crate) fn source(&self, candidate: &Candidate) -> Result<(BundleSource, Digest), TransferError> {
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
