//! The content store: an OCI image layout on disk that survives a power cut at any instant.
//!
//! ```text
//! oci-layout  index.json          the layout's own files; the index names complete images by their canonical source
//! blobs/<algorithm>/<hex>         verified blobs; a file appears here only by a rename after an fsync
//! ingest/<algorithm>-<hex>        the first bytes of a blob: a later writer goes on from there
//! work/                           private files of one process; gone at the next start
//! lock                            held as long as the store is open
//! orders                          a socket, where a registry serves the store: see `landfall_registry::admin_socket`
//! ```
//!
//! Decides when bytes count as a blob and when a blob may go. Does not decide which images belong here.
//!
//! Methods that are not `async` may touch the disk: long ones (a [`ingest::BlobWriter`], [`ContentStore::gc`]) belong on a
//! blocking thread. [`endpoints::StoreSource`] and [`endpoints::StoreSink`] see to that themselves.

pub mod blocking;
mod claims;
pub mod endpoints;
pub mod error;
pub mod gc;
mod graph;
pub mod index;
pub mod ingest;
pub mod lease;
mod leased_blobs;
pub mod receive;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::TryLockError;
use std::io::{Read, Seek, SeekFrom};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::sync::lock;
use landfall_net::durable;

use crate::digest::{Algorithm, Digester, matches_digest};
use crate::image::{BlobState, RawManifest};
use crate::store::claims::Claims;
use crate::store::error::StoreError;
use crate::store::index::ImageIndex;
use crate::store::leased_blobs::LeasedBlobs;

/// The largest manifest that is read, in bytes. Registries must take 4 MiB (OCI distribution specification, "Pushing
/// Manifests"); this leaves room for those that take more.
pub const MANIFEST_SIZE_MAX: u64 = 8 * 1024 * 1024;

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX_FILE: &str = "index.json";
const LOCK_FILE: &str = "lock";
const BLOBS: &str = "blobs";
const INGEST: &str = "ingest";
const WORK: &str = "work";
const ALGORITHMS: [&str; 2] = ["sha256", "sha512"];

/// An open store. Clones share it; it is closed, and its lock released, when the last one is dropped.
#[derive(Debug, Clone)]
pub struct ContentStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: Utf8PathBuf,
    index: Mutex<ImageIndex>,
    claims: Claims,
    leased_blobs: LeasedBlobs,
    repairs: Vec<String>,
    /// Held for its lock, which ends with the file; `None` where nothing is written.
    _lock: Option<fs::File>,
}

impl ContentStore {
    /// Opens the store in a directory, making it when it is not there, and clears away what a crash left and nobody can
    /// use. A damaged `index.json` is set aside: the blobs are still there, so that naming the images again moves no
    /// bytes.
    ///
    /// # Errors
    /// When another process has the store open, or the directory cannot be read and written.
    pub fn open(root: &Utf8Path) -> Result<ContentStore, StoreError> {
        for algorithm in ALGORITHMS {
            fs::create_dir_all(root.join(BLOBS).join(algorithm))?;
        }
        fs::create_dir_all(root.join(INGEST))?;
        let lock = lock_store(root)?;
        let work = root.join(WORK);
        if work.exists() {
            fs::remove_dir_all(&work)?;
        }
        fs::create_dir(&work)?;
        durable::sync_directory(&root.join(BLOBS))?;
        durable::sync_directory(root)?;
        if fs::read(root.join(LAYOUT_FILE)).ok().as_deref() != Some(LAYOUT) {
            durable::replace_file(&root.join(LAYOUT_FILE), LAYOUT)?;
        }
        let (index, repairs) = ImageIndex::load(&root.join(INDEX_FILE))?;
        let inner = Inner {
            root: root.to_owned(),
            index: Mutex::new(index),
            claims: Claims::default(),
            leased_blobs: LeasedBlobs::default(),
            repairs,
            _lock: Some(lock),
        };
        let store = ContentStore { inner: Arc::new(inner) };
        store.clean_ingest()?;
        Ok(store)
    }

    /// A look at the blobs of a store that another process may have open. Whoever gets it writes nothing.
    pub fn read_only(root: &Utf8Path) -> ContentStore {
        let inner = Inner {
            root: root.to_owned(),
            index: Mutex::new(ImageIndex::empty(&root.join(INDEX_FILE))),
            claims: Claims::default(),
            leased_blobs: LeasedBlobs::default(),
            repairs: Vec::new(),
            _lock: None,
        };
        ContentStore { inner: Arc::new(inner) }
    }

    /// Deletes a blob that is damaged, so that the next push or download brings it anew. Tells whether it was damaged.
    ///
    /// # Errors
    /// When the disk does not answer.
    pub fn delete_damaged(&self, digest: &Digest) -> Result<bool, StoreError> {
        let mut digester = Digester::new(Algorithm::of(digest));
        digester.read_all(&mut self.open_blob(digest, 0)?, |_| ())?;
        let damaged = digester.finish() != *digest;
        if damaged {
            fs::remove_file(self.blob_path(digest))?;
        }
        Ok(damaged)
    }

    /// The store's directory: an OCI image layout that other programs may read.
    #[must_use]
    pub fn root(&self) -> &Utf8Path {
        &self.inner.root
    }

    /// What [`ContentStore::open`] had to mend, one sentence each.
    #[must_use]
    pub fn repairs(&self) -> &[String] {
        &self.inner.repairs
    }

    /// How much of a blob is here. A blob counts only with the size that the descriptor gives.
    ///
    /// # Errors
    /// When the disk does not answer.
    pub fn blob_state(&self, blob: &Descriptor) -> Result<BlobState, StoreError> {
        match self.blob_size(&blob.digest)? {
            Some(size) if size == blob.size => return Ok(BlobState::Complete),
            _ if self.inner.claims.is_claimed(&blob.digest) => return Ok(BlobState::Missing),
            _ => {}
        }
        match file_size(&self.ingest_path(&blob.digest))? {
            Some(size) if size > 0 && size <= blob.size => Ok(BlobState::Partial(size)),
            _ => Ok(BlobState::Missing),
        }
    }

    /// The size of a blob that is here.
    ///
    /// # Errors
    /// When the disk does not answer.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        file_size(&self.blob_path(digest))
    }

    /// Opens a blob for reading, at a byte offset.
    ///
    /// # Errors
    /// [`StoreError::Missing`] when it is not here.
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

    /// Reads a whole blob of at most `limit` bytes into memory and verifies it.
    ///
    /// # Errors
    /// When it is not here, is larger, or is no longer what its digest names.
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
    /// When it is not here, is no longer what its digest names, or is not a manifest.
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

    /// All images that have a name.
    #[must_use]
    pub fn images(&self) -> BTreeMap<ImageReference, Descriptor> {
        self.index().images().clone()
    }

    /// What an image's name stands for.
    #[must_use]
    pub fn image(&self, name: &ImageReference) -> Option<Descriptor> {
        self.index().images().get(&name.canonical()).cloned()
    }

    /// Gives an image a name, which keeps it from [`ContentStore::gc`]. A name stands for one image at a time.
    ///
    /// # Errors
    /// When the index cannot be written; the name is then as it was.
    pub fn name_image(&self, name: &ImageReference, manifest: &Descriptor) -> Result<(), StoreError> {
        self.index().insert(name.canonical(), manifest.clone())
    }

    /// Takes a name away; the blobs stay until the next [`ContentStore::gc`]. Tells whether there was one.
    ///
    /// # Errors
    /// When the index cannot be written; the name is then as it was.
    pub fn remove_image(&self, name: &ImageReference) -> Result<bool, StoreError> {
        self.index().remove(&name.canonical())
    }

    /// A directory for files of the caller's own, beside the blobs; it is gone when the value is dropped, or at the next
    /// [`ContentStore::open`].
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn work_directory(&self) -> Result<tempfile::TempDir, StoreError> {
        Ok(tempfile::TempDir::new_in(self.inner.root.join(WORK))?)
    }

    fn index(&self) -> MutexGuard<'_, ImageIndex> {
        // A panic while the lock is held cannot leave a half-made change: changes are swapped in when they are on disk.
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
