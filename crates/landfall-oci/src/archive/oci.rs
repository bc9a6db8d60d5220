//! OCI image layouts in a tar: `index.json` names the images, `blobs/<algorithm>/<hex>` holds them. Archives of
//! `ctr images export` and of recent versions of `docker save` have a `manifest.json` beside it, with more names.

use landfall_core::oci_types::{Descriptor, ManifestContent, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};

use crate::archive::docker::ListedImage;
use crate::archive::entries::Entries;
use crate::archive::source::Place;
use crate::archive::{ArchiveError, Found};
use crate::digest::{digest_of, matches_digest};
use crate::store::index::{CONTAINERD_NAME, IndexFile, REF_NAME};

pub(super) const INDEX: &str = "index.json";

/// Lists the images of the layout. Entries of one digest with several names are one image.
pub(super) fn read_images(entries: &Entries, listed: &[ListedImage]) -> Result<Found, ArchiveError> {
    let index: IndexFile = entries.parse_document(INDEX)?;
    let mut found = Found::default();
    for mut root in index.manifests {
        let mut names = names_of(&root);
        root.annotations.remove(CONTAINERD_NAME);
        root.annotations.remove(REF_NAME);
        if names.is_empty() {
            names = listed_names(entries, &root, listed)?;
        }
        match found.images.iter_mut().find(|(_, known)| known.digest == root.digest) {
            Some((known, _)) => known.extend(names),
            None => {
                walk(entries, &root, &mut found)?;
                found.images.push((names, root));
            }
        }
    }
    Ok(found)
}

/// A full reference in an annotation is a name. `org.opencontainers.image.ref.name` may also be a mere tag, which is not.
fn names_of(root: &Descriptor) -> Vec<String> {
    let containerd = root.annotations.get(CONTAINERD_NAME);
    let reference = root
        .annotations
        .get(REF_NAME)
        .filter(|name| name.contains(['/', ':']) && name.parse::<ImageReference>().is_ok());
    containerd.or(reference).cloned().into_iter().collect()
}

/// The names that `manifest.json` gives to the image with this configuration.
fn listed_names(entries: &Entries, root: &Descriptor, listed: &[ListedImage]) -> Result<Vec<String>, ArchiveError> {
    let ManifestContent::Image(manifest) = read_manifest(entries, &root.digest)? else {
        return Ok(Vec::new());
    };
    let config = blob_path(&manifest.config.digest);
    Ok(listed
        .iter()
        .filter(|image| image.config == config)
        .flat_map(|image| image.repo_tags.clone().unwrap_or_default())
        .collect())
}

/// Finds the place of everything under a manifest. An index may name images of other platforms that are not there: that
/// is how an export of one platform looks.
fn walk(entries: &Entries, root: &Descriptor, found: &mut Found) -> Result<(), ArchiveError> {
    let mut pending = vec![root.clone()];
    while let Some(manifest) = pending.pop() {
        let path = blob_path(&manifest.digest);
        if found.contents.contains_key(&manifest.digest) {
            continue;
        }
        let content = read_manifest(entries, &manifest.digest)?;
        found
            .contents
            .insert(manifest.digest.clone(), Place::Archive(entries.extent(&path, INDEX)?));
        let in_index = matches!(content, ManifestContent::Index(_));
        for child in content.children() {
            let child_path = blob_path(&child.digest);
            if (in_index || child.is_foreign()) && !entries.contains(&child_path) {
                continue;
            }
            if child.is_manifest() {
                pending.push(child.clone());
            } else {
                let extent = entries.extent(&child_path, manifest.digest.as_str())?;
                found.contents.insert(child.digest.clone(), Place::Archive(extent));
            }
        }
    }
    Ok(())
}

fn read_manifest(entries: &Entries, digest: &Digest) -> Result<ManifestContent, ArchiveError> {
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
