//! Access to the files of blobs: regular files only. A link would lead out of the store, and a pipe would block its
//! reader.

use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;
use camino::Utf8Path;
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;
use landfall_core::reference::Digest;
use rustix::fs::OFlags;

use crate::digest::{Algorithm, Digester, matches_digest};
use crate::store::ContentStore;
use crate::store::error::StoreError;

impl ContentStore {
    /// Returns the size of a blob; `None` if the store lacks it.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        file_size(&self.blob_path(digest))
    }

    /// Opens a blob for reading, at a byte offset.
    ///
    /// # Errors
    /// [`StoreError::Missing`] if the store lacks it; [`StoreError::Damaged`] if something else than a regular file has
    /// its name.
    pub fn open_blob(&self, digest: &Digest, offset: u64) -> Result<fs::File, StoreError> {
        let damaged = || StoreError::Damaged { digest: digest.clone() };
        let flags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK);
        let opened = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(self.blob_path(digest));
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: digest.clone() });
            }
            // A symbolic link, a socket.
            Err(_) if file_size(&self.blob_path(digest)).is_ok_and(|size| size.is_none()) => return Err(damaged()),
            opened => opened?,
        };
        if !file.metadata()?.is_file() {
            return Err(damaged());
        }
        if offset != 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(file)
    }

    /// Reads a complete blob of at most `limit` bytes into memory and verifies it.
    ///
    /// # Errors
    /// If the blob is missing, larger or damaged.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Bytes, StoreError> {
        let bytes = self.read_unverified(digest, limit)?;
        if !matches_digest(&bytes, digest) {
            return Err(StoreError::Damaged { digest: digest.clone() });
        }
        Ok(bytes)
    }

    /// Reads the bytes of a blob of at most `limit` bytes, damaged or not.
    pub(super) fn read_unverified(&self, digest: &Digest, limit: u64) -> Result<Bytes, StoreError> {
        let file = self.open_blob(digest, 0)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooLarge {
                digest: digest.clone(),
                limit,
            });
        }
        Ok(bytes.into())
    }

    /// Deletes a damaged blob, so that the next push or download writes it again. Returns true if it was damaged.
    ///
    /// # Errors
    /// If the blob is missing, or reading or deleting it fails.
    pub fn delete_damaged(&self, digest: &Digest) -> Result<bool, StoreError> {
        let damaged = match self.open_blob(digest, 0) {
            Ok(mut file) => {
                let mut digester = Digester::new(Algorithm::of(digest));
                digester.read_all(&mut file, |_| ())?;
                digester.finish() != *digest
            }
            Err(StoreError::Damaged { .. }) => true,
            Err(error) => return Err(error),
        };
        if damaged {
            fs::remove_file(self.blob_path(digest))?;
        }
        Ok(damaged)
    }
}

/// Returns the size of a regular file. Anything else is no file of the store.
pub(super) fn file_size(path: &Utf8Path) -> Result<Option<u64>, StoreError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_file().then_some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
