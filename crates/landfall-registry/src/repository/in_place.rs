//! Content that the registry serves out of places, because its store lacks it. The store wins, and a place may vanish
//! at any instant: its content is missing from then on [spec:primary.places].

use std::sync::Arc;

use landfall_core::reference::{Digest, Repository};
use landfall_core::registry_path::ManifestSelector;
use landfall_oci::content::names::RepositoryName;
use landfall_oci::content::place::{Place, PlacedManifest};
use landfall_oci::content::places::{Places, TooManyPlaces};
use landfall_oci::store::error::StoreError;

use crate::repository::Registry;

impl Registry {
    /// Looks behind the store into these places, which others may look into as well.
    #[must_use]
    pub fn with_places(self, places: Arc<Places>) -> Registry {
        Registry { places, ..self }
    }

    /// Returns true if a repository serves an image at this moment out of a place, whole. Most images are in no place,
    /// and are told by a look into memory. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn serves_in_place(&self, name: &Repository, selector: &str) -> Result<bool, StoreError> {
        match self.find_in_place(name, selector) {
            Some(_) => self.can_serve(name, selector),
            None => Ok(false),
        }
    }

    /// Returns the places that the registry looks into behind its store. [`Registry::add_place`] and
    /// [`Registry::remove_place`] change them.
    #[must_use]
    pub fn places(&self) -> &Arc<Places> {
        &self.places
    }

    /// Serves the images of a place, where the store lacks them.
    ///
    /// # Errors
    /// Returns an error if too many places are served.
    pub fn add_place(&self, place: &Arc<Place>) -> Result<(), TooManyPlaces> {
        self.places.add(place)
    }

    /// Serves a place no longer, at once. That is a loss, as [`Registry::watch_losses`] tells it.
    pub fn remove_place(&self, place: &Arc<Place>) {
        self.places.remove(place);
        self.note_loss();
    }

    /// Finds a manifest of the places by tag or digest.
    pub(crate) fn find_in_place(&self, name: &Repository, selector: &str) -> Option<(Digest, Arc<PlacedManifest>)> {
        if self.places.is_empty() {
            return None;
        }
        let selector = selector.parse::<ManifestSelector>().ok()?;
        self.places.find_manifest(RepositoryName::Served(name), &selector)
    }

    pub(crate) fn has_manifest_in_place(&self, name: &Repository, digest: &Digest) -> bool {
        self.find_in_place(name, digest.as_str()).is_some()
    }

    /// Returns the size of a blob that a repository lacks, and that is served in it because of a place: the place has
    /// it, or an image of the place needs it and the store has it from another repository.
    pub(crate) fn size_in_place(&self, name: &Repository, digest: &Digest) -> Result<Option<u64>, StoreError> {
        if self.places.is_empty() {
            return Ok(None);
        }
        let served = RepositoryName::Served(name);
        match self.places.blob_size(served, digest) {
            None if self.places.needs(served, digest) => self.store.blob_size(digest),
            size => Ok(size),
        }
    }
}
