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

/// Limit of the paths and targets of links that are kept, in number and in bytes.
const PATHS_MAX: usize = 100_000;
const PATHS_SIZE_MAX: usize = 16 * 1024 * 1024;

/// The paths of the layers so far. Each step takes time for the paths that it changes, not for all.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Paths of the layers below the current one.
    lower: BTreeMap<String, ViewEntry>,
    /// Paths of the current layer.
    current: BTreeMap<String, ViewEntry>,
    /// Number of all paths that were put, and their size in bytes.
    count: usize,
    size: usize,
}

impl View {
    pub(super) fn begin_layer(&mut self) {
        self.lower.append(&mut self.current);
    }

    /// Returns true if an entry is a whiteout, after hiding the paths of lower layers. Paths of the whiteout's own
    /// layer stay, in either order.
    pub(super) fn apply_whiteout(&mut self, path: &str) -> bool {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == OPAQUE {
            drop_below(&mut self.lower, parent);
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
        drop_path(&mut self.lower, &hidden);
        drop_below(&mut self.lower, &hidden);
        true
    }

    /// Replaces a file of this path by a directory. Paths in the directory stay.
    pub(super) fn put_directory(&mut self, path: &str) {
        for paths in [&mut self.lower, &mut self.current] {
            drop_path(paths, path);
        }
    }

    /// Removes a path and everything below it, before an entry other than a directory replaces it.
    pub(super) fn remove(&mut self, path: &str) {
        for paths in [&mut self.lower, &mut self.current] {
            drop_path(paths, path);
            drop_below(paths, path);
        }
    }

    /// Keeps a path. Returns false, and keeps nothing, if the image has more than the limits.
    pub(super) fn put(&mut self, path: String, found: ViewEntry) -> bool {
        let target = match &found {
            ViewEntry::File { .. } => 0,
            ViewEntry::Link { target } => target.len(),
        };
        self.count += 1;
        self.size += path.len() + target;
        if self.count > PATHS_MAX || self.size > PATHS_SIZE_MAX {
            return false;
        }
        self.current.insert(path, found);
        true
    }

    /// Returns the files by path. A link to one of them adds nothing. A link to any other path is an error, returned as
    /// `(path, target)`.
    pub(super) fn into_files(mut self) -> Result<Vec<ExtractedFile>, (String, String)> {
        self.begin_layer();
        let mut files = Vec::new();
        for (path, found) in &self.lower {
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
            match self.lower.get(at) {
                Some(ViewEntry::File { .. }) => return true,
                Some(ViewEntry::Link { target }) => at = target,
                None => return false,
            }
        }
        false
    }
}

/// Removes one path.
fn drop_path(paths: &mut BTreeMap<String, ViewEntry>, path: &str) {
    if let Some(found) = paths.remove(path) {
        remove_content(&found);
    }
}

/// Removes all paths below a directory.
fn drop_below(paths: &mut BTreeMap<String, ViewEntry>, directory: &str) {
    if directory.is_empty() {
        std::mem::take(paths).values().for_each(remove_content);
        return;
    }
    // `0` is the character after `/`: the paths between the two are those below the directory.
    let range = format!("{directory}/")..format!("{directory}0");
    paths
        .extract_if(range, |_, _| true)
        .for_each(|(_, found)| remove_content(&found));
}

fn remove_content(found: &ViewEntry) {
    if let ViewEntry::File { content, .. } = found
        && let Err(error) = fs::remove_file(content)
    {
        tracing::debug!(%error, "a file stays in the work directory until that goes");
    }
}
