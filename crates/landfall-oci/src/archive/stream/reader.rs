//! The thread that reads an archive once: it decompresses, takes the tar apart, keeps documents in memory and hands the
//! content of blobs on.

use std::io::{self, Read, Seek};

use bytes::Bytes;
use camino::Utf8PathBuf;
use landfall_core::failure::FailureKind;
use landfall_core::oci_types::{Descriptor, media_type, parse_manifest};
use landfall_core::reference::Digest;
use tokio::sync::{mpsc, oneshot};

use super::content::EntryContent;
use super::files::{StagedBlob, StreamedFile, StreamedFiles};
use super::staging::{Chunks, Staging, UnnamedBlobs};
use super::{ArchiveStream, ReadFailure, WrongBlobs};
use crate::archive::error::{ArchiveError, EntryProblem};
use crate::archive::files::{DOCUMENT_SIZE_MAX, layer_media_type, too_large};
use crate::archive::table::{EntryTable, shortened};
use crate::decode::{CappedDecoder, Compression, SNIFF_LENGTH, sniff_compression};
use crate::digest::{Algorithm, Digester, digest_of, matches_digest};
use crate::image::TransferError;
use crate::layout_files::{INDEX, LAYOUT_FILE};
use crate::store::ContentStore;
use crate::store::error::StoreError;
use crate::tar_reader::{EntryKind, Skipping, TarEntry, TarError, TarReader};

/// Size of a chunk, in bytes.
const CHUNK_SIZE: usize = 256 * 1024;
/// Chunks that wait for the destination.
const QUEUED_CHUNKS_MAX: usize = 4;
/// Largest document that is both staged and kept, in bytes. No configuration of an image is larger.
const CONFIG_SIZE_MAX: u64 = 1024 * 1024;
/// Size up to which a file stays in memory whatever it is, in bytes. `docker save` has many files like `VERSION`.
const TINY_MAX: usize = 4096;
/// Files of zarf's packages that are tars, and no layers.
const ZARF_TARS: [&str; 2] = ["components/", "sboms.tar"];

/// Content for the destination.
#[derive(Debug)]
pub(super) enum BlobEvent {
    /// A blob of known digest. Dropping the receiver skips it.
    Content { blob: Descriptor, chunks: Chunks },
    /// A blob that is about to be visible in the store.
    Found {
        blob: Descriptor,
        answer: oneshot::Sender<()>,
    },
}

impl BlobEvent {
    pub(super) fn digest(&self) -> &Digest {
        match self {
            BlobEvent::Content { blob, .. } | BlobEvent::Found { blob, .. } => &blob.digest,
        }
    }
}

/// Reader of one archive.
pub(super) struct StreamReader {
    input: Box<dyn Read + Send>,
    /// Most bytes that come out of the decompression.
    decompressed_max: u64,
    context: Context,
}

/// Everything but the input.
struct Context {
    archive: Utf8PathBuf,
    unnamed: UnnamedBlobs,
    /// True if bytes are verified here.
    verifies: bool,
    blobs: mpsc::Sender<BlobEvent>,
    /// Bytes of documents that may still be kept.
    documents_left: usize,
    /// True after a file that only a layout has: other files are no layers then.
    is_layout: bool,
    wrong: WrongBlobs,
    /// The entry whose content is being read.
    at: Option<String>,
}

/// The input, which ends when nobody takes the blobs any more.
struct WhileWanted<R> {
    input: R,
    blobs: mpsc::Sender<BlobEvent>,
}

impl<R: Read> Read for WhileWanted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.blobs.is_closed() {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => self.input.read(buffer),
        }
    }
}

impl StreamReader {
    pub(super) fn new(
        stream: ArchiveStream,
        staging: &Staging,
        blobs: mpsc::Sender<BlobEvent>,
        wrong: WrongBlobs,
    ) -> StreamReader {
        StreamReader {
            input: stream.input,
            decompressed_max: stream.limits.decompressed,
            context: Context {
                archive: stream.archive,
                unnamed: staging.unnamed(),
                verifies: staging.needs_verification(),
                blobs,
                documents_left: stream.limits.documents,
                is_layout: false,
                wrong,
                at: None,
            },
        }
    }

    /// Reads the archive to its end.
    pub(super) fn read(self) -> StreamEnd {
        let mut context = self.context;
        let mut files = StreamedFiles {
            archive: context.archive.clone(),
            table: EntryTable::default(),
            lacks_end_mark: true,
        };
        let result = context.read_all(self.input, self.decompressed_max, &mut files);
        StreamEnd {
            files,
            at: context.at,
            result,
        }
    }
}

/// The end of a pass through an archive.
pub(super) struct StreamEnd {
    /// The files that were read.
    pub(super) files: StreamedFiles,
    /// The entry whose content was being read.
    at: Option<String>,
    pub(super) result: Result<(), ReadFailure>,
}

impl StreamEnd {
    /// Adds the damaged entry and its images to an error, if the caller wants to know more than the first wrong blob.
    pub(super) fn locate(&self, error: ArchiveError, wrong: &WrongBlobs) -> ArchiveError {
        if matches!(wrong, WrongBlobs::Refused) || error.is_cut_short() {
            return error;
        }
        let mut blobs = wrong.noted();
        blobs.extend(self.at.as_deref().and_then(blob_digest));
        let of_wrong = || blobs.iter().next().map(ToString::to_string);
        match self.at.clone().or_else(of_wrong) {
            None => error,
            Some(entry) => ArchiveError::Part {
                entry: shortened(&entry),
                images: self.files.images_with(&blobs),
                source: Box::new(error),
            },
        }
    }
}

type Tar<'a> = TarReader<Skipping<CappedDecoder<'a>>>;

impl Context {
    fn read_all(
        &mut self,
        input: Box<dyn Read + Send>,
        decompressed_max: u64,
        files: &mut StreamedFiles,
    ) -> Result<(), ReadFailure> {
        let wanted = WhileWanted {
            input,
            blobs: self.blobs.clone(),
        };
        let decoder = CappedDecoder::new(wanted, decompressed_max).map_err(|error| self.failed(error))?;
        let mut tar = TarReader::new(Skipping(decoder));
        while let Some(entry) = tar.next_entry().map_err(|error| self.tar_failed(error))? {
            let Some(path) = files.table.check(&entry).map_err(ReadFailure::Archive)? else {
                continue;
            };
            self.at = Some(path.clone());
            let file = match entry.kind {
                EntryKind::File => Some(self.take_file(&path, &entry, &mut tar)?),
                _ => None,
            };
            files.table.insert(path, &entry, file);
            self.at = None;
        }
        files.lacks_end_mark = tar.lacks_end_mark();
        // The checksum of the compression comes last.
        io::copy(&mut tar.into_input(), &mut io::sink()).map_err(|error| self.failed(error))?;
        Ok(())
    }

    fn failed(&self, error: io::Error) -> ReadFailure {
        self.tar_failed(error.into())
    }

    fn tar_failed(&self, source: TarError) -> ReadFailure {
        if self.blobs.is_closed() {
            return ReadFailure::Stopped;
        }
        ReadFailure::Archive(ArchiveError::Read {
            archive: self.archive.clone(),
            source,
        })
    }

    fn take_file(&mut self, path: &str, entry: &TarEntry, tar: &mut Tar<'_>) -> Result<StreamedFile, ReadFailure> {
        let name = path.rsplit('/').next().unwrap_or_default();
        self.is_layout |= name == INDEX || name == LAYOUT_FILE;
        let named = blob_digest(path);
        let mut content = EntryContent::new(tar, entry);
        if entry.size <= DOCUMENT_SIZE_MAX {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).map_err(|error| self.failed(error))?;
            return self.take_small(path, named, bytes.into());
        }
        match named {
            Some(digest) => {
                let blob = describe(digest, entry.size);
                let compression = self.send(path, &blob, content)?;
                Ok(StreamedFile::Blob(StagedBlob {
                    blob,
                    compression,
                    document: None,
                }))
            }
            None if self.may_be_layer(path) => self.take_unnamed(path, entry.size, content),
            // The reader of the next entry skips the content.
            None => Ok(StreamedFile::Passed { size: entry.size }),
        }
    }

    /// Takes a file that is in memory: manifests stay there.
    fn take_small(&mut self, path: &str, named: Option<Digest>, bytes: Bytes) -> Result<StreamedFile, ReadFailure> {
        let is_json = bytes
            .iter()
            .find(|byte| !byte.is_ascii_whitespace())
            .is_some_and(|byte| matches!(byte, b'{' | b'[' | 0xef));
        let first = &bytes[..bytes.len().min(SNIFF_LENGTH)];
        let is_tiny = bytes.len() <= TINY_MAX && layer_media_type(sniff_compression(first)).is_some();
        let Some(digest) = named else {
            if is_json || is_tiny || !self.may_be_layer(path) {
                self.keep(path, bytes.len())?;
                return Ok(StreamedFile::Document(bytes));
            }
            return self.take_unnamed(path, bytes.len() as u64, &*bytes);
        };
        if !matches_digest(&bytes, &digest) {
            let found = digest_of(&bytes);
            let expected = digest;
            if self.wrong.note(&expected) {
                return Ok(StreamedFile::Damaged { expected, found });
            }
            return Err(ReadFailure::Archive(ArchiveError::Damaged {
                entry: shortened(path),
                expected,
                found,
            }));
        }
        if is_json && parse_manifest(&bytes).is_ok() {
            self.keep(path, bytes.len())?;
            return Ok(StreamedFile::Document(bytes));
        }
        let blob = describe(digest, bytes.len() as u64);
        let compression = self.send(path, &blob, &*bytes)?;
        let is_config = is_json && bytes.len() as u64 <= CONFIG_SIZE_MAX && !self.is_layout;
        let document = (is_config && self.keep(path, bytes.len()).is_ok()).then_some(bytes);
        Ok(StreamedFile::Blob(StagedBlob {
            blob,
            compression,
            document,
        }))
    }

    /// Counts bytes that stay in memory.
    fn keep(&mut self, path: &str, length: usize) -> Result<(), ReadFailure> {
        let left = self.documents_left.checked_sub(length);
        self.documents_left = left.ok_or_else(|| {
            ReadFailure::Archive(ArchiveError::Entry {
                entry: shortened(path),
                problem: EntryProblem::Count,
            })
        })?;
        Ok(())
    }

    fn may_be_layer(&self, path: &str) -> bool {
        !self.is_layout && !ZARF_TARS.iter().any(|known| path.starts_with(known))
    }

    /// Sends content of known digest, in chunks. Returns its compression.
    fn send(&self, path: &str, blob: &Descriptor, mut content: impl Read) -> Result<Compression, ReadFailure> {
        let (sender, chunks) = mpsc::channel(QUEUED_CHUNKS_MAX);
        let event = BlobEvent::Content {
            blob: blob.clone(),
            chunks,
        };
        self.blobs.blocking_send(event).map_err(|_gone| ReadFailure::Stopped)?;
        let mut digester = self.verifies.then(|| Digester::new(Algorithm::of(&blob.digest)));
        let mut compression = None;
        loop {
            let chunk = match read_chunk(&mut content) {
                Ok(chunk) => chunk,
                Err(error) => {
                    let failure = self.failed(error);
                    drop(sender.blocking_send(Err(self.broken(path))));
                    return Err(failure);
                }
            };
            let first = &chunk[..chunk.len().min(SNIFF_LENGTH)];
            let compression = *compression.get_or_insert_with(|| sniff_compression(first));
            if chunk.is_empty() {
                return Ok(compression);
            }
            if let Some(digester) = &mut digester {
                digester.update(&chunk);
                if digester.length() == blob.size && digester.clone().finish() != blob.digest {
                    drop(sender.blocking_send(Err(self.broken(path))));
                    return Err(ReadFailure::Archive(ArchiveError::Damaged {
                        entry: shortened(path),
                        expected: blob.digest.clone(),
                        found: digester.clone().finish(),
                    }));
                }
            }
            if sender.blocking_send(Ok(chunk)).is_err() {
                // The destination has the blob, or has failed: the next entry shows which.
                return Ok(compression);
            }
        }
    }

    fn broken(&self, path: &str) -> TransferError {
        TransferError {
            attempt: format!("cannot read `{}` from the archive `{}`", shortened(path), self.archive),
            kind: FailureKind::Corrupt,
            source: None,
        }
    }

    /// Stages content whose digest is known at its end. A compression that no layer may have is undone.
    fn take_unnamed(&self, path: &str, size: u64, mut content: impl Read + Send) -> Result<StreamedFile, ReadFailure> {
        let mut first = Vec::new();
        let beginning = content.by_ref().take(SNIFF_LENGTH as u64).read_to_end(&mut first);
        beginning.map_err(|error| self.failed(error))?;
        let compression = sniff_compression(&first);
        let whole = first.as_slice().chain(content);
        match layer_media_type(compression) {
            Some(_) => self.stage_unnamed(path, size, compression, whole, |error| self.failed(error)),
            None => {
                let failed = |source| {
                    ReadFailure::Archive(ArchiveError::Layer {
                        entry: shortened(path),
                        source,
                    })
                };
                let plain = CappedDecoder::new(whole, LAYER_MAX).map_err(failed)?;
                self.stage_unnamed(path, size, Compression::None, plain, failed)
            }
        }
    }

    fn stage_unnamed(
        &self,
        path: &str,
        size: u64,
        compression: Compression,
        content: impl Read,
        failed: impl Fn(io::Error) -> ReadFailure,
    ) -> Result<StreamedFile, ReadFailure> {
        if size > LAYER_MAX {
            return Err(ReadFailure::Archive(too_large(path)));
        }
        let blob = match &self.unnamed {
            UnnamedBlobs::Store(store) => self.stage_in_store(store, size, content, failed)?,
            UnnamedBlobs::Spool(spool) => {
                let mut file = tempfile::tempfile_in(spool).map_err(store_failed)?;
                let mut digester = Digester::new(Algorithm::Sha256);
                for_each_chunk(content, failed, |chunk| {
                    digester.update(chunk);
                    io::Write::write_all(&mut file, chunk).map_err(store_failed)
                })?;
                file.rewind().map_err(store_failed)?;
                let size = digester.length();
                let blob = describe(digester.finish(), size);
                self.send(path, &blob, file)?;
                blob
            }
        };
        Ok(StreamedFile::Blob(StagedBlob {
            blob,
            compression,
            document: None,
        }))
    }

    fn stage_in_store(
        &self,
        store: &ContentStore,
        size: u64,
        content: impl Read,
        failed: impl Fn(io::Error) -> ReadFailure,
    ) -> Result<Descriptor, ReadFailure> {
        store.check_space(size).map_err(ReadFailure::Store)?;
        let mut upload = store.upload(Algorithm::Sha256);
        for_each_chunk(content, failed, |chunk| {
            store.check_space(chunk.len() as u64).map_err(ReadFailure::Store)?;
            upload.append(chunk).map_err(ReadFailure::Store)
        })?;
        let digest = upload.digest().map_err(ReadFailure::Store)?;
        let blob = describe(digest.clone(), upload.length());
        // The lease comes before the blob.
        let (answer, answered) = oneshot::channel();
        let event = BlobEvent::Found {
            blob: blob.clone(),
            answer,
        };
        self.blobs.blocking_send(event).map_err(|_gone| ReadFailure::Stopped)?;
        answered.blocking_recv().map_err(|_gone| ReadFailure::Stopped)?;
        upload.commit(&digest).map_err(ReadFailure::Store)?;
        Ok(blob)
    }
}

/// Limit of a layer of `docker save`, in bytes.
const LAYER_MAX: u64 = 64 * 1024 * 1024 * 1024;

fn store_failed(error: io::Error) -> ReadFailure {
    ReadFailure::Store(StoreError::Disk(error))
}

/// Returns the descriptor of content whose role is not known yet.
fn describe(digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER, digest, size)
}

/// Returns the digest in the path of a blob: `blobs/<algorithm>/<hex>`, in any directory.
fn blob_digest(path: &str) -> Option<Digest> {
    let (rest, hex) = path.rsplit_once('/')?;
    let (rest, algorithm) = rest.rsplit_once('/').unwrap_or(("", rest));
    let is_blob = rest == "blobs" || rest.ends_with("/blobs");
    let is_known = [Algorithm::Sha256, Algorithm::Sha512]
        .iter()
        .any(|known| known.name() == algorithm);
    (is_blob && is_known)
        .then(|| format!("{algorithm}:{hex}").parse().ok())
        .flatten()
}

/// Reads until a chunk is full or the input ends.
fn read_chunk(input: &mut impl Read) -> io::Result<Bytes> {
    let mut chunk = Vec::new();
    input.take(CHUNK_SIZE as u64).read_to_end(&mut chunk)?;
    Ok(chunk.into())
}

fn for_each_chunk(
    mut input: impl Read,
    failed: impl Fn(io::Error) -> ReadFailure,
    mut each: impl FnMut(&[u8]) -> Result<(), ReadFailure>,
) -> Result<(), ReadFailure> {
    loop {
        let chunk = read_chunk(&mut input).map_err(&failed)?;
        if chunk.is_empty() {
            return Ok(());
        }
        each(&chunk)?;
    }
}
