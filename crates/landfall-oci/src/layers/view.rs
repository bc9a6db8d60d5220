//! A container's view of several layers, limited to the requested paths.

use std::collections::BTreeMap;

use camino::Utf8PathBuf;
use fs_err as fs;

use crate::inner_path::{parent_of, resolve_inside};

/// One file of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractedFile {
    /// The path in the image, without a leading `/`.
    pub path: String,
    /// The extracted file.
    pub content: Utf8PathBuf,
    /// The size in bytes.
    pub size: u64,
}

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Limit of a chain of links: no image needs a longer one.
const LINKS_MAX: usize = 8;

/// A requested path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ViewEntry {
    File {
        content: Utf8PathBuf,
        size: u64,
    },
    /// The target from the image's root. A target outside the image stays as written.
    Link {
        target: String,
    },
}

impl ViewEntry {
    pub(super) fn link(path: &str, target: &str, symbolic: bool) -> ViewEntry {
        let base = if symbolic { parent_of(path) } else { "" };
        let from_root = resolve_inside(base, target);
        ViewEntry::Link {
            target: from_root.unwrap_or_else(|| target.to_owned()),
        }
    }
}

/// The paths of the layers so far, each with the number of its layer.
#[derive(Debug, Default)]
pub(super) struct View {
    paths: BTreeMap<String, (usize, ViewEntry)>,
    layer: usize,
}

impl View {
    pub(super) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// Returns true if an entry is a whiteout, after hiding the paths of lower layers. Paths of the whiteout's own
    /// layer stay, in either order.
    pub(super) fn apply_whiteout(&mut self, path: &str) -> bool {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == OPAQUE {
            self.hide(parent, false);
            return true;
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else {
            return false;
        };
        let hidden = if parent.is_empty() {
            hidden.to_owned()
        } else {
            format!("{parent}/{hidden}")
        };
        self.hide(&hidden, true);
        true
    }

    fn hide(&mut self, path: &str, itself: bool) {
        let layer = self.layer;
        self.retain(|candidate, of_layer| {
            let hidden = is_below(candidate, path) || (itself && candidate == path);
            !hidden || of_layer == layer
        });
    }

    /// Replaces a file of this path by a directory. Paths in the directory stay.
    pub(super) fn put_directory(&mut self, path: &str) {
        self.retain(|candidate, _| candidate != path);
    }

    /// Removes a path and everything below it, before an entry other than a directory replaces it.
    pub(super) fn remove(&mut self, path: &str) {
        self.retain(|candidate, _| candidate != path && !is_below(candidate, path));
    }

    pub(super) fn put(&mut self, path: String, found: ViewEntry) {
        self.paths.insert(path, (self.layer, found));
    }

    fn retain(&mut self, keep: impl Fn(&str, usize) -> bool) {
        self.paths.retain(|path, (layer, found)| {
            let kept = keep(path, *layer);
            if let (false, ViewEntry::File { content, .. }) = (kept, found)
                && let Err(error) = fs::remove_file(&*content)
            {
                tracing::debug!(%error, "a file stays in the work directory until that goes");
            }
            kept
        });
    }

    /// Returns the files by path. A link to one of them adds nothing. A link to any other path is an error, returned as
    /// `(path, target)`.
    pub(super) fn into_files(self) -> Result<Vec<ExtractedFile>, (String, String)> {
        let mut files = Vec::new();
        for (path, (_, found)) in &self.paths {
            match found {
                ViewEntry::File { content, size } => files.push(ExtractedFile {
                    path: path.clone(),
                    content: content.clone(),
                    size: *size,
                }),
                ViewEntry::Link { target } if self.resolves_to_file(target) => {}
                ViewEntry::Link { target } => return Err((path.clone(), target.clone())),
            }
        }
        Ok(files)
    }

    fn resolves_to_file(&self, target: &str) -> bool {
        let mut at = target;
        for _ in 0..LINKS_MAX {
            match self.paths.get(at) {
                Some((_, ViewEntry::File { .. })) => return true,
                Some((_, ViewEntry::Link { target })) => at = target,
                None => return false,
            }
        }
        false
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}
