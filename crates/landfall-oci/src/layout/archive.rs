//! The image sink over a layout in a tar: one pass, no staging. Each blob gets its offset in the file when its size is
//! known, and several blobs are written at once. The tar gets its final name only when it is complete. A device or a pipe
//! gets it then, from an unnamed file.
//!
//! An image with one platform gets a `manifest.json` beside `index.json`: `docker load` and skopeo's `docker-archive:`
//! need it. skopeo's `oci-archive:` and `ctr images import` read `index.json`.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::TryLockError;
use std::io::{self, Seek as _, Write as _};
use std::sync::{Arc, Mutex, MutexGuard};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use landfall_core::failure::{FailureKind, Hint};
use landfall_core::oci_types::{Descriptor, Manifest, ManifestContent, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Tag};
use landfall_core::sync::lock;
use landfall_core::wording::counted;
use landfall_net::durable;
use landfall_net::output_path::{OutputPath, OutputPathError, look_at_file};
use serde_json::json;

use super::format::named_entry;
use crate::digest::{Algorithm, Digester};
use crate::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};
use crate::layout_files::{DOCKER_MANIFEST, INDEX, LAYOUT, LAYOUT_FILE, blob_path};
use crate::pieces::write_all_at;
use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::index::render_index;
use crate::store::receive::{ByteReceiver, receive_stream};
use crate::tar_header::{BLOCK, header_length, render_header};

/// The requested form of archive. Both are written alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveForm {
    /// `oci-archive:`.
    Oci,
    /// `docker-archive:`, limited to one platform.
    Docker,
}

/// Writes one image to a tar.
#[derive(Debug, Clone)]
pub struct ArchiveSink {
    /// The path in messages.
    path: Utf8PathBuf,
    target: OutputPath,
    name: Option<String>,
    form: ArchiveForm,
    /// True if this sink writes a referrer of the image.
    is_referrer: bool,
    /// Created with the first blob: a dry run leaves nothing behind.
    tar: Arc<Mutex<Option<Tar>>>,
}

/// The file that becomes the archive.
#[derive(Debug)]
struct Tar {
    /// `None` for an unnamed file, whose content goes to a device or a pipe in the end.
    partial_path: Option<Utf8PathBuf>,
    file: Arc<fs::File>,
    end: u64,
    /// Offset of the content of each blob, and true if the blob is complete.
    entries: HashMap<Digest, (u64, bool)>,
    /// The images, without attestations and referrers.
    images: Vec<Manifest>,
    referrers: Vec<Descriptor>,
    finished: bool,
}

/// Writer of one blob at its offset.
struct TarEntryWriter {
    file: Arc<fs::File>,
    begin: u64,
    blob: Descriptor,
    digester: Digester,
}

impl ByteReceiver for TarEntryWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let at = self.digester.length();
        if at + bytes.len() as u64 > self.blob.size {
            return Err(StoreError::TooLong {
                digest: self.blob.digest.clone(),
                size: self.blob.size,
            });
        }
        write_all_at(&self.file, bytes, self.begin + at)?;
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
    fn begin(target: &OutputPath) -> Result<Tar, StoreError> {
        let OutputPath::File(path) = target else {
            let (file, path) = (tempfile::tempfile()?, std::env::temp_dir());
            return Ok(Tar::new(None, fs::File::from_parts(file, path)));
        };
        let partial_path = Utf8PathBuf::from(format!("{path}.partial"));
        if fs::symlink_metadata(&partial_path).is_ok_and(|found| !found.is_file()) {
            let why = format!("`{partial_path}` is no file: it is the place of the unfinished archive");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why).into());
        }
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
        Ok(Tar::new(Some(partial_path), file))
    }

    fn new(partial_path: Option<Utf8PathBuf>, file: fs::File) -> Tar {
        Tar {
            partial_path,
            file: Arc::new(file),
            end: 0,
            entries: HashMap::new(),
            images: Vec::new(),
            referrers: Vec::new(),
            finished: false,
        }
    }

    /// Returns the offset of a blob's content, the same in every attempt.
    fn entry_offset(&mut self, digest: &Digest, size: u64) -> u64 {
        let begin = self.end + header_length(&blob_path(digest));
        let (offset, _) = *self.entries.entry(digest.clone()).or_insert((begin, false));
        if offset == begin {
            self.end = begin + size.next_multiple_of(BLOCK);
        }
        offset
    }

    /// Writes the tar header of a blob whose content is complete.
    fn write_header(&mut self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        if let Some((offset, is_complete)) = self.entries.get_mut(digest) {
            *is_complete = true;
            let path = blob_path(digest);
            write_all_at(&self.file, &render_header(&path, size)?, *offset - header_length(&path))?;
        }
        Ok(())
    }

    fn add_file(&mut self, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let size = bytes.len() as u64;
        write_all_at(&self.file, &render_header(path, size)?, self.end)?;
        write_all_at(&self.file, bytes, self.end + BLOCK)?;
        self.end += BLOCK + size.next_multiple_of(BLOCK);
        Ok(())
    }

    fn finish(&mut self, target: &OutputPath, root: &RawManifest, name: Option<&str>) -> Result<(), StoreError> {
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
        // Two blocks of zeros end a tar (POSIX pax, "ustar Interchange Format"), and also pad the last entry.
        self.file.set_len(self.end + 2 * BLOCK)?;
        match (target, &self.partial_path) {
            (OutputPath::File(path), Some(partial_path)) => {
                self.file.sync_all()?;
                durable::publish(partial_path, path)?;
            }
            (stream, _) => {
                let mut out = stream.open_stream()?;
                let mut archive = &*self.file;
                archive.rewind()?;
                io::copy(&mut archive, &mut out)?;
                out.flush()?;
            }
        }
        self.finished = true;
        Ok(())
    }
}

impl Drop for Tar {
    fn drop(&mut self) {
        if let Some(partial_path) = &self.partial_path
            && !self.finished
            && let Err(error) = fs::remove_file(partial_path)
        {
            tracing::debug!(%error, "an archive that was not finished stays");
        }
    }
}

impl ArchiveSink {
    /// Returns a sink for an archive at this path. An existing file is replaced; a device or a pipe, also `-` for
    /// stdout, gets the archive when it is complete. Writes nothing yet.
    ///
    /// # Errors
    /// If nothing can be written at this path.
    pub fn new(path: &Utf8Path, name: Option<String>, form: ArchiveForm) -> Result<ArchiveSink, OutputPathError> {
        Ok(ArchiveSink {
            target: look_at_file(path)?,
            path: path.to_owned(),
            name,
            form,
            is_referrer: false,
            tar: Arc::default(),
        })
    }

    /// Returns true if the archive goes to stdout.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        self.target == OutputPath::Stdout
    }

    fn lock(&self) -> MutexGuard<'_, Option<Tar>> {
        lock(&self.tar)
    }

    fn with_tar<T>(&self, work: impl FnOnce(&mut Tar) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut tar = self.lock();
        let tar = match &mut *tar {
            Some(tar) => tar,
            none => none.insert(Tar::begin(&self.target)?),
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
            if !self.is_referrer {
                tar.images.extend(parse_image(manifest));
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

    /// Returns false: each copy writes the complete archive.
    fn has_image<'a>(&'a self, _manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        async { Ok(false) }.boxed()
    }

    /// Refuses content that Docker's archives cannot hold.
    fn check_content(&self, root: &RawManifest, below: &[RawManifest]) -> Result<(), TransferError> {
        if self.form == ArchiveForm::Oci || self.is_referrer {
            return Ok(());
        }
        let manifests = std::iter::once(root).chain(below);
        let images = manifests.filter_map(parse_image).count();
        if images == 1 {
            return Ok(());
        }
        let kind = parse_manifest(&root.bytes).ok();
        Err(TransferError {
            attempt: self.attempt("the image"),
            kind: FailureKind::Local,
            source: Some(Box::new(match images {
                0 => DockerArchiveRefused::NoImage {
                    kind: kind.and_then(|content| content.artifact_type().map(str::to_owned)),
                },
                images => DockerArchiveRefused::Platforms { images },
            })),
        })
    }

    /// Returns `None` for Docker's archives: they cannot hold referrers.
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
            let (writer, received) = receive_stream(move || sink.open_writer(&wanted), stream)
                .await
                .map_err(failed)?;
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
            let (sink, root) = (self.clone(), root.clone());
            let finished = blocking(move || sink.with_tar(|tar| tar.finish(&sink.target, &root, sink.name.as_deref())));
            finished.await.map_err(|error| error.during(self.attempt("the index")))
        }
        .boxed()
    }
}

/// Content that a docker archive cannot hold.
#[derive(Debug, thiserror::Error)]
pub enum DockerArchiveRefused {
    /// An index of several images.
    #[error("a docker archive holds the image of one platform, and this is an index of {}", counted(*.images, "image"))]
    Platforms { images: usize },
    /// An artifact, or an index without images.
    #[error("a docker archive holds container images only, and this is {}", describe_kind(.kind.as_deref()))]
    NoImage {
        /// The type of the artifact.
        kind: Option<String>,
    },
}

fn describe_kind(kind: Option<&str>) -> String {
    kind.map_or_else(
        || "an index without any".to_owned(),
        |kind| format!("an artifact of the type `{kind}`"),
    )
}

impl Hint for DockerArchiveRefused {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            DockerArchiveRefused::Platforms { .. } => "choose one with `--platform`, or write an `oci-archive:`",
            DockerArchiveRefused::NoImage { .. } => "write an `oci-archive:`",
        }))
    }
}

/// Returns the manifest of an image that a platform can run. Attestations and artifacts are manifests too.
pub(crate) fn parse_image(manifest: &RawManifest) -> Option<Manifest> {
    let Ok(ManifestContent::Image(image)) = parse_manifest(&manifest.bytes) else {
        return None;
    };
    let is_image = image.config.media_type.contains(".image.")
        && image.subject.is_none()
        && !image.layers.iter().any(|layer| layer.media_type.contains("in-toto"));
    is_image.then_some(image)
}
