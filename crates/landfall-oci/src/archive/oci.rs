//! OCI image layouts in a tar: `index.json` names the images, `blobs/<algorithm>/<hex>` holds them. Archives of
//! `ctr images export`, of hauler and of recent versions of `docker save` have a `manifest.json` beside it, with more
//! names. zarf keeps its layout in a directory.

use bytes::Bytes;
use landfall_core::oci_types::{Descriptor, ManifestContent, narrow_index, parse_manifest};
use landfall_core::reference::Digest;

use crate::archive::choice::{EntryNames, entry_names};
use crate::archive::contents::{ArchiveContents, ArchivedImage, ContentLocation, PartialIndex, VisitedManifest};
use crate::archive::docker::ListedImage;
use crate::archive::error::ArchiveError;
use crate::archive::files::ArchiveFiles;
use crate::digest::{digest_of, matches_digest};
use crate::layout_files::{INDEX, blob_path};
use crate::referrers::{ReferrerMap, is_referrer, name_of};
use crate::store::index::{CONTAINERD_NAME, IndexFile, REF_NAME};

/// The file at the root of zarf's packages.
const ZARF_PACKAGE: &str = "zarf.yaml";
/// Annotation with the full name of an image in zarf's packages. Elsewhere it names the image that it was built from.
const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// Annotation of Palette's bundles: `stylus` is the host agent, `spc` a cluster definition.
const PALETTE_KIND: &str = "io.image.ref.spectrocloud.type";
/// Limit of the nesting of indexes; deeper manifests count as missing.
const INDEX_DEPTH_MAX: usize = 8;

/// A layout inside of an archive.
struct Layout<'a, A> {
    entries: &'a A,
    /// The layout's directory, empty or with `/` at its end.
    root: &'a str,
}

/// Lists the images of the layout in the directory `root`. Entries with the same digest are one image with several
/// names.
pub(super) fn read_images(
    entries: &impl ArchiveFiles,
    root: &str,
    listed: &[ListedImage],
    partial: PartialIndex,
) -> Result<ArchiveContents, ArchiveError> {
    let layout = Layout { entries, root };
    let index: IndexFile = entries.parse_document(&format!("{root}{INDEX}"))?;
    let is_zarf = entries.contains(ZARF_PACKAGE);
    let mut found = ArchiveContents {
        partial,
        ..ArchiveContents::default()
    };
    let mut manifests = Vec::new();
    for entry in &index.manifests {
        // `locate` reports missing manifests below.
        manifests.push(layout.read_manifest(&entry.digest).ok());
    }
    found.referrers = ReferrerMap::new(index.manifests.iter().zip(&manifests));
    for (mut image, content) in index.manifests.into_iter().zip(manifests) {
        let is_referrer = is_referrer(name_of(&image), content.as_ref());
        if is_zarf && let Some(name) = image.annotations.get(BASE_NAME).cloned() {
            image.annotations.entry(REF_NAME.to_owned()).or_insert(name);
        }
        let EntryNames { full, all } = entry_names(&image);
        let (mut names, mut ref_names) = (full, all);
        let kind = image.annotations.remove(PALETTE_KIND);
        image.annotations.remove(CONTAINERD_NAME);
        image.annotations.remove(REF_NAME);
        if names.is_empty() {
            names = layout.listed_names(&image, listed)?;
            ref_names.extend(names.iter().cloned());
        }
        let named = image.digest.clone();
        let located = layout.locate(&image, 0, &mut found)?;
        let image = located.ok_or_else(|| ArchiveError::Missing {
            entry: layout.blob_path(&named),
            named_by: INDEX.to_owned(),
        })?;
        if is_referrer {
            continue;
        }
        match found.images.iter_mut().find(|known| known.root.digest == image.digest) {
            Some(known) => {
                known.names.extend(names);
                known.ref_names.extend(ref_names);
            }
            None => found.images.push(ArchivedImage {
                names,
                ref_names,
                narrowed_from: (named != image.digest).then_some(named),
                root: image,
                kind,
            }),
        }
    }
    Ok(found)
}

impl<A: ArchiveFiles> Layout<'_, A> {
    /// Returns the names that `manifest.json` gives to the image with this configuration.
    fn listed_names(&self, root: &Descriptor, listed: &[ListedImage]) -> Result<Vec<String>, ArchiveError> {
        let ManifestContent::Image(manifest) = self.read_manifest(&root.digest)? else {
            return Ok(Vec::new());
        };
        let config = self.blob_path(&manifest.config.digest);
        Ok(listed
            .iter()
            .filter(|image| image.config == config)
            .flat_map(|image| image.repo_tags.0.clone())
            .collect())
    }

    /// Locates all content of a manifest. Returns the manifest, or the narrowed index in its place. Returns `None` if the
    /// archive lacks the manifest, or all entries of the index.
    fn locate(
        &self,
        manifest: &Descriptor,
        depth: usize,
        found: &mut ArchiveContents,
    ) -> Result<Option<Descriptor>, ArchiveError> {
        // Each manifest is visited once: an archive cannot cause an endless walk.
        if let Some(known) = found.visited.get(&manifest.digest) {
            return Ok(known.clone().map(|content| content.named_by(manifest)));
        }
        let visited = self.locate_new(manifest, depth, found)?;
        let content = visited.as_ref().map(VisitedManifest::of);
        found.visited.insert(manifest.digest.clone(), content);
        Ok(visited)
    }

    fn locate_new(
        &self,
        manifest: &Descriptor,
        depth: usize,
        found: &mut ArchiveContents,
    ) -> Result<Option<Descriptor>, ArchiveError> {
        let path = self.blob_path(&manifest.digest);
        if !self.entries.contains(&path) || depth > INDEX_DEPTH_MAX {
            return Ok(None);
        }
        match self.read_manifest(&manifest.digest)? {
            ManifestContent::Image(image) => {
                for child in std::iter::once(&image.config).chain(&image.layers) {
                    let child_path = self.blob_path(&child.digest);
                    if child.is_foreign() && !self.entries.contains(&child_path) {
                        continue;
                    }
                    self.add_location(child, &child_path, manifest.digest.as_str(), found)?;
                }
            }
            ManifestContent::Index(index) => {
                let mut available = Vec::new();
                for child in &index.manifests {
                    available.push(self.locate(child, depth + 1, found)?);
                }
                let is_whole = available.iter().flatten().eq(&index.manifests);
                if available.iter().all(Option::is_none) && !index.manifests.is_empty() {
                    return Ok(None);
                }
                if !is_whole && found.partial == PartialIndex::Narrowed {
                    return self.narrow(manifest, available, found).map(Some);
                }
            }
        }
        self.add_location(manifest, &path, INDEX, found)?;
        Ok(Some(manifest.clone()))
    }

    fn add_location(
        &self,
        content: &Descriptor,
        path: &str,
        named_by: &str,
        found: &mut ArchiveContents,
    ) -> Result<(), ArchiveError> {
        let (_, file) = self.entries.find(path, named_by)?;
        let location = self.entries.location(file, path)?;
        found.locations.insert(content.digest.clone(), location);
        Ok(())
    }

    /// Returns the same index without the entries that are not available. An entry that is an index may itself be narrowed.
    fn narrow(
        &self,
        index: &Descriptor,
        available: Vec<Option<Descriptor>>,
        found: &mut ArchiveContents,
    ) -> Result<Descriptor, ArchiveError> {
        let path = self.blob_path(&index.digest);
        let document = self.entries.read_document(&path, INDEX)?;
        let narrowed = narrow_index(&document, available);
        let bytes = Bytes::from(narrowed.map_err(|source| ArchiveError::Document { entry: path, source })?);
        let mut narrowed = index.clone();
        narrowed.digest = digest_of(&bytes);
        narrowed.size = bytes.len() as u64;
        found
            .locations
            .insert(narrowed.digest.clone(), ContentLocation::Memory(bytes));
        Ok(narrowed)
    }

    fn read_manifest(&self, digest: &Digest) -> Result<ManifestContent, ArchiveError> {
        let path = self.blob_path(digest);
        let bytes = self.entries.read_document(&path, INDEX)?;
        if !matches_digest(&bytes, digest) {
            return Err(ArchiveError::Damaged {
                entry: path,
                expected: digest.clone(),
                found: digest_of(&bytes),
            });
        }
        parse_manifest(&bytes).map_err(|source| ArchiveError::Manifest {
            digest: digest.clone(),
            source,
        })
    }

    fn blob_path(&self, digest: &Digest) -> String {
        format!("{}{}", self.root, blob_path(digest))
    }
}
