//! The walk from an image's top manifest to all its content.

use std::cmp::Reverse;
use std::collections::HashSet;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::Digest;

use super::job::CopyJob;
use crate::image::{RawManifest, TransferError};

/// Limit of the manifests of one image. The largest public indexes have some dozens.
pub(super) const MANIFESTS_MAX: usize = 1000;
/// Limit of the nesting of indexes.
pub(super) const DEPTH_MAX: usize = 8;
/// Manifests fetched at once.
const FETCHES_MAX: usize = 4;

/// The content of an image, without its top manifest.
#[derive(Debug, Default)]
pub(super) struct Graph {
    /// Manifests and indexes, each after its children.
    pub(super) manifests: Vec<RawManifest>,
    /// Configurations and layers, without duplicates.
    pub(super) blobs: Vec<Descriptor>,
    /// True if entries of an index are omitted.
    pub(super) omits_entries: bool,
    /// Selected index entries missing from the source by construction: platform, or digest if it has none.
    pub(super) lacking: Vec<String>,
    /// True if foreign layers are omitted.
    pub(super) omits_foreign_layers: bool,
    /// The platforms of the index entries.
    offered: Vec<Platform>,
    /// Content that is in the graph, by role: an artifact may keep a manifest of the image as a layer.
    seen: HashSet<(Digest, GraphRole)>,
}

/// Role in which content is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum GraphRole {
    Manifest,
    Blob,
}

impl CopyJob<'_> {
    pub(super) async fn fetch_manifest(&self, selector: &str) -> Result<RawManifest, TransferError> {
        self.retrying(&self.image, || self.source.fetch_manifest(selector))
            .await
    }

    pub(super) async fn walk(&self, root: &RawManifest, platforms: &[Platform]) -> Result<Graph, TransferError> {
        let mut graph = Graph::default();
        self.walk_below(root, platforms, 0, &mut graph).await?;
        self.require_one(platforms, &graph.offered)?;
        // The largest blobs take longest: started first, they end together with the others.
        graph.blobs.sort_by_key(|blob| Reverse(blob.size));
        Ok(graph)
    }

    fn walk_below<'a>(
        &'a self,
        manifest: &'a RawManifest,
        platforms: &'a [Platform],
        depth: usize,
        graph: &'a mut Graph,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        Box::pin(async move {
            let content = parse_manifest(&manifest.bytes).map_err(|error| TransferError {
                attempt: format!("cannot copy manifest `{}` of `{}`", manifest.digest, self.image),
                kind: FailureKind::Protocol,
                source: Some(Box::new(error)),
            })?;
            let children: Vec<_> = match &content {
                ManifestContent::Index(index) => {
                    let available = self.available(index);
                    graph.offered.extend(available.platforms().cloned());
                    let entries: Vec<_> = available.parts_for(platforms).into_iter().cloned().collect();
                    graph.omits_entries |= entries.len() < index.manifests.len();
                    graph.lacking.extend(self.lacking(index, platforms));
                    entries
                }
                ManifestContent::Image(_) => {
                    graph.omits_foreign_layers |= content.children().any(is_omitted_layer);
                    content
                        .children()
                        .filter(|child| !is_omitted_layer(child))
                        .cloned()
                        .collect()
                }
            };
            let role = match &content {
                ManifestContent::Index(_) => GraphRole::Manifest,
                ManifestContent::Image(_) => GraphRole::Blob,
            };
            let new: Vec<_> = children
                .into_iter()
                .filter(|child| graph.seen.insert((child.digest.clone(), role)))
                .collect();
            let ManifestContent::Index(index) = &content else {
                graph.blobs.extend(new);
                return Ok(());
            };
            if depth >= DEPTH_MAX || graph.manifests.len() + new.len() > MANIFESTS_MAX {
                return Err(self.too_large());
            }
            let fetches: Vec<_> = new
                .iter()
                .map(|entry| self.fetch_manifest(entry.digest.as_str()))
                .collect();
            let children: Result<Vec<_>, _> = stream::iter(fetches).buffered(FETCHES_MAX).try_collect().await;
            let children = match children {
                Ok(children) => children,
                Err(error) => return Err(self.explain_missing(index, platforms, error).await),
            };
            for child in children {
                self.walk_below(&child, platforms, depth + 1, graph).await?;
                graph.manifests.push(child);
            }
            Ok(())
        })
    }

    fn too_large(&self) -> TransferError {
        TransferError {
            attempt: format!(
                "cannot copy `{}`: it has more than {MANIFESTS_MAX} manifests or more than {DEPTH_MAX} indexes in one another",
                self.image
            ),
            kind: FailureKind::Protocol,
            source: None,
        }
    }
}

/// Returns true if a layer must not be distributed and names its URLs. A foreign layer without a URL is copied like any
/// other.
fn is_omitted_layer(layer: &Descriptor) -> bool {
    layer.is_foreign() && !layer.urls.is_empty()
}
