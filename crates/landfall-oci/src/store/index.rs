//! `index.json`: the store's images by name (OCI image layout specification).

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::lenient_object;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::ImageReference;
use landfall_net::durable;
use landfall_net::state_file::{StateFile, Unusable, load_state_file};
use serde::Serialize;

use crate::store::error::StoreError;

/// The annotation by which `skopeo` and other readers of OCI layouts find an image.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which `ctr images import` names an image.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The named images, the same in memory and on disk.
#[derive(Debug)]
pub(super) struct ImageIndex {
    path: Utf8PathBuf,
    images: BTreeMap<ImageReference, Descriptor>,
}

/// The JSON form of an index.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IndexFile {
    pub(crate) schema_version: Option<u64>,
    pub(crate) media_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
}

lenient_object!(IndexFile {
    "schemaVersion" => schema_version,
    "mediaType" => media_type,
    "manifests" => manifests,
});

impl ImageIndex {
    /// Returns an index without names, for a store that is opened for its blobs only.
    pub(super) fn empty(path: &Utf8Path) -> ImageIndex {
        ImageIndex {
            path: path.to_owned(),
            images: BTreeMap::new(),
        }
    }

    /// Reads the index. Moves an unreadable file aside and omits unreadable entries. Returns the repairs with the
    /// index.
    pub(super) fn load(path: &Utf8Path) -> Result<(ImageIndex, Vec<String>), StoreError> {
        let mut index = ImageIndex::empty(path);
        let mut repairs = Vec::new();
        let parse = |text: &[u8]| {
            serde_json::from_slice::<IndexFile>(text).map_err(|error| Unusable::Damaged(error.to_string()))
        };
        match load_state_file(path, parse) {
            StateFile::Loaded(file) => index.take_entries(file, &mut repairs),
            StateFile::Missing => index.save(&index.images)?,
            StateFile::SetAside(aside) => {
                repairs.push(format!(
                    "{aside}; the blobs are untouched, the images have to be named again"
                ));
                index.save(&index.images)?;
            }
        }
        Ok((index, repairs))
    }

    fn take_entries(&mut self, file: IndexFile, repairs: &mut Vec<String>) {
        for mut descriptor in file.manifests {
            let name = descriptor.annotations.remove(CONTAINERD_NAME);
            descriptor.annotations.remove(REF_NAME);
            match name.as_deref().map(str::parse::<ImageReference>) {
                Some(Ok(name)) => {
                    self.images.insert(name.canonical(), descriptor);
                }
                Some(Err(error)) => repairs.push(format!(
                    "`{}` names an image `{}`, which is left out: {error}",
                    self.path,
                    name.unwrap_or_default()
                )),
                None => repairs.push(format!(
                    "`{}` has an entry `{}` without a name, which is left out",
                    self.path, descriptor.digest
                )),
            }
        }
    }

    pub(super) fn images(&self) -> &BTreeMap<ImageReference, Descriptor> {
        &self.images
    }

    /// Sets a name. The map in memory changes only after the file on disk.
    pub(super) fn insert(&mut self, name: ImageReference, manifest: Descriptor) -> Result<(), StoreError> {
        if self.images.get(&name) == Some(&manifest) {
            return Ok(());
        }
        let mut images = self.images.clone();
        images.insert(name, manifest);
        self.save(&images)?;
        self.images = images;
        Ok(())
    }

    /// Removes a name. Returns true if it existed.
    pub(super) fn remove(&mut self, name: &ImageReference) -> Result<bool, StoreError> {
        let mut images = self.images.clone();
        if images.remove(name).is_none() {
            return Ok(false);
        }
        self.save(&images)?;
        self.images = images;
        Ok(true)
    }

    fn save(&self, images: &BTreeMap<ImageReference, Descriptor>) -> Result<(), StoreError> {
        let manifests = images
            .iter()
            .map(|(name, descriptor)| named_descriptor(descriptor, &name.to_string()))
            .collect();
        durable::replace_file(&self.path, &render_index(manifests))?;
        Ok(())
    }
}

/// Returns the descriptor of an index entry, with the name in the two annotations that other programs read.
pub(crate) fn named_descriptor(descriptor: &Descriptor, name: &str) -> Descriptor {
    let mut named = descriptor.clone();
    for annotation in [REF_NAME, CONTAINERD_NAME] {
        named.annotations.insert(annotation.to_owned(), name.to_owned());
    }
    named
}

/// Returns the bytes of an index of these manifests.
pub fn render_index(manifests: Vec<Descriptor>) -> Vec<u8> {
    let file = IndexFile {
        schema_version: Some(2),
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests,
    };
    serde_json::to_vec_pretty(&file).expect("descriptors are strings and numbers, which JSON can hold")
}
