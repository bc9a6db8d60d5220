//! Repairs a damaged bundle in place: from another bundle that has the damaged blobs, and by arithmetic for the rest.

use std::sync::Arc;

use camino::Utf8Path;
use landfall_core::bundle::seek_table::{SeekEntry, render_seek_table};
use landfall_core::reference::Digest;

use super::error::BundleError;
use super::placement::{BundleForm, PlacedBlob};
use super::reader::BundleFile;
use super::stored_writer::StoredWriter;
use super::verification::{BundleDamage, DamagedPart};
use crate::pieces::FileSet;
use crate::store::error::StoreError;
use crate::store::receive::ByteReceiver as _;

/// Bytes of one read from the other bundle.
const READ_SIZE: u64 = 1024 * 1024;

/// Result of a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleRepair {
    /// Blobs that are whole again.
    pub repaired: Vec<Digest>,
    /// Damages that stay.
    pub left: Vec<BundleDamage>,
}

/// Repairs the bundle at `path` with the blobs of another one. Headers, end and seek table need no other bundle. Blocks.
///
/// # Errors
/// If the head is damaged, or the disk fails. Whole parts are never written to.
pub fn repair_bundle(path: &Utf8Path, patch: Option<&BundleFile>) -> Result<BundleRepair, BundleError> {
    let failed = |source| BundleError::of_write(path, source);
    let file = BundleFile::open(path)?;
    let files = Arc::new(FileSet::open_write(path).map_err(failed)?);
    let mut repaired = Vec::new();
    for damage in file.verify()? {
        match &damage.part {
            DamagedPart::Blob { digest, .. } => {
                if let (Some((number, blob)), Some(patch)) = (file.placement.find(digest), patch)
                    && write_again(&file, &files, number, blob, patch)?
                {
                    repaired.push(digest.clone());
                }
            }
            DamagedPart::Header { digest } => {
                if let Some((number, blob)) = file.placement.find(digest) {
                    let header = file.placement.render_header(number).map_err(failed)?;
                    files.write_all_at(&header.bytes, blob.header).map_err(failed)?;
                }
            }
            DamagedPart::End => {
                let end = file.placement.render_end();
                files.write_all_at(&end.bytes, file.placement.end).map_err(failed)?;
            }
            DamagedPart::File { .. } | DamagedPart::SeekTable(_) => {}
        }
    }
    files.sync_all().map_err(failed)?;
    let (mut left, table) = file.verify_parts()?;
    let has_bad_table = left
        .iter()
        .any(|damage| matches!(damage.part, DamagedPart::SeekTable(_)));
    if has_bad_table
        && file.placement.form == BundleForm::Frames
        && let Some(entries) = whole_table(&file, &table)?
    {
        let bytes = render_seek_table(&entries);
        files.write_all_at(&bytes, file.placement.table).map_err(failed)?;
        files.sync_all().map_err(failed)?;
        left = file.verify()?;
    }
    Ok(BundleRepair { repaired, left })
}

/// Writes a blob of the other bundle to its place. Returns false if the other bundle lacks it, or has it damaged.
fn write_again(
    file: &BundleFile,
    files: &Arc<FileSet>,
    number: usize,
    blob: &PlacedBlob,
    patch: &BundleFile,
) -> Result<bool, BundleError> {
    let failed = |error: StoreError| BundleError::of_write(file.path(), std::io::Error::other(error));
    if patch.blob_size(&blob.digest) != Some(blob.size) {
        return Ok(false);
    }
    let mut writer = StoredWriter::new(files.clone(), file.placement.form, blob.clone());
    let mut at = 0;
    while at < blob.size {
        let read = patch.read_blob(&blob.digest, at, READ_SIZE);
        let bytes = read.map_err(|error| patch.read_error(error))?;
        writer.append(&bytes).map_err(failed)?;
        at += bytes.len() as u64;
    }
    match writer.finish() {
        Ok(_) => {
            let header = file
                .placement
                .render_header(number)
                .map_err(|error| failed(error.into()))?;
            files
                .write_all_at(&header.bytes, blob.header)
                .map_err(|error| failed(error.into()))?;
            Ok(true)
        }
        Err(StoreError::WrongDigest { .. }) => Ok(false),
        Err(error) => Err(failed(error)),
    }
}

/// Returns the entries of a table, if every frame is known. The checksum of the head comes from its own frame.
fn whole_table(file: &BundleFile, table: &[Option<SeekEntry>]) -> Result<Option<Vec<SeekEntry>>, BundleError> {
    let mut entries = Vec::with_capacity(table.len());
    for (number, entry) in table.iter().enumerate() {
        match entry {
            Some(entry) => entries.push(*entry),
            None if number == 0 => entries.push(file.head_entry().map_err(|error| file.read_error(error))?),
            None => return Ok(None),
        }
    }
    Ok(Some(entries))
}
