//! Archives that are read once, from their beginning to their end: compressed ones without a seek table, and pipes.
//! Nothing is decompressed to disk. Blobs go to their destination as they come; manifests stay in memory, so that no
//! image is visible before its content is there.
//!
//! [`load_stream`] writes the blobs and returns the images. The caller then copies these images as any others: the copy
//! finds the blobs where they are, and writes the manifests.

mod content;
mod files;
mod hashing;
mod reader;
mod staging;

#[cfg(test)]
pub(super) mod tests;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures_util::future;
use landfall_core::failure::{FailureKind, Hint};
use landfall_core::reference::Digest;
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_core::sync::lock;
use tokio::sync::mpsc;

use crate::archive::bytes::{ArchiveBytes, ArchiveInput};
use crate::archive::contents::PartialIndex;
use crate::archive::error::{ArchiveError, EntryProblem};
use crate::archive::source::ContentHolder;
use crate::archive::{ArchiveImage, images_of, list_in_place, read_images};
use crate::image::TransferError;
use crate::read_at::limit;
use crate::store::blocking::blocking;
use crate::store::error::StoreError;

use self::reader::{BlobEvent, StreamReader};

use self::staging::Chunks;

pub use self::hashing::FileHash;
pub use self::staging::Staging;

/// An archive, opened without a copy of it.
#[derive(Debug)]
pub enum OpenedArchive {
    /// The images of an archive that is read in place.
    InPlace(Vec<ArchiveImage>),
    /// An archive that can be read once.
    OnePass(ArchiveStream),
}

/// An archive that can be read once.
pub struct ArchiveStream {
    archive: Utf8PathBuf,
    input: Box<dyn Read + Send>,
    partial: PartialIndex,
    limits: StreamLimits,
}

/// Bounds of one pass.
#[derive(Debug, Clone, Copy)]
struct StreamLimits {
    /// Most bytes that come out of the decompression.
    decompressed: u64,
    /// Most bytes of manifests and other documents in memory.
    documents: usize,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits {
            decompressed: 1 << 40,
            documents: 64 * 1024 * 1024,
        }
    }
}

impl fmt::Debug for ArchiveStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArchiveStream")
            .field("archive", &self.archive)
            .finish_non_exhaustive()
    }
}

/// Error of one pass through an archive.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A blob could not be written.
    #[error(transparent)]
    Transfer(#[from] TransferError),
}

impl Hint for StreamError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            StreamError::Archive(ArchiveError::Entry {
                problem: EntryProblem::Passed,
                ..
            }) => Some(Cow::Borrowed("decompress the archive to a file, and name that file")),
            StreamError::Archive(_) | StreamError::Transfer(_) => None,
        }
    }
}

/// Opens an archive without a copy of it: an uncompressed one, or one with a seek table, is read in place. Pieces whose
/// SHA-256 is stated beside them are read in one pass, which compares it. `-` is stdin, and any piece stands for the whole
/// file. `spool` takes layers of `docker save` that no image may have as they are.
/// Blocks: call it on a blocking thread.
///
/// # Errors
/// If the archive cannot be opened, or is read in place and has no images.
pub fn open_once(archive: &Utf8Path, spool: &Utf8Path) -> Result<OpenedArchive, ArchiveError> {
    let opened = ArchiveInput::open(archive).map_err(|error| ArchiveError::Read {
        archive: archive.to_owned(),
        source: error.into(),
    })?;
    match opened {
        // All of the file is read here: the only way to know that it is the one that was described.
        ArchiveInput::InPlace(ArchiveBytes::Plain(file)) if file.has_stated_sha256() => {
            let input = Box::new(file.into_checked_reader());
            Ok(OpenedArchive::OnePass(ArchiveStream::new(archive, input)))
        }
        ArchiveInput::InPlace(bytes) => {
            list_in_place(bytes, archive, spool, PartialIndex::Kept).map(OpenedArchive::InPlace)
        }
        ArchiveInput::OnePass(input) => Ok(OpenedArchive::OnePass(ArchiveStream::new(archive, input))),
    }
}

/// Lists the images of any archive without a copy of it: in place if that is possible, else by one pass into `staging`.
/// The arguments are those of [`open_once`] and [`load_stream`].
///
/// # Errors
/// Those of [`open_once`] and [`load_stream`].
pub async fn open_or_load(
    archive: &Utf8Path,
    spool: &Utf8Path,
    staging: &Staging,
    progress: &dyn ProgressSink,
) -> Result<Vec<ArchiveImage>, StreamError> {
    let (path, spool) = (archive.to_owned(), spool.to_owned());
    match on_blocking_thread(archive, move || open_once(&path, &spool)).await?? {
        OpenedArchive::InPlace(images) => Ok(images),
        OpenedArchive::OnePass(stream) => load_stream(stream, staging, progress).await,
    }
}

/// Treatment of blobs whose bytes are wrong.
#[derive(Debug, Clone)]
enum WrongBlobs {
    /// The first one is the error of the archive.
    Refused,
    /// They are left out, and noted here.
    LeftOut(Arc<Mutex<HashSet<Digest>>>),
}

impl WrongBlobs {
    /// Notes a wrong blob. Returns false if it is an error.
    fn note(&self, digest: &Digest) -> bool {
        match self {
            WrongBlobs::Refused => false,
            WrongBlobs::LeftOut(wrong) => {
                lock(wrong).insert(digest.clone());
                true
            }
        }
    }

    fn noted(&self) -> HashSet<Digest> {
        match self {
            WrongBlobs::Refused => HashSet::new(),
            WrongBlobs::LeftOut(wrong) => lock(wrong).clone(),
        }
    }
}

impl ArchiveStream {
    /// Opens an archive in a file, or in pieces of one, plain or compressed, to read it in one pass in any case. The
    /// second value is the SHA-256 of the file, once that was read. Blocks.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(archive: &Utf8Path) -> Result<(ArchiveStream, FileHash), ArchiveError> {
        let (file, hash) = FileHash::open(archive).map_err(|error| ArchiveError::Read {
            archive: archive.to_owned(),
            source: error.into(),
        })?;
        Ok((ArchiveStream::new(archive, Box::new(file)), hash))
    }

    /// Returns the archive in a stream of bytes, plain or compressed; `archive` is its name in messages.
    #[must_use]
    pub fn new(archive: &Utf8Path, input: Box<dyn Read + Send>) -> ArchiveStream {
        ArchiveStream {
            archive: archive.to_owned(),
            input,
            partial: PartialIndex::Kept,
            limits: StreamLimits::default(),
        }
    }

    /// Narrows indexes to the available entries, for destinations that require complete images; see
    /// [`crate::archive::open_whole_images`].
    #[must_use]
    pub fn whole_images(self) -> ArchiveStream {
        ArchiveStream {
            partial: PartialIndex::Narrowed,
            ..self
        }
    }
}

/// Reads an archive once. Writes its blobs to `staging`, each when it is read, and returns the images: their manifests
/// are in memory, their blobs where they were written. A blob that is there already is skipped, so that a second run
/// continues a first one.
///
/// # Errors
/// If the archive is damaged or has no images, or a blob cannot be written. Blobs that were written stay; nothing names
/// them.
pub async fn load_stream(
    stream: ArchiveStream,
    staging: &Staging,
    progress: &dyn ProgressSink,
) -> Result<Vec<ArchiveImage>, StreamError> {
    load(stream, staging, progress, WrongBlobs::Refused).await
}

/// Reads an archive once like [`load_stream`], to its end also if blobs have wrong bytes: only the images that need
/// them fail, when they are copied. An archive that cannot be read to its end is an error that names the images in which
/// it is damaged, as far as they are known.
///
/// # Errors
/// Those of [`load_stream`], but for wrong blobs.
pub async fn load_intact(
    stream: ArchiveStream,
    staging: &Staging,
    progress: &dyn ProgressSink,
) -> Result<Vec<ArchiveImage>, StreamError> {
    load(stream, staging, progress, WrongBlobs::LeftOut(Arc::default())).await
}

async fn load(
    stream: ArchiveStream,
    staging: &Staging,
    progress: &dyn ProgressSink,
    wrong: WrongBlobs,
) -> Result<Vec<ArchiveImage>, StreamError> {
    let (archive, partial) = (stream.archive.clone(), stream.partial);
    let (sender, blobs) = mpsc::channel(1);
    let reader = StreamReader::new(stream, staging, sender, wrong.clone());
    let writing = async {
        // The reader stops when nobody takes its blobs.
        let mut blobs = blobs;
        while let Some(event) = blobs.recv().await {
            let digest = event.digest().clone();
            match write_blob(event, staging, &archive, progress).await {
                Err(error) if is_wrong(&error) && wrong.note(&digest) => {}
                written => written?,
            }
        }
        Ok::<(), TransferError>(())
    };
    let (read, written) = future::join(on_blocking_thread(&archive, move || reader.read()), writing).await;
    let mut reading = read?;
    let files = match (std::mem::replace(&mut reading.result, Ok(())), written) {
        // The archive's own error is the cause of a blob that was not whole.
        (Err(ReadFailure::Archive(error)), _) => return Err(reading.locate(error, &wrong).into()),
        (_, Err(error)) => return Err(error.into()),
        (Err(ReadFailure::Store(error)), Ok(())) => {
            return Err(error.during(format!("cannot store the content of `{archive}`")).into());
        }
        (Err(ReadFailure::Stopped), Ok(())) => {
            return Err(StoreError::Stopping
                .during(format!("cannot read the archive `{archive}`"))
                .into());
        }
        (Ok(()), Ok(())) => reading.files,
    };
    let holder = ContentHolder::Staged {
        source: staging.source(),
        wrong: Arc::new(wrong.noted()),
    };
    let found = on_blocking_thread(&archive, move || read_images(&files, partial)).await?;
    Ok(images_of(&archive, holder, found?))
}

/// Returns true if a blob has other bytes than its digest says.
fn is_wrong(error: &TransferError) -> bool {
    matches!(error.kind, FailureKind::Corrupt | FailureKind::WrongLength)
}

/// Failure of the thread that reads an archive.
#[derive(Debug)]
enum ReadFailure {
    Archive(ArchiveError),
    Store(StoreError),
    /// Nobody takes the blobs any more.
    Stopped,
}

async fn on_blocking_thread<T: Send + 'static>(
    archive: &Utf8Path,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TransferError> {
    let done = blocking(move || Ok(work())).await;
    done.map_err(|error| error.during(format!("cannot read the archive `{archive}`")))
}

async fn write_blob(
    event: BlobEvent,
    staging: &Staging,
    archive: &Utf8Path,
    progress: &dyn ProgressSink,
) -> Result<(), TransferError> {
    match event {
        BlobEvent::Found { blob, answer } => {
            staging.protect(&blob).await?;
            let _reader_ended = answer.send(());
            Ok(())
        }
        BlobEvent::Content { blob, chunks } => {
            let (digest, size) = (blob.digest.to_string(), blob.size);
            progress.progress(ProgressEvent::BlobPlanned {
                digest: digest.clone(),
                size,
            });
            let Some(offset) = staging.start(&blob).await? else {
                progress.progress(ProgressEvent::BlobSkipped { digest, size });
                return Ok(());
            };
            progress.progress(ProgressEvent::BlobStarted {
                image: archive.to_string(),
                digest: digest.clone(),
                size,
                offset,
            });
            let (sender, rest) = mpsc::channel(1);
            let forwarded = forward(chunks, offset, (staging, sender), &digest, progress);
            let ((), written) = future::join(forwarded, staging.write(&blob, offset, rest)).await;
            written.map_err(|error| TransferError {
                attempt: format!("cannot copy `{digest}` out of `{archive}`"),
                kind: error.kind,
                source: Some(Box::new(error)),
            })?;
            progress.progress(ProgressEvent::BlobFinished { digest });
            Ok(())
        }
    }
}

/// Passes chunks on without the first `offset` bytes, within the bandwidth of the place, and reports them. The stream
/// ends when this returns.
async fn forward(
    mut chunks: Chunks,
    offset: u64,
    (staging, to): (&Staging, mpsc::Sender<Result<Bytes, TransferError>>),
    digest: &str,
    progress: &dyn ProgressSink,
) {
    let mut left = offset;
    while let Some(chunk) = chunks.recv().await {
        let rest = chunk.map(|bytes| {
            let skipped = limit(bytes.len(), left);
            left -= skipped as u64;
            bytes.slice(skipped..)
        });
        match &rest {
            Ok(bytes) if bytes.is_empty() => continue,
            Ok(bytes) => {
                staging.pass(bytes.len()).await;
                progress.progress(ProgressEvent::BlobAdvanced {
                    digest: digest.to_owned(),
                    bytes: bytes.len() as u64,
                });
            }
            Err(_) => {}
        }
        // The destination has failed, and tells so itself.
        if to.send(rest).await.is_err() {
            return;
        }
    }
}
