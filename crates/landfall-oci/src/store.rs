//! The content store: an OCI image layout on disk that survives a power cut at any instant.
//!
//! ```text
//! oci-layout  index.json          the layout's own files; the index names complete images by their canonical source
//! blobs/<algorithm>/<hex>         verified blobs; a file appears here only by a rename after an fsync
//! ingest/<algorithm>-<hex>        the first bytes of a blob: a later writer resumes after them
//! left-out/<algorithm>-<hex>      the entries of an index that the store lacks on purpose
//! work/                           private files of one process, deleted at the next start
//! lock                            locked while the store is open
//! orders                          a socket, where a registry serves the store: see `landfall_registry::admin_socket`
//! ```
//!
//! Decides when bytes become a blob and when a blob may be deleted. The caller decides which images are stored.
//!
//! Methods that are not `async` may touch the disk: call the long ones (a [`ingest::BlobWriter`], [`ContentStore::gc`])
//! on a blocking thread. [`source_and_sink::StoreSource`] and [`source_and_sink::StoreSink`] do that themselves.

mod blob_files;
pub mod blocking;
pub mod disk_space;
pub mod error;
pub mod gc;
pub mod graph;
pub mod index;
pub mod ingest;
pub mod lease;
mod leased_blobs;
mod left_out;
mod lock;
pub mod lock_holder;
pub mod receive;
pub mod source_and_sink;
mod writer_locks;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::sync::lock;
use landfall_net::durable;
use landfall_net::state_file::clear_for_writing;
use rustix::fs::Mode;
use rustix::io::Errno;

use crate::image::{BlobState, RawManifest};
use crate::layout_files::{INDEX, LAYOUT, LAYOUT_FILE, blob_path};
use crate::store::blob_files::file_size;
use crate::store::disk_space::{DiskSpace, MinFreeSpace};
use crate::store::error::StoreError;
use crate::store::index::ImageIndex;
use crate::store::leased_blobs::LeasedBlobs;
use crate::store::left_out::LeftOutEntries;
use crate::store::lock::{lock_store, lock_store_shared};
use crate::store::writer_locks::WriterLocks;

/// Size limit of a manifest that is read, in bytes. Registries must accept 4 MiB (OCI distribution specification,
/// "Pushing Manifests"); this limit also covers registries that accept more.
pub const MANIFEST_SIZE_MAX: u64 = 8 * 1024 * 1024;

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
    left_out: LeftOutEntries,
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
        make_private_directory(root)?;
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
        let (index, mut repairs) = ImageIndex::load(&root.join(INDEX))?;
        repairs.extend(aside.map(|aside| aside.to_string()));
        let inner = StoreInner {
            root: root.to_owned(),
            index: Mutex::new(index),
            writer_locks: WriterLocks::default(),
            leased_blobs: LeasedBlobs::default(),
            left_out: LeftOutEntries::load(root)?,
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
        ContentStore::read_only_with(root, None)
    }

    /// Opens the blobs of a store to serve them from a file system that cannot be written. Takes part in the store's
    /// lock, if it has one.
    ///
    /// # Errors
    /// If another process has the store open and may write it, or there is no store.
    pub fn serve_read_only(root: &Utf8Path) -> Result<ContentStore, StoreError> {
        fs::read_dir(root.join(BLOBS))?;
        Ok(ContentStore::read_only_with(root, lock_store_shared(root)?))
    }

    /// Takes the store's directories away from other users of this machine.
    ///
    /// # Errors
    /// If the process does not own them.
    pub fn restrict_access(&self) -> Result<(), StoreError> {
        for directory in [BLOBS, INGEST, WORK] {
            fs::set_permissions(self.inner.root.join(directory), std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    fn read_only_with(root: &Utf8Path, lock: Option<fs::File>) -> ContentStore {
        let inner = StoreInner {
            root: root.to_owned(),
            index: Mutex::new(ImageIndex::empty(&root.join(INDEX))),
            writer_locks: WriterLocks::default(),
            leased_blobs: LeasedBlobs::default(),
            left_out: LeftOutEntries::default(),
            repairs: Vec::new(),
            min_free: AtomicU64::new(MinFreeSpace::default().bytes),
            _lock: lock,
        };
        ContentStore { inner: Arc::new(inner) }
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
        let min_free = MinFreeSpace {
            bytes: self.inner.min_free.load(Ordering::Relaxed),
        };
        self.disk_space()?.check_room(min_free, incoming)
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
        self.inner.root.join(blob_path(digest))
    }

    fn ingest_path(&self, digest: &Digest) -> Utf8PathBuf {
        self.inner.root.join(INGEST).join(file_name_of(digest))
    }
}

/// Returns the name of a file outside of `blobs/` that belongs to a digest.
fn file_name_of(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm(), digest.hex())
}

/// Parses a name of [`file_name_of`]. `None` for a foreign file.
fn parse_file_name(name: &OsStr) -> Option<Digest> {
    name.to_str()?.replacen('-', ":", 1).parse().ok()
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

/// Makes a directory that only its owner can enter, unless it is there. Parents that are missing get the usual mode.
fn make_private_directory(path: &Utf8Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    match rustix::fs::mkdir(path.as_std_path(), Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(io::Error::new(
            io::Error::from(error).kind(),
            format!("cannot make directory `{path}`: {error}"),
        )),
    }
}
