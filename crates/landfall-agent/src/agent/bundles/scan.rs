//! Finds the files in a directory that may be bundles. Every file is asked by its content; only the pieces of a split
//! file are told by their names.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::foreign::{FileStamp, StampedFile};
use landfall_core::bundle::pieces::{PieceSet, find_pieces, parse_piece_name};
use landfall_core::bundle::trust::{DOCUMENT_SIZE_MAX, parse_key_document};
use landfall_oci::archive::may_be_archive;
use landfall_oci::bundle::signature::detached_name;
use landfall_oci::bundle::{BundleError, BundleFile};

use super::keys::FoundKey;

/// Directory of bundles on Palette's partition `COS_CONTENT`.
const BELOW: &str = "bundle-content";
/// Files of one directory that are looked at.
const FILES_MAX: usize = 1000;
/// Key documents that are looked at: the work grows with the square of their number.
const KEYS_MAX: usize = 64;
/// Endings of files beside bundles.
const NOT_BUNDLES: [&str; 4] = [".json", ".bin", ".partial", ".sig"];
/// Endings of files that the agent writes beside bundles, and of unfinished ones.
pub(super) const OWN_FILES: [&str; 4] = [".receipt.json", ".receipt.sig", ".needs.json", ".partial"];

/// A bundle, or a file that is to become one.
#[derive(Debug)]
pub(super) struct Sighting {
    /// The file, or the first of its pieces.
    pub(super) path: Utf8PathBuf,
    pub(super) stamp: FileStamp,
    pub(super) result: Result<Arc<BundleFile>, BundleError>,
}

/// An archive that is no bundle of ours.
#[derive(Debug, Clone)]
pub(super) struct ForeignSighting {
    /// The file, or the first of its pieces.
    pub(super) path: Utf8PathBuf,
    /// Its pieces, in order.
    pieces: Vec<Utf8PathBuf>,
    /// The place of its detached signature.
    pub(super) signature: Utf8PathBuf,
    /// In bytes, with all pieces.
    pub(super) size: u64,
    pub(super) stamp: FileStamp,
}

impl ForeignSighting {
    fn new(path: Utf8PathBuf, pieces: Vec<Utf8PathBuf>, whole: &str) -> io::Result<ForeignSighting> {
        let signature = path.with_file_name(detached_name(whole));
        let stamp = stamp_of(&pieces, &signature)?;
        Ok(ForeignSighting {
            size: stamp.files.iter().take(pieces.len()).map(|file| file.size).sum(),
            path,
            pieces,
            signature,
            stamp,
        })
    }

    /// Returns true if the files are no longer those that were found. Blocks.
    pub(super) fn has_changed(&self) -> bool {
        !matches!(stamp_of(&self.pieces, &self.signature), Ok(stamp) if stamp == self.stamp)
    }
}

/// Returns sizes and times of pieces and of their signature, if there is one.
fn stamp_of(pieces: &[Utf8PathBuf], signature: &Utf8Path) -> io::Result<FileStamp> {
    let stamp = |path: &Utf8Path| {
        let found = fs::metadata(path)?;
        let seconds = found.mtime().saturating_mul(1_000_000_000);
        Ok(StampedFile {
            name: path.file_name().unwrap_or_default().to_owned(),
            size: found.len(),
            modified: seconds.saturating_add(found.mtime_nsec()),
        })
    };
    let mut files = pieces.iter().map(|path| stamp(path)).collect::<io::Result<Vec<_>>>()?;
    files.extend(stamp(signature).ok());
    Ok(FileStamp { files })
}

/// The files in the places of bundles.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) bundles: Vec<Sighting>,
    pub(super) foreign: Vec<ForeignSighting>,
    /// Documents that bring a new key.
    pub(super) keys: Vec<FoundKey>,
}

/// Looks into directories, not into those below them. One that is missing has no bundles. Files that are no archives are
/// left out. Blocks.
pub(super) fn find_bundles(directories: &[Utf8PathBuf]) -> Found {
    let below = directories.iter().map(|directory| directory.join(BELOW));
    let directories = directories.iter().cloned().chain(below);
    let mut found = Found::default();
    directories.for_each(|directory| {
        find_in(&directory, &mut found);
        find_keys(&directory, &mut found.keys);
    });
    found
}

/// Finds the key documents in a directory. Other files of JSON are left out.
fn find_keys(directory: &Utf8Path, found: &mut Vec<FoundKey>) {
    let names = list_files(directory, &OWN_FILES);
    for name in names.iter().filter(|name| name.ends_with(".json")) {
        if found.len() == KEYS_MAX {
            return;
        }
        let path = directory.join(name);
        let mut bytes = Vec::new();
        let read = fs::File::open(&path).and_then(|file| {
            let limit = DOCUMENT_SIZE_MAX as u64 + 1;
            file.take(limit).read_to_end(&mut bytes)
        });
        if read.is_ok()
            && let Ok(document) = parse_key_document(&bytes)
        {
            found.push(FoundKey { path, document });
        }
    }
}

fn find_in(directory: &Utf8Path, found: &mut Found) {
    let names = list_files(directory, &NOT_BUNDLES);
    let mut sets = BTreeMap::new();
    for name in &names {
        let alone = || (name.clone(), (vec![name.clone()], name.clone()));
        let set = match parse_piece_name(name) {
            None => None,
            Some(_) => find_pieces(name, names.iter().map(String::as_str)).ok().flatten(),
        };
        let (first, set) = match set {
            None => alone(),
            Some(PieceSet { whole, pieces, .. }) => match pieces.first() {
                None => alone(),
                Some(first) => (first.clone(), (pieces, whole)),
            },
        };
        sets.insert(directory.join(first), set);
    }
    for (path, (pieces, whole)) in sets {
        let pieces: Vec<_> = pieces.iter().map(|piece| directory.join(piece)).collect();
        match BundleFile::open(&path) {
            Err(error) if is_foreign(&error) => {
                // A file that vanishes meanwhile is none.
                if matches!(may_be_archive(&path), Ok(true)) {
                    found.foreign.extend(ForeignSighting::new(path, pieces, &whole).ok());
                }
            }
            result => {
                let signature = path.with_file_name(detached_name(&whole));
                let stamp = stamp_of(&pieces, &signature).unwrap_or_default();
                found.bundles.push(Sighting { path, stamp, result });
            }
        }
    }
}

/// Returns true if a file is no bundle of ours, or too short to tell.
fn is_foreign(error: &BundleError) -> bool {
    match error {
        BundleError::Foreign { .. } => true,
        BundleError::Read { source, .. } => source.kind() == io::ErrorKind::UnexpectedEof,
        _ => false,
    }
}

/// Returns the names of the regular files of a directory without these endings, in order.
pub(super) fn list_files(directory: &Utf8Path, without: &[&str]) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let is_file = fs::metadata(entry.path()).is_ok_and(|found| found.is_file());
        let name = entry.file_name().into_string().ok()?;
        let is_other = name.starts_with('.') || without.iter().any(|ending| name.ends_with(ending));
        (is_file && !is_other).then_some(name)
    });
    let mut names: Vec<String> = names.take(FILES_MAX).collect();
    names.sort();
    names
}
