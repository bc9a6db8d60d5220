//! The bundles that the phases take images from.

use std::collections::HashMap;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::document::BundledImage;
use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::resolve::{BundleOffers, Candidate, Why};
use landfall_oci::bundle::{BundleFile, BundleSource};
use landfall_oci::image::{ImageSource, TransferError};

/// Bundles, the preferred one first, in the order of [`BundleOffers`].
#[derive(Debug, Default)]
pub struct OfferedBundles {
    bundles: Vec<Offered>,
    offers: Arc<BundleOffers>,
}

/// A bundle whose images can be read.
#[derive(Debug)]
pub struct Offer<'a> {
    pub id: &'a Digest,
    pub path: &'a Utf8Path,
    pub source: Arc<dyn ImageSource>,
    pub images: &'a [BundledImage],
}

impl Offer<'_> {
    /// Offers a bundle that is read in place.
    #[must_use]
    pub fn of(file: &Arc<BundleFile>) -> Offer<'_> {
        Offer {
            id: file.id(),
            path: file.path(),
            source: Arc::new(BundleSource::new(file.clone())),
            images: &file.document().images,
        }
    }
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
    /// Offers the images of bundles, the preferred one first.
    pub fn new<'a>(taken: impl Iterator<Item = Offer<'a>>) -> OfferedBundles {
        let mut offers = BundleOffers::default();
        let mut bundles = Vec::new();
        for offer in taken {
            let images = offer.images.iter();
            offers.add(offer.path.to_string(), images.clone().map(|image| image.name.clone()));
            // Of two images with one name, the first counts.
            let images = images.rev().map(|image| (image.name.canonical(), image.digest.clone()));
            bundles.push(Offered {
                identity: (offer.id.clone(), offer.path.to_owned()),
                source: offer.source,
                images: images.collect(),
            });
        }
        OfferedBundles {
            bundles,
            offers: Arc::new(offers),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bundles.is_empty()
    }

    #[must_use]
    pub fn offers(&self) -> &Arc<BundleOffers> {
        &self.offers
    }

    /// Returns the position of the image whose manifest was asked for first; `None` if none of them was.
    pub(crate) fn first_asked<'a>(
        &self,
        names: impl Iterator<Item = &'a ImageReference>,
        asked: &[Digest],
    ) -> Option<usize> {
        if asked.is_empty() {
            return None;
        }
        let places: HashMap<&Digest, usize> = asked
            .iter()
            .enumerate()
            .map(|(place, digest)| (digest, place))
            .collect();
        let place_of = |name: &ImageReference| {
            let digests = self.bundles.iter().filter_map(|bundle| bundle.images.get(name));
            digests.filter_map(|digest| places.get(digest)).min()
        };
        let meant = names
            .enumerate()
            .filter_map(|(position, name)| Some((place_of(name)?, position)));
        meant.min().map(|(_, position)| position)
    }

    /// Returns the source of a candidate that is a bundle, and the digest of the image there.
    ///
    /// # Errors
    ///
    /// If the bundle is no longer there.
    pub fn source(&self, candidate: &Candidate) -> Result<(Arc<dyn ImageSource>, Digest), TransferError> {
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
