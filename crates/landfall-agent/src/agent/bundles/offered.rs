//! The bundles that the phases take images from.

use std::sync::Arc;

use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::resolve::{BundleOffers, Candidate, Why};
use landfall_oci::bundle::{BundleFile, BundleSource};
use landfall_oci::image::TransferError;

/// Bundles, the preferred one first, in the order of [`BundleOffers`].
#[derive(Debug, Default)]
pub(crate) struct OfferedBundles {
    files: Vec<Arc<BundleFile>>,
    offers: Arc<BundleOffers>,
}

impl PartialEq for OfferedBundles {
    fn eq(&self, other: &OfferedBundles) -> bool {
        let same = |(one, another): (&Arc<BundleFile>, &Arc<BundleFile>)| Arc::ptr_eq(one, another);
        self.files.len() == other.files.len() && self.files.iter().zip(&other.files).all(same)
    }
}

impl OfferedBundles {
    pub(crate) fn new(files: impl Iterator<Item = Arc<BundleFile>>) -> OfferedBundles {
        let files: Vec<_> = files.collect();
        let mut offers = BundleOffers::default();
        for file in &files {
            offers.add(
                file.path().to_string(),
                file.document().images.iter().map(|image| image.name.clone()),
            );
        }
        OfferedBundles {
            files,
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
    pub(crate) fn source(&self, candidate: &Candidate) -> Result<(BundleSource, Digest), TransferError> {
        let file = match candidate.why {
            Why::Bundle(number) => self.files.get(number),
            _ => None,
        };
        let image = file.and_then(|file| {
            let mut images = file.document().images.iter();
            let image = images.find(|image| image.name.canonical() == candidate.reference)?;
            Some((BundleSource::new(file.clone()), image.digest.clone()))
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
