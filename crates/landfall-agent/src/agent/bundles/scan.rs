//! Finds the files in a directory that may be bundles. Every file is asked by its content; only the pieces of a split
//! file are told by their names.

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::pieces::{find_pieces, parse_piece_name};
use landfall_oci::bundle::{BundleError, BundleFile};

/// Directory of bundles on Palette's partition `COS_CONTENT`.
const BELOW: &str = "bundle-content";
/// Files of one directory that are looked at.
const FILES_MAX: usize = 1000;
/// Endings of files of ours beside bundles.
const NOT_BUNDLES: [&str; 4] = [".json", ".bin", ".partial", ".sig"];

/// A bundle, or a file that is to become one.
#[derive(Debug)]
pub(super) struct Sighting {
    /// The file, or the first of its pieces.
    pub(super) path: Utf8PathBuf,
    pub(super) result: Result<Arc<BundleFile>, BundleError>,
}

/// Looks into directories, not into those below them. One that is missing has no bundles. Files of other kinds are left
/// out. Blocks.
pub(super) fn find_bundles(directories: &[Utf8PathBuf]) -> Vec<Sighting> {
    let below = directories.iter().map(|directory| directory.join(BELOW));
    let directories = directories.iter().cloned().chain(below);
    directories.flat_map(|directory| find_in(&directory)).collect()
}

fn find_in(directory: &Utf8Path) -> Vec<Sighting> {
    let names = list_files(directory);
    let mut paths = BTreeSet::new();
    for name in &names {
        let first = match parse_piece_name(name) {
            None => name.clone(),
            Some(_) => match find_pieces(name, names.iter().map(String::as_str)) {
                Ok(Some(set)) => set.pieces.into_iter().next().unwrap_or_else(|| name.clone()),
                Ok(None) | Err(_) => name.clone(),
            },
        };
        paths.insert(directory.join(first));
    }
    let sightings = paths.into_iter().map(|path| {
        let result = BundleFile::open(&path);
        Sighting { path, result }
    });
    sightings
        .filter(|sighting| !matches!(sighting.result, Err(BundleError::Foreign { .. })))
        .collect()
}

/// Returns the names of the regular files of a directory, in order.
pub(super) fn list_files(directory: &Utf8Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_file = fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
        let name = entry.file_name().into_string().ok()?;
        let is_other = name.starts_with('.') || NOT_BUNDLES.iter().any(|ending| name.ends_with(ending));
        (is_file && !is_other).then_some(name)
    });
    let mut names: Vec<String> = names.take(FILES_MAX).collect();
    names.sort();
    names
}
