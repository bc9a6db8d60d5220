//! The content store: an OCI image layout on disk that survives a power cut at any instant.
//!
//! ```text
//! oci-layout  index.json          the layout's own files; the index names complete images by their canonical source
//! blobs/<algorithm>/<hex>         verified blobs; a file appears here only by a rename after an fsync
//! ingest/<algorithm>-<hex>        the first bytes of a blob: a later writer resumes after them
//! work/                           private files of one process, deleted at the next start
//! lock                            locked while the store is open
//! orders                          a socket, where a registry serves the store: see `landfall_registry::admin_socket`
//! ```
//!
//! Decides when bytes become a blob and when a blob may be deleted. The caller decides which images are stored.
//!
//! Methods that are not `async` may touch the disk: call the long ones (a [`ingest::BlobWriter`], [`ContentStore::gc`])
//! on a blocking thread. [`source_and_sink::StoreSource`] and [`source_and_sink::StoreSink`] do that themselves.

pub mod blocking;
pub mod disk_space;
pub mod error;
pub mod gc;
mod graph;
pub mod index;
pub mod ingest;
pub mod lease;
mod leased_blobs;
pub mod receive;
pub mod source_and_sink;
mod writer_locks;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::sync::lock;
use landfall_net::durable;
use landfall_net::state_file::clear_for_writing;

use crate::digest::{Algorithm, Digester, matches_digest};
use crate::image::{BlobState, RawManifest};
use crate::store::disk_space::{DiskSpace, MinFreeSpace};
use crate::store::error::StoreError;
use crate::store::index::ImageIndex;
use crate::store::leased_blobs::LeasedBlobs;
use crate::store::writer_locks::WriterLocks;

/// Size limit of a manifest that is read, in bytes. Registries must accept 4 MiB (OCI distribution specification,
/// "Pushing Manifests"); this limit also covers registries that accept more.
pub const MANIFEST_SIZE_MAX: u64 = 8 * 1024 * 1024;

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_FILE: &str = "index.json";
const LOCK_FILE: &str = "lock";
const BLOBS: &str = "blobs";
const INGEST: &str = "ingest";
const WORK: &str = "work";
const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// An open store. Clones share it. Dropping the last clone closes the store and releases its lock.
#[derive(Debug, Clone)]
pub struct ContentStore {
    inner: Arc<StoreInner>,
}

#[derive(Debug)]
struct StoreInner {
    root: Utf8PathBuf,
    index: Mutex<ImageIndex>,
    writer_locks: WriterLocks,
    leased_blobs: LeasedBlobs,
    repairs: Vec<String>,
    /// [`MinFreeSpace`] in bytes.
    min_free: AtomicU64,
    /// The locked file; closing it ends the lock. `None` for a read-only store.
    _lock: Option<fs::File>,
}

impl ContentStore {
    /// Opens the store in a directory, or creates it. Deletes the files of a crash that no writer can resume. A damaged
    /// `index.json` is moved aside: the blobs stay, so naming the images again moves no bytes.
    ///
    /// # Errors
    /// If another process has the store open, or the directory cannot be read and written.
    pub fn open(root: &Utf8Path) -> Result<ContentStore, StoreError> {
        for algorithm in ALGORITHMS {
            fs::create_dir_all(root.join(BLOBS).join(algorithm))?;
        }
        fs::create_dir_all(root.join(INGEST))?;
        let lock = lock_store(root)?;
        empty_directory(&root.join(WORK))?;
        durable::sync_directory(&root.join(BLOBS))?;
        durable::sync_directory(root)?;
        let layout = root.join(LAYOUT_FILE);
        let aside = clear_for_writing(&layout);
        if fs::read(&layout).ok().as_deref() != Some(LAYOUT) {
            durable::replace_file(&layout, LAYOUT)?;
        }
        let (index, mut repairs) = ImageIndex::load(&root.join(INDEX_FILE))?;
        repairs.extend(aside.map(|aside| aside.to_string()));
        let inner = StoreInner {
            root: root.to_owned(),
            index: Mutex::new(index),
            writer_locks: WriterLocks::default(),
            leased_blobs: LeasedBlobs::default(),
            repairs,
            min_free: AtomicU64::new(MinFreeSpace::default().bytes),
            _lock: Some(lock),
        };
        let store = ContentStore { inner: Arc::new(inner) };
        store.clean_ingest()?;
        Ok(store)
    }

    /// Opens the blobs of a store for reading only, without its lock: another process may have it open.
    pub fn read_only(root: &Utf8Path) -> ContentStore {
        let inner = StoreInner {
            root: root.to_owned(),
            index: Mutex::new(ImageIndex::empty(&root.join(INDEX_FILE))),
            writer_locks: WriterLocks::default(),
            leased_blobs: LeasedBlobs::default(),
            repairs: Vec::new(),
            min_free: AtomicU64::new(MinFreeSpace::default().bytes),
            _lock: None,
        };
        ContentStore { inner: Arc::new(inner) }
    }

    /// Deletes a damaged blob, so that the next push or download writes it again. Returns true if it was damaged.
    ///
    /// # Errors
    /// If the blob is missing, or reading or deleting it fails.
    pub fn delete_damaged(&self, digest: &Digest) -> Result<bool, StoreError> {
        let mut digester = Digester::new(Algorithm::of(digest));
        digester.read_all(&mut self.open_blob(digest, 0)?, |_| ())?;
        let damaged = digester.finish() != *digest;
        if damaged {
            fs::remove_file(self.blob_path(digest))?;
        }
        Ok(damaged)
    }

    /// Returns the store's directory: an OCI image layout that other programs may read.
    #[must_use]
    pub fn root(&self) -> &Utf8Path {
        &self.inner.root
    }

    /// Returns the repairs of [`ContentStore::open`], one sentence each.
    #[must_use]
    pub fn repairs(&self) -> &[String] {
        &self.inner.repairs
    }

    /// Sets the free space below which the store takes no blobs.
    pub fn set_min_free_space(&self, min_free_space: MinFreeSpace) {
        self.inner.min_free.store(min_free_space.bytes, Ordering::Relaxed);
    }

    /// Returns the size of the store's disk.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn disk_space(&self) -> Result<DiskSpace, StoreError> {
        DiskSpace::of(&self.inner.root)
    }

    /// Checks that `incoming` bytes leave enough free space.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] if they do not.
    pub fn check_space(&self, incoming: u64) -> Result<(), StoreError> {
        let DiskSpace { free, total } = self.disk_space()?;
        let min_free = MinFreeSpace {
            bytes: self.inner.min_free.load(Ordering::Relaxed),
        };
        let floor = min_free.for_disk(total);
        if free < floor.saturating_add(incoming) {
            return Err(StoreError::NoSpace { free, floor, incoming });
        }
        Ok(())
    }

    /// Returns the state of a blob. It is complete only if it has the size of the descriptor.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn blob_state(&self, blob: &Descriptor) -> Result<BlobState, StoreError> {
        match self.blob_size(&blob.digest)? {
            Some(size) if size == blob.size => return Ok(BlobState::Complete),
            _ if self.inner.writer_locks.is_locked(&blob.digest) => return Ok(BlobState::Missing),
            _ => {}
        }
        match file_size(&self.ingest_path(&blob.digest))? {
            Some(size) if size > 0 && size <= blob.size => Ok(BlobState::Partial(size)),
            _ => Ok(BlobState::Missing),
        }
    }

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
    /// [`StoreError::Missing`] if the store lacks it.
    pub fn open_blob(&self, digest: &Digest, offset: u64) -> Result<fs::File, StoreError> {
        let mut file = match fs::File::open(self.blob_path(digest)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Missing { digest: digest.clone() });
            }
            opened => opened?,
        };
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        Ok(file)
    }

    /// Reads a complete blob of at most `limit` bytes into memory and verifies it.
    ///
    /// # Errors
    /// If the blob is missing, larger or damaged.
    pub fn read_blob(&self, digest: &Digest, limit: u64) -> Result<Bytes, StoreError> {
        let file = self.open_blob(digest, 0)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::TooLarge {
                digest: digest.clone(),
                limit,
            });
        }
        if !matches_digest(&bytes, digest) {
            return Err(StoreError::Damaged { digest: digest.clone() });
        }
        Ok(bytes.into())
    }

    /// Reads a manifest or index and verifies it.
    ///
    /// # Errors
    /// If the blob is missing, damaged, or not a manifest.
    pub fn read_manifest(&self, digest: &Digest) -> Result<RawManifest, StoreError> {
        let bytes = self.read_blob(digest, MANIFEST_SIZE_MAX)?;
        let content = parse_manifest(&bytes).map_err(|source| StoreError::Manifest {
            digest: digest.clone(),
            source,
        })?;
        Ok(RawManifest {
            media_type: content.media_type().to_owned(),
            digest: digest.clone(),
            bytes,
        })
    }

    /// Returns all named images.
    #[must_use]
    pub fn images(&self) -> BTreeMap<ImageReference, Descriptor> {
        self.index().images().clone()
    }

    /// Returns the descriptor of the image with this name.
    #[must_use]
    pub fn image(&self, name: &ImageReference) -> Option<Descriptor> {
        self.index().images().get(&name.canonical()).cloned()
    }

    /// Gives an image a name, which protects it from [`ContentStore::gc`]. A name stands for one image at a time.
    ///
    /// # Errors
    /// If the index cannot be written; the name is then unchanged.
    pub fn name_image(&self, name: &ImageReference, manifest: &Descriptor) -> Result<(), StoreError> {
        self.index().insert(name.canonical(), manifest.clone())
    }

    /// Removes a name; the blobs stay until the next [`ContentStore::gc`]. Returns true if the name existed.
    ///
    /// # Errors
    /// If the index cannot be written; the name is then unchanged.
    pub fn remove_image(&self, name: &ImageReference) -> Result<bool, StoreError> {
        self.index().remove(&name.canonical())
    }

    /// Makes a directory for the caller's files on the disk of the blobs. It is deleted when the value is dropped, or
    /// at the next [`ContentStore::open`].
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn work_directory(&self) -> Result<tempfile::TempDir, StoreError> {
        Ok(tempfile::TempDir::new_in(self.inner.root.join(WORK))?)
    }

    fn index(&self) -> MutexGuard<'_, ImageIndex> {
        // A panic cannot leave half a change: a changed map replaces the old one after it is on disk.
        lock(&self.inner.index)
    }

    fn blob_path(&self, digest: &Digest) -> Utf8PathBuf {
        self.inner.root.join(BLOBS).join(digest.algorithm()).join(digest.hex())
    }

    fn ingest_path(&self, digest: &Digest) -> Utf8PathBuf {
        self.inner
            .root
            .join(INGEST)
            .join(format!("{}-{}", digest.algorithm(), digest.hex()))
    }
}

/// Deletes everything in a directory, which is made if it is missing. An existing one is kept: a full disk may have no
/// room for a new one.
fn empty_directory(directory: &Utf8Path) -> Result<(), StoreError> {
    fs::create_dir_all(directory)?;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

fn lock_store(root: &Utf8Path) -> Result<fs::File, StoreError> {
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(root.join(LOCK_FILE))?;
    match lock.file().try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { root: root.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StoreError::Disk(error)),
    }
}

fn file_size(path: &Utf8Path) -> Result<Option<u64>, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
