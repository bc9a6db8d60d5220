//! Verification of a whole bundle: every byte is covered. Blobs are hashed on all processors.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use landfall_core::bundle::frame::{self, BLOCK_SIZE, FRAME_CONTENT_MAX, split_frames};
use landfall_core::bundle::seek_table::{SeekEntry, SeekTableError, parse_seek_table};
use landfall_core::bundle::trust::DocumentProblem;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::sync::lock;
use twox_hash::XxHash64;

use super::error::BundleError;
use super::graph::{Visited, walk_manifests};
use super::placement::{BundleForm, PlacedBlob, low_bits, stored_entry};
use super::reader::{BlobLocation, BundleFile};
use super::signature::{Checked, HostKeys};
use crate::digest::{Algorithm, Digester, matches_digest};
use crate::layout::blob_path;
use crate::read_at::limit;

/// Bytes of one read: a block, which stays in the processor's cache until both of its hashes are computed.
const VERIFIED_AT_ONCE: u64 = BLOCK_SIZE;

/// A damaged part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleDamage {
    pub part: DamagedPart,
    /// Images that need the part; none if images can be used without it.
    pub images: Vec<ImageReference>,
}

/// A part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DamagedPart {
    /// A metadata file, or a file that the bundle carries.
    File {
        path: String,
    },
    Blob {
        digest: Digest,
        size: u64,
    },
    /// The tar header before a blob. Landfall reads the blob all the same, other programs do not.
    Header {
        digest: Digest,
    },
    /// The end of the tar.
    End,
    SeekTable(Option<SeekTableError>),
}

impl BundleFile {
    /// Reads and checks everything. Returns the damaged parts, in the order of the file. Blocks.
    ///
    /// # Errors
    /// If the disk fails, or all parts are whole and a description of the pieces states another SHA-256. Damage is no
    /// error.
    pub fn verify(&self) -> Result<Vec<BundleDamage>, BundleError> {
        let (damages, _) = self.verify_parts()?;
        if damages.is_empty() {
            let checked = self.files.check_stated_sha256();
            checked.map_err(|error| self.read_error(error))?;
        }
        Ok(damages)
    }

    /// Reads and checks everything. Returns the damages, and the entries of the seek table; `None` for a damaged frame.
    pub(super) fn verify_parts(&self) -> Result<(Vec<BundleDamage>, Vec<Option<SeekEntry>>), BundleError> {
        let mut damaged = self.damaged_in_head();
        let stored = self.verify_stored()?;
        let mut table = vec![None];
        for (number, (blob, found)) in self.placement.blobs.iter().zip(stored).enumerate() {
            let header = self
                .placement
                .render_header(number)
                .map_err(|error| self.read_error(error))?;
            if !self.has_bytes(blob.header, &header.bytes)? {
                damaged.push(DamagedPart::Header {
                    digest: blob.digest.clone(),
                });
            }
            table.push(Some(header.entry));
            let frames = split_frames(blob.size).count();
            match found {
                Some(entries) => table.extend(entries.into_iter().map(Some)),
                None => {
                    damaged.push(DamagedPart::Blob {
                        digest: blob.digest.clone(),
                        size: blob.size,
                    });
                    table.extend(std::iter::repeat_n(None, frames));
                }
            }
        }
        let end = self.placement.render_end();
        if !self.has_bytes(self.placement.end, &end.bytes)? {
            damaged.push(DamagedPart::End);
        }
        table.push(Some(end.entry));
        if let Some(problem) = self.verify_table(&table)? {
            damaged.push(DamagedPart::SeekTable(problem));
        }
        Ok((self.name_images(damaged), table))
    }

    /// Checks the signatures against the keys of a host.
    ///
    /// # Errors
    /// If the list of signatures cannot be read.
    pub fn check_signatures(&self, keys: &HostKeys) -> Result<Checked, DocumentProblem> {
        let signatures = self.signatures().map(|bytes| &bytes[..]);
        keys.check_bundle(self.document_bytes(), signatures)
    }

    /// Checks the files and blobs of the head, which are in memory.
    #[must_use]
    pub fn verify_head(&self) -> Vec<BundleDamage> {
        self.name_images(self.damaged_in_head())
    }

    fn damaged_in_head(&self) -> Vec<DamagedPart> {
        let files = self.document().files.iter();
        let files = files.map(|file| (file.path.clone(), &file.digest, None));
        let blobs = self.document().head();
        let blobs = blobs.map(|blob| {
            let (digest, size) = (blob.digest.clone(), blob.size);
            (blob_path(&blob.digest), &blob.digest, Some((digest, size)))
        });
        let wrong = files.chain(blobs).filter(|(path, digest, _)| {
            let bytes = self.entries.get(path);
            !bytes.is_some_and(|bytes| matches_digest(bytes, digest))
        });
        wrong
            .map(|(path, _, blob)| match blob {
                Some((digest, size)) => DamagedPart::Blob { digest, size },
                None => DamagedPart::File { path },
            })
            .collect()
    }

    /// Adds the images that need each part.
    fn name_images(&self, damaged: Vec<DamagedPart>) -> Vec<BundleDamage> {
        let has_blob = damaged.iter().any(|part| matches!(part, DamagedPart::Blob { .. }));
        let mut by_blob = match has_blob {
            true => self.images_by_blob(),
            false => HashMap::new(),
        };
        let damages = damaged.into_iter().map(|part| BundleDamage {
            images: match &part {
                DamagedPart::Blob { digest, .. } => by_blob.remove(digest).unwrap_or_default(),
                _ => Vec::new(),
            },
            part,
        });
        damages.collect()
    }

    /// Returns the images with each blob and manifest that the document names, in the document's order.
    #[must_use]
    pub fn images_by_blob(&self) -> HashMap<Digest, Vec<ImageReference>> {
        let mut by_blob: HashMap<Digest, Vec<ImageReference>> = HashMap::new();
        let find = |digest: &Digest| match self.locate(digest) {
            Some(BlobLocation::Head(bytes)) => Some(bytes),
            _ => None,
        };
        for image in &self.document().images {
            let mut add = |digest: &Digest| {
                let images = by_blob.entry(digest.clone()).or_default();
                if images.last() != Some(&image.name) {
                    images.push(image.name.clone());
                }
            };
            let companions = image.companions.iter().map(|companion| &companion.digest);
            for root in std::iter::once(&image.digest).chain(companions) {
                add(root);
                walk_manifests(root, &find, &mut |visited| {
                    if let Visited::Manifest(_, Some(content)) = visited {
                        content.children().for_each(|child| add(&child.digest));
                    }
                });
            }
        }
        by_blob
    }

    /// Hashes the stored blobs. Returns the frames of each; `None` for a damaged one.
    fn verify_stored(&self) -> Result<Vec<Option<Vec<SeekEntry>>>, BundleError> {
        let blobs = &self.placement.blobs;
        let next = AtomicUsize::new(0);
        let results: Mutex<Vec<Option<Vec<SeekEntry>>>> = Mutex::new(vec![None; blobs.len()]);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(blob) = blobs.get(number) else { return Ok(()) };
                let found = self.verify_blob(blob)?;
                lock(&results)[number] = found;
            }
        };
        let workers = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(blobs.len());
        let ended: Vec<io::Result<()>> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            let ends = started.into_iter().map(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            ends.collect()
        });
        ended
            .into_iter()
            .collect::<Result<(), _>>()
            .map_err(|error| self.read_error(error))?;
        Ok(std::mem::take(&mut *lock(&results)))
    }

    /// Hashes a stored blob, and checks the headers between its bytes. Returns `None` if it is damaged.
    fn verify_blob(&self, blob: &PlacedBlob) -> io::Result<Option<Vec<SeekEntry>>> {
        let Some((digest, entries)) = hash_stored(self, blob)? else {
            return Ok(None);
        };
        let is_right = digest == blob.digest
            && (self.placement.form == BundleForm::Plain || self.has_frame_headers(blob, &entries)?);
        Ok(is_right.then_some(entries))
    }

    /// Returns true if the headers of all blocks that begin in a range of a blob are right.
    fn has_block_headers(&self, blob: &PlacedBlob, at: u64, length: u64) -> io::Result<bool> {
        if self.placement.form == BundleForm::Plain {
            return Ok(true);
        }
        let content = frame::content_at(blob.size, at);
        let first = at.div_ceil(BLOCK_SIZE);
        let end = (at + length).div_ceil(BLOCK_SIZE);
        for begin in (first..end).map(|number| number * BLOCK_SIZE) {
            let (position, _) = self.placement.locate(blob, begin);
            let mut found = [0; 3];
            self.files
                .read_exact_at(&mut found, position - frame::BLOCK_HEADER_LENGTH)?;
            if found != frame::render_block_header(content, begin % FRAME_CONTENT_MAX) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Returns true if the headers and checksums of a blob's frames are right.
    fn has_frame_headers(&self, blob: &PlacedBlob, entries: &[SeekEntry]) -> io::Result<bool> {
        let mut at = blob.content;
        let mut found = [0; 10];
        for (content, entry) in split_frames(blob.size).zip(entries) {
            self.files.read_exact_at(&mut found, at)?;
            let header = u32::try_from(content).map(frame::render_header);
            if header.ok() != Some(found) {
                return Ok(false);
            }
            at += frame::frame_length(content);
            let mut sum = [0; 4];
            self.files.read_exact_at(&mut sum, at - frame::CHECKSUM_LENGTH)?;
            if Some(u32::from_le_bytes(sum)) != entry.checksum {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn has_bytes(&self, position: u64, expected: &[u8]) -> Result<bool, BundleError> {
        let found = self.files.has_bytes(expected, position);
        found.map_err(|error| self.read_error(error))
    }

    /// Compares the seek table with the frames; `None` stands for one that is damaged. Returns the problem of a table
    /// that cannot be read, or `None` inside for one with other frames.
    #[expect(clippy::option_option, reason = "a damage with or without a reason")]
    fn verify_table(&self, expected: &[Option<SeekEntry>]) -> Result<Option<Option<SeekTableError>>, BundleError> {
        if self.placement.form == BundleForm::Plain {
            return Ok(None);
        }
        let length = self.placement.total - self.placement.table;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = self.files.read_exact_at(&mut bytes, self.placement.table);
        read.map_err(|error| self.read_error(error))?;
        let listed = match parse_seek_table(&bytes, self.placement.table) {
            Ok(listed) => listed,
            Err(error) => return Ok(Some(Some(error))),
        };
        let is_right =
            |(found, expected): (&SeekEntry, &Option<SeekEntry>)| expected.is_none_or(|entry| entry == *found);
        let head = listed.first().is_some_and(|entry| {
            u64::from(entry.compressed) == self.placement.head && u64::from(entry.content) == self.head_content
        });
        match head && listed.len() == expected.len() && listed.iter().zip(expected).all(is_right) {
            true => Ok(None),
            false => Ok(Some(None)),
        }
    }
}

/// Hashes a stored blob as it is read. Returns its digest and its frames; `None` if a header between its bytes is
/// damaged.
fn hash_stored(file: &BundleFile, blob: &PlacedBlob) -> io::Result<Option<(Digest, Vec<SeekEntry>)>> {
    let mut digester = Digester::new(Algorithm::of(&blob.digest));
    let mut entries = Vec::new();
    // Not cleared between reads: to fill it with zeros again would be a pass over all bytes.
    let mut buffer = vec![0; limit(usize::MAX, VERIFIED_AT_ONCE)];
    let mut at = 0;
    for content in frame::split_frames(blob.size) {
        let mut sum = XxHash64::with_seed(0);
        let end = at + content;
        while at < end {
            let length = (end - at).min(VERIFIED_AT_ONCE);
            let read = limit(buffer.len(), length);
            let block = &mut buffer[..read];
            file.read_stored(blob, at, block)?;
            if !file.has_block_headers(blob, at, length)? {
                return Ok(None);
            }
            digester.update(block);
            sum.write(block);
            at += length;
        }
        entries.push(stored_entry(content, low_bits(sum.finish())));
    }
    Ok(Some((digester.finish(), entries)))
}
