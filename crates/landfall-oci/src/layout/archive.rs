//! A layout in a tar as a place that an image is copied to: one pass, no staging. Each blob gets its place in the file when
//! its size is known, several are written at once, and the tar is there under its name only when it is whole.
//!
//! Beside `index.json` it has a `manifest.json` where the image is for one platform, so that `docker load` and skopeo's
//! `docker-archive:` read it as well as `oci-archive:` and `ctr images import` do.

use std::collections::HashMap;
use std::fs::TryLockError;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, Manifest, ManifestContent, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Tag};
use landfall_core::sync::lock;
use landfall_net::durable;
use rustix::io::pwrite;
use serde_json::json;

use super::format::{INDEX, LAYOUT, LAYOUT_FILE, blob_path, named_entry};
use crate::digest::{Algorithm, Digester};
use crate::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};
use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::index::render_index;
use crate::store::receive::{Receiver, fill};

/// Tar's unit, in bytes.
const BLOCK: u64 = 512;
const DOCKER_MANIFEST: &str = "manifest.json";

/// Which archive somebody asked for. Both are written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveForm {
    /// `oci-archive:`.
    Oci,
    /// `docker-archive:`, which holds one platform.
    Docker,
}

/// Writes one image to a tar.
#[derive(Debug, Clone)]
pub struct ArchiveSink {
    path: Utf8PathBuf,
    name: Option<String>,
    form: ArchiveForm,
    /// What is written belongs to the image, and is none itself.
    is_referrer: bool,
    /// Begun with the first blob: a dry run leaves nothing behind.
    tar: Arc<Mutex<Option<Tar>>>,
}

/// The file that becomes the archive.
#[derive(Debug)]
struct Tar {
    partial_path: Utf8PathBuf,
    file: Arc<fs::File>,
    end: u64,
    /// Where content begins; what has no entry yet is not complete.
    entries: HashMap<Digest, (u64, bool)>,
    /// The images themselves, without what is said about them.
    images: Vec<Manifest>,
    /// What belongs to the image.
    referrers: Vec<Descriptor>,
    finished: bool,
}

/// A blob on its way to its place.
struct TarEntryWriter {
    file: Arc<fs::File>,
    begin: u64,
    blob: Descriptor,
    digester: Digester,
}

impl Receiver for TarEntryWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let at = self.digester.length();
        if at + bytes.len() as u64 > self.blob.size {
            return Err(StoreError::TooLong {
                digest: self.blob.digest.clone(),
                size: self.blob.size,
            });
        }
        write_at(&self.file, bytes, self.begin + at)?;
        self.digester.update(bytes);
        Ok(())
    }
}

impl TarEntryWriter {
    fn verify(self) -> Result<(), StoreError> {
        let found = self.digester.length();
        if found < self.blob.size {
            return Err(StoreError::Short {
                digest: self.blob.digest,
                size: self.blob.size,
                found,
            });
        }
        let digest = self.digester.finish();
        if digest == self.blob.digest {
            return Ok(());
        }
        Err(StoreError::WrongDigest {
            expected: self.blob.digest,
            found: digest,
        })
    }
}

impl Tar {
    fn begin(path: &Utf8Path) -> Result<Tar, StoreError> {
        let partial_path = Utf8PathBuf::from(format!("{path}.partial"));
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&partial_path)?;
        match file.file().try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let why = format!("`{partial_path}` is being written: an archive takes one image at a time");
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why).into());
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        file.set_len(0)?;
        Ok(Tar {
            partial_path,
            file: Arc::new(file),
            end: 0,
            entries: HashMap::new(),
            images: Vec::new(),
            referrers: Vec::new(),
            finished: false,
        })
    }

    /// Where a blob belongs: the same place in every attempt.
    fn entry_offset(&mut self, digest: &Digest, size: u64) -> u64 {
        let begin = self.end + BLOCK;
        let (offset, _) = *self.entries.entry(digest.clone()).or_insert((begin, false));
        if offset == begin {
            self.end = begin + size.next_multiple_of(BLOCK);
        }
        offset
    }

    /// The content is all there: now it counts.
    fn write_header(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        if let Some((offset, is_complete)) = self.entries.get_mut(digest) {
            *is_complete = true;
            write_at(&self.file, &render_header(&blob_path(digest), size)?, *offset - BLOCK)?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        write_at(&self.file, &render_header(path, size)?, self.end)?;
        write_at(&self.file, bytes, self.end + BLOCK)?;
        self.end += BLOCK + size.next_multiple_of(BLOCK);
        Ok(())
    }

    fn finish(&mut self, path: &Utf8Path, root: &RawManifest, name: Option<&str>) -> Result<(), StoreError> {
        self.add_file(LAYOUT_FILE, LAYOUT)?;
        let mut listed = vec![named_entry(root, name)];
        listed.append(&mut self.referrers);
        self.add_file(INDEX, &render_index(listed))?;
        if let [image] = &self.images[..] {
            let layers: Vec<_> = image.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
            let names: Vec<_> = name.into_iter().collect();
            let listed = json!([{"Config": blob_path(&image.config.digest), "RepoTags": names, "Layers": layers}]);
            self.add_file(DOCKER_MANIFEST, listed.to_string().as_bytes())?;
        }
        // Two blocks of zeros end a tar (POSIX pax, "ustar Interchange Format"), and pad what the last entry left open.
        self.file.set_len(self.end + 2 * BLOCK)?;
        self.file.sync_all()?;
        durable::publish(&self.partial_path, path)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Tar {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = fs::remove_file(&self.partial_path)
        {
            tracing::debug!(%error, "an archive that was not finished stays");
        }
    }
}

impl ArchiveSink {
    /// An archive at this path, in place of what is there.
    #[must_use]
    pub fn new(path: &Utf8Path, name: Option<String>, form: ArchiveForm) -> ArchiveSink {
        ArchiveSink {
            path: path.to_owned(),
            name,
            form,
            is_referrer: false,
            tar: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tar>> {
        lock(&self.tar)
    }

    fn with_tar<T>(&self, work: impl FnOnce(&mut Tar) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut tar = self.lock();
        let tar = match &mut *tar {
            Some(tar) => tar,
            none => none.insert(Tar::begin(&self.path)?),
        };
        work(tar)
    }

    fn open_writer(&self, blob: &Descriptor) -> Result<TarEntryWriter, StoreError> {
        self.with_tar(|tar| {
            Ok(TarEntryWriter {
                begin: tar.entry_offset(&blob.digest, blob.size),
                file: tar.file.clone(),
                digester: Digester::new(Algorithm::of(&blob.digest)),
                blob: blob.clone(),
            })
        })
    }

    fn write_manifest_now(&self, manifest: &RawManifest) -> Result<(), StoreError> {
        let size = manifest.bytes.len() as u64;
        let blob = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
        let mut writer = self.open_writer(&blob)?;
        writer.append(&manifest.bytes)?;
        self.with_tar(|tar| {
            tar.write_header(&blob.digest, size)?;
            // Attestations are manifests without a system to run on, and are no images.
            if !self.is_referrer
                && let Ok(ManifestContent::Image(image)) = parse_manifest(&manifest.bytes)
                && image.config.media_type.contains(".image.")
                && image.subject.is_none()
                && !image.layers.iter().any(|layer| layer.media_type.contains("in-toto"))
            {
                tar.images.push(image);
            }
            Ok(())
        })
    }

    fn attempt(&self, what: &str) -> String {
        format!("cannot write {what} to the archive `{}`", self.path)
    }
}

impl ImageSink for ArchiveSink {
    fn describe(&self) -> String {
        format!("the archive `{}`", self.path)
    }

    /// It is written anew each time.
    fn has_image<'a>(&'a self, _manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        async { Ok(false) }.boxed()
    }

    /// Docker's archives have no place for it.
    fn referrer_sink(&self, tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        let sink = ArchiveSink {
            name: tag.map(ToString::to_string),
            is_referrer: true,
            ..self.clone()
        };
        (self.form == ArchiveForm::Oci).then(|| Box::new(sink) as _)
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        let is_complete = self
            .lock()
            .as_ref()
            .and_then(|tar| tar.entries.get(&blob.digest))
            .is_some_and(|(_, is_complete)| *is_complete);
        let state = if is_complete {
            BlobState::Complete
        } else {
            BlobState::Missing
        };
        async move { Ok(state) }.boxed()
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        _offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        let failed = |error: StoreError| error.during(self.attempt(blob.digest.as_str()));
        async move {
            let (sink, wanted) = (self.clone(), blob.clone());
            let (writer, received) = fill(move || sink.open_writer(&wanted), stream).await.map_err(failed)?;
            received?;
            let (sink, blob) = (self.clone(), blob.clone());
            let finished = blocking(move || {
                writer.verify()?;
                sink.with_tar(|tar| tar.write_header(&blob.digest, blob.size))
            });
            finished.await.map_err(failed)
        }
        .boxed()
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        _name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        let (sink, owned) = (self.clone(), manifest.clone());
        async move {
            let written = blocking(move || sink.write_manifest_now(&owned)).await;
            written.map_err(|error| error.during(self.attempt(manifest.digest.as_str())))
        }
        .boxed()
    }

    fn finish_image<'a>(&'a self, root: &'a RawManifest) -> BoxFuture<'a, Result<(), TransferError>> {
        async move {
            if self.is_referrer {
                if let Some(tar) = &mut *self.lock() {
                    tar.referrers.push(named_entry(root, self.name.as_deref()));
                }
                return Ok(());
            }
            let images = self.lock().as_ref().map_or(0, |tar| tar.images.len());
            if self.form == ArchiveForm::Docker && images != 1 {
                return Err(TransferError {
                    attempt: format!(
                        "cannot write `{}`: a docker archive holds one platform and this image has {images}: choose one \
                         with `--platform`, or write an `oci-archive:`",
                        self.path
                    ),
                    kind: FailureKind::Local,
                    source: None,
                });
            }
            let (sink, root) = (self.clone(), root.clone());
            let finished = blocking(move || sink.with_tar(|tar| tar.finish(&sink.path, &root, sink.name.as_deref())));
            finished.await.map_err(|error| error.during(self.attempt("the index")))
        }
        .boxed()
    }
}

/// The header of a file, the same for the same file whenever and wherever it is written.
fn render_header(path: &str, size: u64) -> io::Result<[u8; 512]> {
    let mut header = tar::Header::new_gnu();
    header.set_path(path)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

fn write_at(file: &fs::File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let written = pwrite(file.file(), bytes, at)?;
        bytes = &bytes[written..];
        at += written as u64;
    }
    Ok(())
}
