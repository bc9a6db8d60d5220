//! Copies a bundle's file to a stick: in order, resumed after an interruption, and read back from the device.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::bundle::pieces::PlannedPiece;
use landfall_core::reference::Digest;
use landfall_net::durable::{self, directory_of};
use serde::{Deserialize, Serialize};

use super::error::BundleError;
use super::reader::BundleFile;
use super::writer::check_room;
use crate::pieces::FileSet;

/// Bytes of one read and write.
const CHUNK_SIZE: usize = 4 * 1024 * 1024;
/// Bytes between two notes of the progress. So many are copied again after an interruption.
const NOTED_EVERY: u64 = 64 * 1024 * 1024;

/// Progress of a copy that is not finished.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct CopyState {
    /// The bundle's id.
    bundle: Digest,
    /// Bytes that are on the device.
    bytes: u64,
    pieces: Vec<(String, u64)>,
}

/// Copies a bundle to pieces in the directory of `target`, and verifies what the device then holds. `progress` is told
/// of the bytes of each write. Blocks.
///
/// # Errors
/// If the device has no room, fails, or does not give back what was written. The part that was copied stays for the next
/// attempt, unless it is damaged.
pub fn copy_bundle(
    file: &BundleFile,
    target: &Utf8Path,
    pieces: &[PlannedPiece],
    progress: &dyn Fn(u64),
) -> Result<BundleFile, BundleError> {
    let failed = |source| BundleError::of_write(target, source);
    let directory = directory_of(target);
    let files = FileSet::create(directory, pieces).map_err(failed)?;
    let state_path = Utf8PathBuf::from(format!("{target}.copying"));
    let mut state = load_state(&state_path, file, pieces);
    check_room(target, directory, file.length() - state.bytes)?;
    progress(state.bytes);
    let mut buffer = vec![0; CHUNK_SIZE];
    let mut noted = state.bytes;
    while state.bytes < file.length() {
        let wanted = usize::try_from(file.length() - state.bytes).map_or(CHUNK_SIZE, |left| left.min(CHUNK_SIZE));
        let chunk = &mut buffer[..wanted];
        file.files
            .read_exact_at(chunk, state.bytes)
            .map_err(|error| file.read_error(error))?;
        files.write_all_at(chunk, state.bytes).map_err(failed)?;
        state.bytes += wanted as u64;
        progress(wanted as u64);
        if state.bytes - noted >= NOTED_EVERY {
            files.sync_all().map_err(failed)?;
            save_state(&state_path, &state).map_err(failed)?;
            noted = state.bytes;
        }
    }
    files.sync_all().map_err(failed)?;
    files.drop_cache().map_err(failed)?;
    let copy = match verify(files, target, file) {
        Ok(copy) => copy,
        Err(error) => {
            // None of the bytes can be trusted: the next attempt begins again.
            remove_state(&state_path).map_err(failed)?;
            return Err(error);
        }
    };
    copy.files.publish().map_err(failed)?;
    remove_state(&state_path).map_err(failed)?;
    Ok(copy)
}

fn load_state(path: &Utf8Path, file: &BundleFile, pieces: &[PlannedPiece]) -> CopyState {
    let pieces = pieces.iter().map(|piece| (piece.name.clone(), piece.size)).collect();
    let fresh = CopyState {
        bundle: file.id().clone(),
        bytes: 0,
        pieces,
    };
    // A note that cannot be read, or of another bundle, is of no use: the copy begins again.
    let noted = fs::read(path)
        .ok()
        .and_then(|text| serde_json::from_slice::<CopyState>(&text).ok());
    match noted {
        Some(noted) if noted.bundle == fresh.bundle && noted.pieces == fresh.pieces && noted.bytes <= file.length() => {
            noted
        }
        _ => fresh,
    }
}

fn save_state(path: &Utf8Path, state: &CopyState) -> io::Result<()> {
    durable::replace_file(path, &serde_json::to_vec(state)?)
}

fn remove_state(path: &Utf8Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Verifies the copy before it gets its name.
fn verify(files: FileSet, target: &Utf8Path, original: &BundleFile) -> Result<BundleFile, BundleError> {
    let damaged = |damages| BundleError::DamagedCopy {
        path: target.to_owned(),
        damages,
    };
    let is_other = |error: &BundleError| !matches!(error, BundleError::Read { .. });
    let copy = match BundleFile::from_files(target, files) {
        // The head itself is not as it was written.
        Err(error) if is_other(&error) => return Err(damaged(1)),
        opened => opened?,
    };
    let damages = copy.verify()?.len();
    if damages == 0 && copy.id() == original.id() {
        return Ok(copy);
    }
    match original.verify()?.len() {
        0 => Err(damaged(damages.max(1))),
        damages => Err(BundleError::Damaged {
            path: original.path.clone(),
            damages,
        }),
    }
}
