//! Writers of blobs: bytes are hashed while they are received. A blob is visible after its bytes are verified and on
//! disk.

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::Digest;
use landfall_net::durable;

use crate::digest::{Algorithm, Digester};
use crate::image::BlobState;
use crate::store::error::StoreError;
use crate::store::{ContentStore, INGEST};

/// Size of one write to the disk, in bytes.
const WRITE_SIZE: usize = 256 * 1024;
/// Bytes of an upload that are buffered in memory. Most blobs of small images are complete then, and cost one access to
/// the disk.
const MEMORY_MAX: usize = 64 * 1024;

/// A file that receives bytes, and their digest so far.
#[derive(Debug)]
pub(crate) struct Ingest {
    path: Utf8PathBuf,
    file: BufWriter<fs::File>,
    digester: Digester,
}

impl Ingest {
    /// Opens the file and keeps its first `offset` bytes.
    pub(crate) fn open(path: Utf8PathBuf, algorithm: Algorithm, offset: u64) -> Result<Ingest, StoreError> {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)?;
        let mut digester = Digester::new(algorithm);
        hash_prefix(&mut file, offset, &mut digester)?;
        file.set_len(digester.length())?;
        file.seek(SeekFrom::End(0))?;
        Ok(Ingest {
            path,
            file: BufWriter::with_capacity(WRITE_SIZE, file),
            digester,
        })
    }

    /// Creates a new file; `capacity` is the size of one write to the disk, in bytes.
    fn create(path: Utf8PathBuf, algorithm: Algorithm, capacity: usize) -> Result<Ingest, StoreError> {
        let file = fs::OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)?;
        Ok(Ingest {
            path,
            file: BufWriter::with_capacity(capacity, file),
            digester: Digester::new(algorithm),
        })
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes)?;
        self.digester.update(bytes);
        Ok(())
    }

    /// Appends to a blob of known size. Discards all bytes if there are too many: none of them can be trusted.
    pub(crate) fn append_to(&mut self, blob: &Descriptor, bytes: &[u8]) -> Result<(), StoreError> {
        if self.digester.length() + bytes.len() as u64 > blob.size {
            self.discard(blob)?;
            return Err(StoreError::TooLong {
                digest: blob.digest.clone(),
                size: blob.size,
            });
        }
        self.append(bytes)
    }

    /// Verifies size and digest, and makes the file visible at `target`. The file is on disk when this returns. All
    /// bytes are discarded if the digest is wrong.
    pub(crate) fn commit(&mut self, blob: &Descriptor, target: &Utf8Path) -> Result<(), StoreError> {
        let found = self.digester.length();
        if found < blob.size {
            return Err(StoreError::Short {
                digest: blob.digest.clone(),
                size: blob.size,
                found,
            });
        }
        let digest = self.digester.clone().finish();
        if digest != blob.digest {
            self.discard(blob)?;
            return Err(StoreError::WrongDigest {
                expected: blob.digest.clone(),
                found: digest,
            });
        }
        self.seal()?;
        durable::publish(&self.path, target)?;
        Ok(())
    }

    /// Writes the buffered bytes to the file, for another attempt.
    pub(crate) fn flush(&mut self) -> Result<(), StoreError> {
        Ok(self.file.flush()?)
    }

    /// Discards all bytes: none of them can be trusted.
    fn discard(&mut self, blob: &Descriptor) -> Result<(), StoreError> {
        self.digester = Digester::new(Algorithm::of(&blob.digest));
        self.file.seek(SeekFrom::Start(0))?;
        self.file.get_mut().set_len(0)?;
        Ok(())
    }

    /// Syncs all bytes to the disk. The file keeps its temporary name.
    fn seal(&mut self) -> Result<(), StoreError> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(())
    }
}

impl ContentStore {
    /// Starts to write a blob, or resumes after the first `offset` bytes of an earlier attempt, which are read again
    /// for their digest. A second writer of the same blob starts at 0, in a file of its own.
    ///
    /// # Errors
    /// If fewer than `offset` bytes are present, the rest does not fit on the disk, or the disk fails.
    pub fn writer(&self, blob: &Descriptor, offset: u64) -> Result<BlobWriter, StoreError> {
        BlobWriter::begin(self, blob, offset)
    }

    /// Starts to write a blob whose digest is not known yet, hashed by `algorithm`. Dropping an upload before its
    /// commit deletes the bytes.
    #[must_use]
    pub fn upload(&self, algorithm: Algorithm) -> Upload {
        Upload::begin(self, algorithm)
    }

    /// Writes a blob from memory. Does nothing if the store has it.
    ///
    /// # Errors
    /// If the bytes do not match the descriptor, or the disk fails.
    pub fn write_blob_bytes(&self, blob: &Descriptor, bytes: &[u8]) -> Result<(), StoreError> {
        if self.blob_state(blob)? == BlobState::Complete {
            return Ok(());
        }
        let mut writer = self.writer(blob, 0)?;
        writer.append(bytes)?;
        writer.commit()
    }
}

/// Writer of one blob whose digest and size are known. Dropping it before [`BlobWriter::commit`] keeps the received
/// bytes for another attempt.
#[derive(Debug)]
pub struct BlobWriter {
    store: ContentStore,
    blob: Descriptor,
    ingest: Ingest,
    unchecked: Unchecked,
    /// True if later attempts resume this file.
    resumable: bool,
    committed: bool,
}

impl BlobWriter {
    pub(super) fn begin(store: &ContentStore, blob: &Descriptor, offset: u64) -> Result<BlobWriter, StoreError> {
        store.check_space(blob.size.saturating_sub(offset))?;
        let writer_locks = &store.inner.writer_locks;
        let resumable = writer_locks.try_lock(&blob.digest);
        let shared = store.ingest_path(&blob.digest);
        let path = if resumable {
            shared
        } else {
            Utf8PathBuf::from(format!("{shared}.{}", writer_locks.next_number()))
        };
        let ingest = match Ingest::open(path, Algorithm::of(&blob.digest), offset) {
            Ok(ingest) => ingest,
            Err(error) => {
                if resumable {
                    writer_locks.unlock(&blob.digest);
                }
                return Err(error);
            }
        };
        let found = ingest.digester.length();
        let writer = BlobWriter {
            store: store.clone(),
            blob: blob.clone(),
            ingest,
            unchecked: Unchecked::default(),
            resumable,
            committed: false,
        };
        if found == offset {
            Ok(writer)
        } else {
            Err(StoreError::Offset {
                digest: blob.digest.clone(),
                offset,
                found,
            })
        }
    }

    /// Returns the number of received bytes, including earlier attempts.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.ingest.digester.length()
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If the blob has fewer bytes, the disk is full but for its reserve, or the disk fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.unchecked.add(bytes.len());
        if self.unchecked.is_due() {
            // Other writers share the space that was free at the begin.
            self.store.check_space(bytes.len() as u64)?;
            self.unchecked = Unchecked::default();
        }
        self.ingest.append_to(&self.blob, bytes)
    }

    /// Verifies size and digest, and makes the blob visible. The blob is on disk when this returns.
    ///
    /// # Errors
    /// If bytes are missing (another attempt can append them), the digest is wrong (all bytes are discarded), or the
    /// disk fails.
    pub fn commit(mut self) -> Result<(), StoreError> {
        let target = self.store.blob_path(&self.blob.digest);
        self.ingest.commit(&self.blob, &target)?;
        self.committed = true;
        Ok(())
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if self.resumable {
            if let Err(error) = self.ingest.file.flush() {
                tracing::debug!(digest = %self.blob.digest, %error, "the end of a partial blob is lost");
            }
            self.store.inner.writer_locks.unlock(&self.blob.digest);
        } else if !self.committed {
            remove_quietly(&self.ingest.path);
        }
    }
}

/// Bytes that were appended since the free space was checked.
#[derive(Debug, Default)]
struct Unchecked(usize);

impl Unchecked {
    fn add(&mut self, bytes: usize) {
        self.0 += bytes;
    }

    /// Returns true if the free space has to be checked before they are written.
    fn is_due(&self) -> bool {
        self.0 >= WRITE_SIZE
    }
}

/// Writer of a blob whose digest is known only at the end, as in an upload to the registry server.
#[derive(Debug)]
pub struct Upload {
    store: ContentStore,
    algorithm: Algorithm,
    /// The bytes in memory, up to [`MEMORY_MAX`].
    buffered: Vec<u8>,
    /// The file; `None` while all bytes are in memory.
    ingest: Option<Ingest>,
    committed: bool,
}

impl Upload {
    pub(super) fn begin(store: &ContentStore, algorithm: Algorithm) -> Upload {
        Upload {
            store: store.clone(),
            algorithm,
            buffered: Vec::new(),
            ingest: None,
            committed: false,
        }
    }

    /// Changes the hash algorithm, if all bytes are still in memory.
    pub fn expect_algorithm(&mut self, algorithm: Algorithm) {
        if self.ingest.is_none() {
            self.algorithm = algorithm;
        }
    }

    /// Returns the number of received bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        match &self.ingest {
            Some(ingest) => ingest.digester.length(),
            None => self.buffered.len() as u64,
        }
    }

    /// Returns true if `more` further bytes do not touch the disk.
    pub fn keeps_in_memory(&self, more: u64) -> bool {
        more == 0 || self.ingest.is_none() && self.buffered.len() as u64 + more <= MEMORY_MAX as u64
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.keeps_in_memory(bytes.len() as u64) {
            self.buffered.extend_from_slice(bytes);
            return Ok(());
        }
        self.ingest(WRITE_SIZE)?.append(bytes)
    }

    /// Returns the file, with the buffered bytes appended.
    fn ingest(&mut self, capacity: usize) -> Result<&mut Ingest, StoreError> {
        let ingest = match self.ingest.take() {
            Some(ingest) => self.ingest.insert(ingest),
            None => {
                let name = format!("upload.{}", self.store.inner.writer_locks.next_number());
                let path = self.store.inner.root.join(INGEST).join(name);
                self.ingest.insert(Ingest::create(path, self.algorithm, capacity)?)
            }
        };
        ingest.append(&std::mem::take(&mut self.buffered))?;
        Ok(ingest)
    }

    /// Returns the digest of the received bytes.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn digest(&mut self) -> Result<Digest, StoreError> {
        Ok(self.ingest(0)?.digester.clone().finish())
    }

    /// Verifies the digest, makes the blob visible under it, and returns its size. The blob is on disk when this
    /// returns.
    ///
    /// # Errors
    /// If the digest is wrong or the disk fails; the upload is unusable then.
    pub fn commit(&mut self, digest: &Digest) -> Result<u64, StoreError> {
        let target = self.store.blob_path(digest);
        let ingest = self.ingest(0)?;
        ingest.seal()?;
        let wanted = Algorithm::of(digest);
        let found = if wanted == ingest.digester.algorithm() {
            ingest.digester.clone().finish()
        } else {
            // The client named the algorithm after it had sent all bytes, which is rare.
            let mut digester = Digester::new(wanted);
            hash_prefix(ingest.file.get_mut(), u64::MAX, &mut digester)?;
            digester.finish()
        };
        if found != *digest {
            return Err(StoreError::WrongDigest {
                expected: digest.clone(),
                found,
            });
        }
        durable::publish(&ingest.path, &target)?;
        let length = ingest.digester.length();
        self.committed = true;
        Ok(length)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(ingest) = self.ingest.as_ref().filter(|_| !self.committed) {
            remove_quietly(&ingest.path);
        }
    }
}

/// Hashes at most the first `length` bytes of a file.
fn hash_prefix(file: &mut fs::File, length: u64, digester: &mut Digester) -> Result<(), StoreError> {
    file.seek(SeekFrom::Start(0))?;
    digester.read_all(&mut file.take(length), |_| ())?;
    Ok(())
}

/// Deletes a temporary file. A file that cannot be deleted stays until the store is opened next.
fn remove_quietly(path: &Utf8Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(%error, "a temporary file stays until the next start");
    }
}

#[cfg(test)]
mod tests;
