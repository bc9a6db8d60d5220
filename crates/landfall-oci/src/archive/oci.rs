//! OCI image layouts in a tar: `index.json` names the images, `blobs/<algorithm>/<hex>` holds them. Archives of
//! `ctr images export` and of recent versions of `docker save` have a `manifest.json` beside it, with more names.

use bytes::Bytes;
use landfall_core::oci_types::{Descriptor, ManifestContent, parse_manifest};
use landfall_core::reference::Digest;

use crate::archive::choice::{EntryNames, entry_names};
use crate::archive::contents::{ArchiveContents, ArchivedImage, ContentLocation, PartialIndex, VisitedManifest};
use crate::archive::docker::ListedImage;
use crate::archive::entries::ArchiveEntries;
use crate::archive::error::ArchiveError;
use crate::digest::{digest_of, matches_digest};
use crate::referrers::{ReferrerMap, is_referrer, name_of};
use crate::store::index::{CONTAINERD_NAME, IndexFile, REF_NAME};

pub(super) const INDEX: &str = "index.json";
/// Limit of the nesting of indexes; deeper manifests count as missing.
const INDEX_DEPTH_MAX: usize = 8;

/// Lists the images of the layout. Entries with the same digest are one image with several names.
pub(super) fn read_images(
    entries: &ArchiveEntries,
    listed: &[ListedImage],
    partial: PartialIndex,
) -> Result<ArchiveContents, ArchiveError> {
    let index: IndexFile = entries.parse_document(INDEX)?;
    let mut found = ArchiveContents {
        partial,
        ..ArchiveContents::default()
    };
    let mut manifests = Vec::new();
    for entry in &index.manifests {
        // `locate` reports missing manifests below.
        manifests.push(read_manifest(entries, &entry.digest).ok());
    }
    found.referrers = ReferrerMap::new(index.manifests.iter().zip(&manifests));
    for (mut root, content) in index.manifests.into_iter().zip(manifests) {
        let is_referrer = is_referrer(name_of(&root), content.as_ref());
        let EntryNames { full, all } = entry_names(&root);
        let (mut names, mut ref_names) = (full, all);
        root.annotations.remove(CONTAINERD_NAME);
        root.annotations.remove(REF_NAME);
        if names.is_empty() {
            names = listed_names(entries, &root, listed)?;
            ref_names.extend(names.iter().cloned());
        }
        let named = root.digest.clone();
        let root = locate(entries, &root, 0, &mut found)?.ok_or_else(|| ArchiveError::Missing {
            entry: blob_path(&named),
            named_by: INDEX.to_owned(),
        })?;
        if is_referrer {
            continue;
        }
        match found.images.iter_mut().find(|known| known.root.digest == root.digest) {
            Some(known) => {
                known.names.extend(names);
                known.ref_names.extend(ref_names);
            }
            None => found.images.push(ArchivedImage {
                names,
                ref_names,
                narrowed_from: (named != root.digest).then_some(named),
                root,
            }),
        }
    }
    Ok(found)
}

/// Returns the names that `manifest.json` gives to the image with this configuration.
fn listed_names(
    entries: &ArchiveEntries,
    root: &Descriptor,
    listed: &[ListedImage],
) -> Result<Vec<String>, ArchiveError> {
    let ManifestContent::Image(manifest) = read_manifest(entries, &root.digest)? else {
        return Ok(Vec::new());
    };
    let config = blob_path(&manifest.config.digest);
    Ok(listed
        .iter()
        .filter(|image| image.config == config)
        .flat_map(|image| image.repo_tags.0.clone())
        .collect())
}

/// Locates all content of a manifest. Returns the manifest, or the narrowed index in its place. Returns `None` if the
/// archive lacks the manifest, or all entries of the index.
fn locate(
    entries: &ArchiveEntries,
    manifest: &Descriptor,
    depth: usize,
    found: &mut ArchiveContents,
) -> Result<Option<Descriptor>, ArchiveError> {
    // Each manifest is visited once: an archive cannot cause an endless walk.
    if let Some(known) = found.visited.get(&manifest.digest) {
        return Ok(known.clone().map(|content| content.named_by(manifest)));
    }
    let visited = locate_new(entries, manifest, depth, found)?;
    let content = visited.as_ref().map(VisitedManifest::of);
    found.visited.insert(manifest.digest.clone(), content);
    Ok(visited)
}

fn locate_new(
    entries: &ArchiveEntries,
    manifest: &Descriptor,
    depth: usize,
    found: &mut ArchiveContents,
) -> Result<Option<Descriptor>, ArchiveError> {
    let path = blob_path(&manifest.digest);
    if !entries.contains(&path) || depth > INDEX_DEPTH_MAX {
        return Ok(None);
    }
    match read_manifest(entries, &manifest.digest)? {
        ManifestContent::Image(image) => {
            for child in std::iter::once(&image.config).chain(&image.layers) {
                let child_path = blob_path(&child.digest);
                if child.is_foreign() && !entries.contains(&child_path) {
                    continue;
                }
                let extent = entries.extent(&child_path, manifest.digest.as_str())?;
                found
                    .locations
                    .insert(child.digest.clone(), ContentLocation::Archive(extent));
            }
        }
        ManifestContent::Index(index) => {
            let mut available = Vec::new();
            for child in &index.manifests {
                available.push(locate(entries, child, depth + 1, found)?);
            }
            let is_whole = available.iter().flatten().eq(&index.manifests);
            if available.iter().all(Option::is_none) && !index.manifests.is_empty() {
                return Ok(None);
            }
            if !is_whole && found.partial == PartialIndex::Narrowed {
                return narrow(entries, manifest, available, found).map(Some);
            }
        }
    }
    let extent = entries.extent(&path, INDEX)?;
    found
        .locations
        .insert(manifest.digest.clone(), ContentLocation::Archive(extent));
    Ok(Some(manifest.clone()))
}

/// Returns the same index without the entries that are not available. An entry that is an index may itself be narrowed.
fn narrow(
    entries: &ArchiveEntries,
    index: &Descriptor,
    available: Vec<Option<Descriptor>>,
    found: &mut ArchiveContents,
) -> Result<Descriptor, ArchiveError> {
    let mut document: serde_json::Value = entries.parse_document(&blob_path(&index.digest))?;
    // Entries keep the fields that this program does not read.
    let all = document["manifests"].as_array().cloned().unwrap_or_default();
    let narrowed_entries = all.into_iter().zip(available).filter_map(|(mut entry, available)| {
        let available = available?;
        entry["digest"] = available.digest.as_str().into();
        entry["size"] = available.size.into();
        Some(entry)
    });
    document["manifests"] = narrowed_entries.collect();
    let bytes = Bytes::from(document.to_string());
    let mut narrowed = index.clone();
    narrowed.digest = digest_of(&bytes);
    narrowed.size = bytes.len() as u64;
    found
        .locations
        .insert(narrowed.digest.clone(), ContentLocation::Memory(bytes));
    Ok(narrowed)
}

fn read_manifest(entries: &ArchiveEntries, digest: &Digest) -> Result<ManifestContent, ArchiveError> {
    let path = blob_path(digest);
    let bytes = entries.read_document(&path, INDEX)?;
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

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}
