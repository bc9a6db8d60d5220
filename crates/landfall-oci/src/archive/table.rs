//! A tar's table of contents: what is at each path, within bounds. Links are resolved inside the table only.

use std::collections::HashMap;

use crate::archive::error::{ArchiveError, EntryProblem};
use crate::inner_path::{entry_path, parent_of, path_text, resolve_inside};
use crate::layout_files::{INDEX, LAYOUT_FILE};
use crate::tar_reader::{EntryKind, Segment, TarEntry};

/// Limit of the entries: no archive of images has more.
const ENTRIES_MAX: usize = 100_000;
/// Limit of the memory that the table takes, in bytes: paths, targets of links, and maps of sparse files.
const TABLE_SIZE_MAX: usize = 32 * 1024 * 1024;
/// Limit of a chain of links: no archive of images has a longer one.
const LINKS_MAX: usize = 8;

#[derive(Debug)]
enum Listed<F> {
    File(F),
    /// The target's path from the archive's root; `None` if it leads out of the archive.
    Link(Option<String>),
    /// A device, a pipe or the like.
    Other,
}

/// The entries of an archive by path. `F` is the location of a file's content.
#[derive(Debug)]
pub(super) struct EntryTable<F> {
    listed: HashMap<String, Listed<F>>,
    size: usize,
}

impl<F> Default for EntryTable<F> {
    fn default() -> EntryTable<F> {
        EntryTable {
            listed: HashMap::new(),
            size: 0,
        }
    }
}

impl<F> EntryTable<F> {
    /// Checks an entry before its content is read, and returns its path in the table. Returns `None` for directories.
    ///
    /// # Errors
    /// If the path leads out of the archive, or the table is full.
    pub(super) fn check(&mut self, entry: &TarEntry) -> Result<Option<String>, ArchiveError> {
        if entry.kind == EntryKind::Directory {
            return Ok(None);
        }
        let path = path_text(&entry.path);
        let refuse = |problem| ArchiveError::Entry {
            entry: shortened(&path),
            problem,
        };
        self.size = self.size.saturating_add(memory_of(entry));
        if self.listed.len() >= ENTRIES_MAX || self.size > TABLE_SIZE_MAX {
            return Err(refuse(EntryProblem::Count));
        }
        let inside = (!path.starts_with('/')).then(|| entry_path(&path)).flatten();
        inside.map(Some).ok_or_else(|| refuse(EntryProblem::Path))
    }

    /// Adds an entry at its checked path. `file` is the content of a file, `None` of anything else.
    ///
    /// A path may be there twice: the later entry replaces the earlier one, as when tar unpacks. GNU tar writes a file
    /// that it is given twice as a link to itself.
    pub(super) fn insert(&mut self, path: String, entry: &TarEntry, file: Option<F>) {
        let listed = match (entry.kind, file) {
            (_, Some(file)) => Listed::File(file),
            (EntryKind::Symlink, None) => Listed::Link(target_inside(parent_of(&path), &entry.target)),
            (EntryKind::HardLink, None) => Listed::Link(target_inside("", &entry.target)),
            (EntryKind::File | EntryKind::Directory | EntryKind::Other, None) => Listed::Other,
        };
        let is_itself = matches!(&listed, Listed::Link(Some(target)) if *target == path);
        if !is_itself || !self.listed.contains_key(&path) {
            self.listed.insert(path, listed);
        }
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        self.listed.contains_key(path)
    }

    /// Returns the directory of the image layout, empty or with `/` at its end. It is the root of most archives; zarf
    /// has `images/`. Returns `None` if there is no layout, or several.
    pub(super) fn layout_root(&self) -> Option<String> {
        if self.contains(INDEX) {
            return Some(String::new());
        }
        let is_layout = |root: &&str| root.ends_with('/') && self.contains(&format!("{root}{LAYOUT_FILE}"));
        let mut roots = self
            .listed
            .keys()
            .filter_map(|path| path.strip_suffix(INDEX))
            .filter(is_layout);
        let root = roots.next()?.to_owned();
        roots.next().is_none().then_some(root)
    }

    /// Returns a file and its path; links are followed. Returns `Ok(None)` if no entry has the path.
    ///
    /// # Errors
    /// If the entry is no file, or a link that leads to none.
    pub(super) fn file(&self, path: &str) -> Result<Option<(&str, &F)>, ArchiveError> {
        let refuse = |problem| ArchiveError::Entry {
            entry: shortened(path),
            problem,
        };
        let Some(inside) = entry_path(path) else {
            return Ok(None);
        };
        let Some((mut at, mut listed)) = self.listed.get_key_value(&inside) else {
            return Ok(None);
        };
        for _ in 0..LINKS_MAX {
            match listed {
                Listed::File(file) => return Ok(Some((at, file))),
                Listed::Other => return Err(refuse(EntryProblem::Kind)),
                Listed::Link(target) => {
                    let next = target.as_ref().and_then(|target| self.listed.get_key_value(target));
                    (at, listed) = next.ok_or_else(|| refuse(EntryProblem::Link))?;
                }
            }
        }
        Err(refuse(EntryProblem::Link))
    }
}

/// Returns the memory that an entry takes in the table, in bytes.
fn memory_of(entry: &TarEntry) -> usize {
    entry.path.len() + entry.target.len() + entry.segments.len() * size_of::<Segment>()
}

fn target_inside(base: &str, target: &[u8]) -> Option<String> {
    let target = path_text(target);
    (!target.starts_with('/'))
        .then(|| resolve_inside(base, &target))
        .flatten()
}

/// Returns a path for a message.
pub(super) fn shortened(path: &str) -> String {
    const SHOWN_MAX: usize = 200;
    match path.char_indices().nth(SHOWN_MAX) {
        None => path.to_owned(),
        Some((end, _)) => format!("{}…", &path[..end]),
    }
}
