//! The walk over the manifests of a bundle, before it is written and after it is read. Pure.

use bytes::Bytes;
use landfall_core::oci_types::{Descriptor, ManifestContent, parse_manifest};
use landfall_core::reference::Digest;

/// Limit of the nesting of indexes, as in copies.
const DEPTH_MAX: usize = 8;

/// A stop of the walk.
pub(super) enum Visited<'a> {
    /// A manifest of the bundle; without content if it cannot be parsed, or is an index that is nested too deeply.
    Manifest(&'a Digest, Option<&'a ManifestContent>),
    /// An entry of an index that is not in the bundle.
    LeftOut(&'a Descriptor),
}

/// Visits a manifest and those below it that `find` knows, each after its children.
pub(super) fn walk_manifests<'a>(
    root: &Digest,
    find: &impl Fn(&Digest) -> Option<&'a Bytes>,
    visit: &mut impl FnMut(Visited<'_>),
) {
    walk(root, 0, find, visit);
}

fn walk<'a>(
    digest: &Digest,
    depth: usize,
    find: &impl Fn(&Digest) -> Option<&'a Bytes>,
    visit: &mut impl FnMut(Visited<'_>),
) {
    let Some(bytes) = find(digest) else { return };
    let content = parse_manifest(bytes).ok();
    let content = content.filter(|content| depth < DEPTH_MAX || matches!(content, ManifestContent::Image(_)));
    if let Some(ManifestContent::Index(index)) = &content {
        for entry in &index.manifests {
            match find(&entry.digest).is_some() {
                true => walk(&entry.digest, depth + 1, find, visit),
                false => visit(Visited::LeftOut(entry)),
            }
        }
    }
    visit(Visited::Manifest(digest, content.as_ref()));
}
