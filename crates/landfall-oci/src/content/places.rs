//! The set of places that a server looks into. Places come and go while it serves: a stick is pulled, a bundle has been
//! taken over into the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, Repository, Tag};
use landfall_core::registry_path::ManifestSelector;
use tokio::sync::broadcast;

use crate::content::names::RepositoryName;
use crate::content::place::{Place, PlacedManifest};
use crate::image::{BlobStream, RawManifest, TransferError};

/// Places at most.
pub const PLACES_MAX: usize = 64;
/// Reads that a slow follower of [`Places::watch_reads`] may be behind. It loses older ones.
const READS_KEPT: usize = 256;

/// Error of a set with [`PLACES_MAX`] places.
#[derive(Debug, thiserror::Error)]
#[error("{PLACES_MAX} bundles are open already, and no more are served at a time")]
pub struct TooManyPlaces;

/// Places, the first of which wins. A repository that one place names has the blobs of all of them, because a delta
/// counts on the blobs of another bundle.
#[derive(Debug)]
pub struct Places {
    places: ArcSwap<Vec<Arc<Place>>>,
    reads: AtomicU64,
    read: broadcast::Sender<Digest>,
}

impl Default for Places {
    fn default() -> Places {
        Places {
            places: ArcSwap::default(),
            reads: AtomicU64::new(0),
            read: broadcast::Sender::new(READS_KEPT),
        }
    }
}

impl Places {
    /// Adds a place behind the others.
    ///
    /// # Errors
    /// If the set is full; it is unchanged then.
    pub fn add(&self, place: &Arc<Place>) -> Result<(), TooManyPlaces> {
        let before = self.places.rcu(|places| {
            let mut places = Vec::clone(places);
            if places.len() < PLACES_MAX {
                places.push(place.clone());
            }
            places
        });
        if before.len() < PLACES_MAX {
            Ok(())
        } else {
            Err(TooManyPlaces)
        }
    }

    /// Removes a place. Reads of it that are under way fail at once, so that its file system can be unmounted.
    pub fn remove(&self, place: &Arc<Place>) {
        self.places.rcu(|places| {
            let others = places.iter().filter(|other| !Arc::ptr_eq(other, place));
            others.cloned().collect::<Vec<_>>()
        });
        place.remove();
    }

    /// Removes the places that `is_gone` tells, as [`Places::remove`] does.
    pub fn remove_where(&self, is_gone: impl Fn(&Place) -> bool) {
        let places = self.places.load_full();
        places
            .iter()
            .filter(|place| is_gone(place))
            .for_each(|place| self.remove(place));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.load().is_empty()
    }

    /// Returns the places if one of them names the repository, else none.
    fn with_repository(&self, name: RepositoryName<'_>) -> Vec<Arc<Place>> {
        let places = self.places.load();
        match places.iter().any(|place| place.names.has_repository(name)) {
            true => places.to_vec(),
            false => Vec::new(),
        }
    }

    /// Finds a manifest by tag or digest, in the first place that has it.
    #[must_use]
    pub fn find_manifest(
        &self,
        name: RepositoryName<'_>,
        selector: &ManifestSelector,
    ) -> Option<(Digest, Arc<PlacedManifest>)> {
        let places = self.with_repository(name);
        let digests: Vec<Digest> = match selector {
            ManifestSelector::Digest(digest) => vec![digest.clone()],
            ManifestSelector::Tag(tag) => {
                let tagged = places.iter().filter_map(|place| place.names.find_tag(name, tag));
                tagged.cloned().collect()
            }
        };
        digests.into_iter().find_map(|digest| {
            let manifest = places.iter().find_map(|place| place.manifest(&digest))?.clone();
            Some((digest, manifest))
        })
    }

    /// Reads a manifest from the first place that can be read. `None` if there is none: a place that fails counts as
    /// one that lacks it.
    pub async fn read_manifest(&self, name: RepositoryName<'_>, digest: &Digest) -> Option<RawManifest> {
        for place in self.with_repository(name) {
            if place.manifest(digest).is_some() {
                match place.read_manifest(digest).await {
                    Ok(manifest) => return Some(manifest),
                    Err(error) => note_failure(&error),
                }
            }
        }
        None
    }

    /// Returns the size of a blob in bytes, or of a manifest.
    #[must_use]
    pub fn blob_size(&self, name: RepositoryName<'_>, digest: &Digest) -> Option<u64> {
        let places = self.with_repository(name);
        places.iter().find_map(|place| place.blob_size(digest))
    }

    /// Returns true if an image of the repository's places needs a blob, which may be elsewhere.
    #[must_use]
    pub fn needs(&self, name: RepositoryName<'_>, digest: &Digest) -> bool {
        self.with_repository(name).iter().any(|place| place.needs(digest))
    }

    /// Opens a part of a blob in the first place that can be read. `None` if there is none.
    pub async fn open_blob(
        &self,
        name: RepositoryName<'_>,
        digest: &Digest,
        offset: u64,
        length: u64,
    ) -> Option<BlobStream> {
        for place in self.with_repository(name) {
            if place.blob_size(digest).is_some() {
                match place.open_blob(digest, offset, length).await {
                    Ok(stream) => return Some(stream),
                    Err(error) => note_failure(&error),
                }
            }
        }
        None
    }

    /// Returns true if a place names the repository.
    #[must_use]
    pub fn has_repository(&self, name: RepositoryName<'_>) -> bool {
        self.places.load().iter().any(|place| place.names.has_repository(name))
    }

    /// Returns the repositories of all places, under their served names.
    #[must_use]
    pub fn repositories(&self) -> BTreeSet<Repository> {
        let places = self.places.load();
        places
            .iter()
            .flat_map(|place| place.names.repositories())
            .cloned()
            .collect()
    }

    /// Returns the tags of a repository in all places.
    #[must_use]
    pub fn tags(&self, name: RepositoryName<'_>) -> BTreeSet<Tag> {
        let places = self.with_repository(name);
        places
            .iter()
            .flat_map(|place| place.names.list_tags(name))
            .cloned()
            .collect()
    }

    /// Returns the descriptors of the referrers of a manifest, by digest.
    #[must_use]
    pub fn referrers(&self, name: RepositoryName<'_>, subject: &Digest) -> BTreeMap<Digest, Descriptor> {
        let places = self.with_repository(name);
        places
            .iter()
            .flat_map(|place| place.referrers(subject))
            .map(|(digest, descriptor)| (digest.clone(), descriptor.clone()))
            .collect()
    }

    /// Notes that a client pulls content that only a place has.
    pub fn note_read(&self, digest: &Digest) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        // Nobody may be following.
        drop(self.read.send(digest.clone()));
    }

    /// Returns the number of manifests and blobs that clients pulled out of places so far.
    #[must_use]
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Returns a receiver of the digests of [`Places::note_read`]: a task that takes the content over into a store
    /// begins with these. A receiver that is slow loses the older ones.
    #[must_use]
    pub fn watch_reads(&self) -> broadcast::Receiver<Digest> {
        self.read.subscribe()
    }
}

fn note_failure(error: &TransferError) {
    tracing::warn!(
        error = error.chain(),
        "a place cannot be read; its content counts as missing"
    );
}
