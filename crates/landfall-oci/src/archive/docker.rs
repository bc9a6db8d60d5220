//! `docker save` archives: a list of images in `manifest.json`, each with a configuration and uncompressed layers. They
//! have no OCI manifest, so one is made. The same archive always gives the same manifest.

use std::collections::HashMap;

use landfall_core::lenient::{self, ReadFields, Texts, read_object};
use landfall_core::lenient_object;
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::Digest;
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer, Serialize};

use crate::archive::contents::{ArchiveContents, ArchivedImage, ContentLocation};
use crate::archive::error::ArchiveError;
use crate::archive::files::{ArchiveFiles, LocatedLayer};
use crate::digest::digest_of;
use crate::layout_files::DOCKER_MANIFEST;

/// An image in `manifest.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ListedImage {
    pub(super) config: String,
    pub(super) repo_tags: Texts,
    layers: Vec<String>,
}

lenient_object!(ListedImage { "Config" => config, "RepoTags" => repo_tags, "Layers" => layers });

/// Returns the images of `manifest.json`, if the archive has that file.
pub(super) fn list_images(entries: &impl ArchiveFiles) -> Result<Option<Vec<ListedImage>>, ArchiveError> {
    if !entries.contains(DOCKER_MANIFEST) {
        return Ok(None);
    }
    entries.parse_document(DOCKER_MANIFEST).map(Some)
}

/// Makes a manifest for each listed image.
pub(super) fn read_images(
    entries: &impl ArchiveFiles,
    listed: &[ListedImage],
) -> Result<ArchiveContents, ArchiveError> {
    let mut found = ArchiveContents::default();
    let mut layers = HashMap::new();
    for image in listed {
        let root = read_image(entries, image, &mut layers, &mut found)?;
        found.images.push(ArchivedImage {
            names: image.repo_tags.0.clone(),
            ref_names: image.repo_tags.0.clone(),
            root,
            narrowed_from: None,
            kind: None,
        });
    }
    Ok(found)
}

/// An image's configuration. One without layers may lack the lists.
#[derive(Default)]
struct Config {
    rootfs: Option<RootFs>,
}

impl<'de> ReadFields<'de> for Config {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        if key != "rootfs" {
            return Ok(false);
        }
        self.rootfs = map.next_value()?;
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Config, D::Error> {
        read_object(deserializer)
    }
}

#[derive(Default)]
struct RootFs {
    diff_ids: Vec<Digest>,
}

lenient_object!(RootFs { "diff_ids" => diff_ids });

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeManifest<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

fn read_image<A: ArchiveFiles>(
    entries: &A,
    image: &ListedImage,
    layers: &mut HashMap<String, LocatedLayer>,
    found: &mut ArchiveContents,
) -> Result<Descriptor, ArchiveError> {
    let config_bytes = entries.read_document(&image.config, DOCKER_MANIFEST)?;
    let config: Config = lenient::from_slice(&config_bytes).map_err(|source| ArchiveError::Document {
        entry: image.config.clone(),
        source,
    })?;
    let diff_ids = config.rootfs.unwrap_or_default().diff_ids;
    let listed = diff_ids.len();
    if listed != image.layers.len() {
        return Err(ArchiveError::LayerCount {
            config: image.config.clone(),
            layers: image.layers.len(),
            listed,
        });
    }
    let mut descriptors = Vec::with_capacity(listed);
    for (path, diff_id) in image.layers.iter().zip(&diff_ids) {
        // Several images, and links, may name one file.
        let (file_path, file) = entries.find(path, DOCKER_MANIFEST)?;
        let (layer, location) = match layers.get(file_path) {
            Some(known) => known.clone(),
            None => entries.describe_layer(file, path)?,
        };
        if layer.media_type == media_type::OCI_LAYER && layer.digest != *diff_id {
            return Err(ArchiveError::Damaged {
                entry: path.clone(),
                expected: diff_id.clone(),
                found: layer.digest,
            });
        }
        found.locations.insert(layer.digest.clone(), location.clone());
        layers.insert(file_path.to_owned(), (layer.clone(), location));
        descriptors.push(layer);
    }
    let config = Descriptor::new(
        media_type::OCI_CONFIG,
        digest_of(&config_bytes),
        config_bytes.len() as u64,
    );
    found
        .locations
        .insert(config.digest.clone(), ContentLocation::Memory(config_bytes));
    let manifest = MadeManifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST,
        config,
        layers: descriptors,
    };
    let bytes = serde_json::to_vec(&manifest).expect("descriptors are strings and numbers, which JSON can hold");
    let root = Descriptor::new(media_type::OCI_MANIFEST, digest_of(&bytes), bytes.len() as u64);
    found
        .locations
        .insert(root.digest.clone(), ContentLocation::Memory(bytes.into()));
    Ok(root)
}
