//! Writes one blob to its place in a bundle.

use std::hash::Hasher as _;
use std::io::{self, IoSlice};
use std::sync::Arc;

use landfall_core::bundle::frame::{self, BLOCK_SIZE, FRAME_CONTENT_MAX};
use landfall_core::bundle::seek_table::SeekEntry;
use twox_hash::XxHash64;

use super::placement::{BundleForm, PlacedBlob, Placement, low_bits, stored_entry};
use crate::digest::{Algorithm, Digester};
use crate::pieces::FileSet;
use crate::store::error::StoreError;
use crate::store::receive::ByteReceiver;

/// Bytes of one read, of content that an earlier process wrote.
const READ_SIZE: u64 = 512 * 1024;

/// Writer of the frames of one blob.
#[derive(Debug)]
pub(crate) struct StoredWriter {
    files: Arc<FileSet>,
    form: BundleForm,
    blob: PlacedBlob,
    digester: Digester,
    /// Checksum of the current frame.
    sum: XxHash64,
    /// Frames that are complete.
    entries: Vec<SeekEntry>,
    /// Position in the file of the next byte.
    position: u64,
}

impl StoredWriter {
    pub(crate) fn new(files: Arc<FileSet>, form: BundleForm, blob: PlacedBlob) -> StoredWriter {
        StoredWriter {
            files,
            form,
            digester: Digester::new(Algorithm::of(&blob.digest)),
            sum: XxHash64::with_seed(0),
            entries: Vec::new(),
            position: blob.content,
            blob,
        }
    }

    /// Goes on behind the first `length` bytes of the blob, which an earlier process wrote: they are read for their hash.
    pub(crate) fn resume(
        files: Arc<FileSet>,
        placement: &Placement,
        blob: PlacedBlob,
        length: u64,
    ) -> io::Result<StoredWriter> {
        let mut writer = StoredWriter::new(files.clone(), placement.form, blob);
        let mut at = 0;
        let mut buffer = Vec::new();
        while at < length {
            let (position, contiguous) = placement.locate(&writer.blob, at);
            let wanted = contiguous.min(READ_SIZE).min(length - at);
            buffer.resize(usize::try_from(wanted).map_err(io::Error::other)?, 0);
            files.read_exact_at(&mut buffer, position)?;
            // Written again in the same place: the headers between the bytes may be missing.
            writer.write(&buffer)?;
            at += wanted;
        }
        Ok(writer)
    }

    /// Returns the number of bytes of the blob so far.
    pub(crate) fn length(&self) -> u64 {
        self.digester.length()
    }

    /// Writes bytes of the blob, with the headers among them, by one call of the system and without a copy of them.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut framing = Vec::new();
        // Each part with the end of what stands before it.
        let mut parts = Vec::new();
        while !bytes.is_empty() {
            let at = self.length();
            let room = match self.form {
                BundleForm::Plain => bytes.len(),
                BundleForm::Frames => {
                    self.begin_block(at, &mut framing)?;
                    usize::try_from(BLOCK_SIZE - at % BLOCK_SIZE).map_err(io::Error::other)?
                }
            };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.digester.update(now);
            parts.push((framing.len(), now));
            if self.form == BundleForm::Frames {
                self.sum.write(now);
                self.end_frame(&mut framing)?;
            }
            bytes = later;
        }
        self.write_parts(&framing, &parts)
    }

    /// Writes the parts of the blob with what stands before, between and behind them.
    fn write_parts(&mut self, framing: &[u8], parts: &[(usize, &[u8])]) -> io::Result<()> {
        let mut slices = Vec::with_capacity(2 * parts.len() + 1);
        let mut written = 0;
        for (end, part) in parts {
            slices.extend([IoSlice::new(&framing[written..*end]), IoSlice::new(part)]);
            written = *end;
        }
        slices.push(IoSlice::new(&framing[written..]));
        let length: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        self.files.write_all_vectored_at(&mut slices, self.position)?;
        self.position += length;
        Ok(())
    }

    /// Renders the headers that stand before this byte.
    fn begin_block(&self, at: u64, framing: &mut Vec<u8>) -> io::Result<()> {
        if !at.is_multiple_of(BLOCK_SIZE) {
            return Ok(());
        }
        let content = frame::content_at(self.blob.size, at);
        let in_frame = at % FRAME_CONTENT_MAX;
        if in_frame == 0 {
            let content = u32::try_from(content).map_err(io::Error::other)?;
            framing.extend(frame::render_header(content));
        }
        framing.extend(frame::render_block_header(content, in_frame));
        Ok(())
    }

    /// Renders the checksum of a frame behind its last byte.
    fn end_frame(&mut self, framing: &mut Vec<u8>) -> io::Result<()> {
        let end = self.length();
        if end != self.blob.size && !end.is_multiple_of(FRAME_CONTENT_MAX) {
            return Ok(());
        }
        let content = frame::content_at(self.blob.size, end.saturating_sub(1));
        let sum = low_bits(std::mem::replace(&mut self.sum, XxHash64::with_seed(0)).finish());
        framing.extend(sum.to_le_bytes());
        self.entries.push(stored_entry(content, sum));
        Ok(())
    }

    /// Verifies the blob. Returns its frames.
    pub(crate) fn finish(mut self) -> Result<Vec<SeekEntry>, StoreError> {
        let (digest, size) = (self.blob.digest.clone(), self.blob.size);
        if size == 0 && self.form == BundleForm::Frames {
            let mut framing = Vec::new();
            self.begin_block(0, &mut framing)?;
            self.end_frame(&mut framing)?;
            self.write_parts(&framing, &[])?;
        }
        let found = self.length();
        if found < size {
            return Err(StoreError::Short { digest, size, found });
        }
        let found = self.digester.finish();
        match found == digest {
            true => Ok(self.entries),
            false => Err(StoreError::WrongDigest {
                expected: digest,
                found,
            }),
        }
    }
}

impl ByteReceiver for StoredWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        if self.length() + bytes.len() as u64 > self.blob.size {
            return Err(StoreError::TooLong {
                digest: self.blob.digest.clone(),
                size: self.blob.size,
            });
        }
        Ok(self.write(bytes)?)
    }
}
