//! The place of everything in a bundle's file. Pure: the same document and the same head give the same places, in the
//! writer and in every reader.

use std::collections::HashMap;
use std::io;

use landfall_core::bundle::document::BundledBlob;
use landfall_core::bundle::frame::{self, BLOCK_SIZE, frame_count, frame_length, stored_length};
use landfall_core::bundle::seek_table::{SeekEntry, rendered_length};
use landfall_core::reference::Digest;

use crate::layout::blob_path;
use crate::tar_header::{BLOCK, header_length, render_aligned_header, render_header};

/// Border on which the content of each blob begins in a plain bundle, in bytes: that of pages and of blocks of a file
/// system, so that a copy can share them.
const PLAIN_BORDER: u64 = 4096;
/// Zeros at the end of a tar (POSIX pax, "ustar Interchange Format"), in bytes.
const END_MARK: u64 = 2 * BLOCK;

/// Form of a bundle's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BundleForm {
    /// zstd frames: a compressed head, then stored blobs, then a seek table.
    Frames,
    /// A plain tar.
    Plain,
}

/// A blob with its place.
#[derive(Debug, Clone)]
pub(crate) struct PlacedBlob {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// Position of the frame with the blob's tar header, or of the header itself.
    pub(crate) header: u64,
    /// Position of the first frame of the content, or of the content itself.
    pub(crate) content: u64,
}

/// Places of all stored blobs.
#[derive(Debug, Clone)]
pub(crate) struct Placement {
    pub(crate) form: BundleForm,
    pub(crate) blobs: Vec<PlacedBlob>,
    /// Numbers of the blobs.
    by_digest: HashMap<Digest, usize>,
    /// Length of the head in the file.
    pub(crate) head: u64,
    /// Position behind the last blob.
    pub(crate) end: u64,
    /// Position of the seek table, or the end of a plain file.
    pub(crate) table: u64,
    /// Length of the file.
    pub(crate) total: u64,
}

impl Placement {
    /// Places the stored blobs behind a head of this length in the file.
    pub(crate) fn new<'a>(
        form: BundleForm,
        head: u64,
        stored: impl Iterator<Item = &'a BundledBlob>,
    ) -> io::Result<Placement> {
        let mut placement = Placement {
            form,
            blobs: Vec::new(),
            by_digest: HashMap::new(),
            head,
            end: head,
            table: 0,
            total: 0,
        };
        let mut frames = 2;
        for blob in stored {
            let header = placement.end;
            let (content, length) = match form {
                BundleForm::Frames => {
                    let glue = placement.last_padding() + header_length(&blob_path(&blob.digest));
                    frames += 1 + frame_count(blob.size);
                    (header + frame_length(glue), stored_length(blob.size))
                }
                BundleForm::Plain => {
                    let bytes = render_aligned_header(&blob_path(&blob.digest), blob.size, header, PLAIN_BORDER)?;
                    (header + bytes.len() as u64, blob.size.next_multiple_of(BLOCK))
                }
            };
            let number = placement.blobs.len();
            placement.by_digest.insert(blob.digest.clone(), number);
            placement.blobs.push(PlacedBlob {
                digest: blob.digest.clone(),
                size: blob.size,
                header,
                content,
            });
            placement.end = content + length;
        }
        let (mark, table) = match form {
            BundleForm::Frames => (
                frame_length(placement.last_padding() + END_MARK),
                rendered_length(frames),
            ),
            BundleForm::Plain => (END_MARK, 0),
        };
        placement.table = placement.end + mark;
        placement.total = placement.table + table;
        Ok(placement)
    }

    /// Returns a blob with its number.
    pub(crate) fn find(&self, digest: &Digest) -> Option<(usize, &PlacedBlob)> {
        let number = *self.by_digest.get(digest)?;
        Some((number, self.blobs.get(number)?))
    }

    /// Returns the zeros between the last blob placed and the next header.
    fn last_padding(&self) -> u64 {
        self.blobs.last().map_or(0, padding)
    }

    /// Returns the zeros between the blob before this one and its header.
    fn padding_before(&self, number: usize) -> u64 {
        let before = number.checked_sub(1).and_then(|before| self.blobs.get(before));
        before.map_or(0, padding)
    }

    /// Returns the bytes at [`PlacedBlob::header`], and their content.
    pub(crate) fn render_header(&self, number: usize) -> io::Result<SmallFrame> {
        let blob = &self.blobs[number];
        let path = blob_path(&blob.digest);
        match self.form {
            BundleForm::Frames => {
                let mut content = zeros(self.padding_before(number));
                content.extend(render_header(&path, blob.size)?);
                Ok(SmallFrame::stored(content))
            }
            BundleForm::Plain => Ok(SmallFrame::plain(render_aligned_header(
                &path,
                blob.size,
                blob.header,
                PLAIN_BORDER,
            )?)),
        }
    }

    /// Returns the bytes at [`Placement::end`], and their content.
    pub(crate) fn render_end(&self) -> SmallFrame {
        match self.form {
            BundleForm::Frames => SmallFrame::stored(zeros(self.last_padding() + END_MARK)),
            BundleForm::Plain => SmallFrame::plain(zeros(END_MARK)),
        }
    }

    /// Returns the position in the file of a blob's byte, and the number of bytes that follow it without a header.
    pub(crate) fn locate(&self, blob: &PlacedBlob, at: u64) -> (u64, u64) {
        match self.form {
            BundleForm::Frames => (
                blob.content + frame::position_in_frames(at),
                frame::contiguous_from(blob.size, at),
            ),
            BundleForm::Plain => (blob.content + at, blob.size - at),
        }
    }
}

fn padding(blob: &PlacedBlob) -> u64 {
    blob.size.next_multiple_of(BLOCK) - blob.size
}

fn zeros(count: u64) -> Vec<u8> {
    vec![0; usize::try_from(count).unwrap_or(0)]
}

/// A frame of at most one block between blobs.
#[derive(Debug, Clone)]
pub(crate) struct SmallFrame {
    /// The bytes in the file.
    pub(crate) bytes: Vec<u8>,
    pub(crate) entry: SeekEntry,
}

impl SmallFrame {
    fn stored(content: Vec<u8>) -> SmallFrame {
        let length = content.len() as u64;
        debug_assert!(length <= BLOCK_SIZE);
        let sum = checksum(&content);
        let entry = stored_entry(length, sum);
        let mut bytes = frame::render_header(entry.content).to_vec();
        bytes.extend(frame::render_block_header(length, 0));
        bytes.extend(content);
        bytes.extend(sum.to_le_bytes());
        SmallFrame { bytes, entry }
    }

    fn plain(bytes: Vec<u8>) -> SmallFrame {
        let entry = SeekEntry {
            compressed: 0,
            content: 0,
            checksum: None,
        };
        SmallFrame { bytes, entry }
    }
}

/// Returns the entry of a stored frame in the seek table.
pub(crate) fn stored_entry(content: u64, checksum: u32) -> SeekEntry {
    // A frame has at most a GiB.
    let listed = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
    SeekEntry {
        compressed: listed(frame_length(content)),
        content: listed(content),
        checksum: Some(checksum),
    }
}

/// Returns the checksum of a frame's content: the low 32 bits of its XXH64.
pub(crate) fn checksum(content: &[u8]) -> u32 {
    low_bits(twox_hash::XxHash64::oneshot(0, content))
}

pub(crate) fn low_bits(sum: u64) -> u32 {
    let [a, b, c, d, ..] = sum.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
