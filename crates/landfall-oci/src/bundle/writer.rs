//! The second copy of the images of a bundle: each large blob goes to its final place, several at once. A killed run is
//! resumed: its blobs are recognised in the unfinished file.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use landfall_core::bundle::frame::BLOCK_SIZE;
use landfall_core::bundle::pieces::PlannedPiece;
use landfall_core::bundle::seek_table::{SeekEntry, render_seek_table};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference, Tag};
use landfall_core::sync::lock;
use landfall_net::durable::directory_of;

use super::error::BundleError;
use super::placement::{BundleForm, PlacedBlob};
use super::plan::BundlePlan;
use super::stored_writer::StoredWriter;
use crate::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};
use crate::pieces::FileSet;
use crate::store::blocking::blocking;
use crate::store::disk_space::DiskSpace;
use crate::store::error::StoreError;
use crate::store::receive::receive_stream;

/// Writer of a bundle's file. The file has its name when it is complete.
#[derive(Debug, Clone)]
pub struct BundleWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: Utf8PathBuf,
    files: Arc<FileSet>,
    plan: BundlePlan,
    /// Blobs that are left to the site.
    at_site: HashSet<Digest>,
    slots: Mutex<Vec<Slot>>,
}

/// State of a stored blob.
#[derive(Debug)]
enum Slot {
    /// An earlier process may have written it.
    Unknown,
    Missing,
    /// The stream failed: another attempt goes on here.
    Paused(Box<StoredWriter>),
    Complete(Vec<SeekEntry>),
}

impl BundleWriter {
    /// Opens the unfinished file of a plan. `pieces` are in the directory of `path`: one with the name of the file, or
    /// several. The blobs of an earlier run of the same plan stay. Blocks while it writes the head.
    ///
    /// # Errors
    /// If the disk has no room for the bundle, or another process writes it.
    pub fn open(path: &Utf8Path, pieces: &[PlannedPiece], plan: BundlePlan) -> Result<BundleWriter, BundleError> {
        let failed = |source| BundleError::of_write(path, source);
        let directory = directory_of(path);
        let files = FileSet::create(directory, pieces).map_err(failed)?;
        // An earlier run of the same plan wrote the same head.
        let is_resumed = files.has_bytes(&plan.head, 0).is_ok_and(|is_same| is_same);
        if !is_resumed {
            files.set_len(0).map_err(failed)?;
            check_room(path, directory, plan.length())?;
            files.set_len(plan.length()).map_err(failed)?;
            files.write_all_at(&plan.head, 0).map_err(failed)?;
        }
        let blobs = plan.placement.blobs.iter();
        let slot = || match is_resumed {
            true => Slot::Unknown,
            false => Slot::Missing,
        };
        let slots = blobs.map(|_| slot()).collect();
        let at_site = plan.document.needs.iter().map(|need| need.digest.clone());
        Ok(BundleWriter(Arc::new(Shared {
            at_site: at_site.collect(),
            path: path.to_owned(),
            files: Arc::new(files),
            plan,
            slots: Mutex::new(slots),
        })))
    }

    #[must_use]
    pub fn plan(&self) -> &BundlePlan {
        &self.0.plan
    }

    /// Returns the sink of an image.
    #[must_use]
    pub fn sink(&self) -> impl ImageSink + use<> {
        BundleSink(self.0.clone())
    }

    /// Completes the file: writes the seek table, syncs everything to the disk, and gives the file its name. Blocks.
    ///
    /// # Errors
    /// If a blob is missing, or the disk fails. The unfinished file stays for another run.
    pub fn finish(self) -> Result<(), BundleError> {
        let shared = &self.0;
        let failed = |source| BundleError::of_write(&shared.path, source);
        let placement = &shared.plan.placement;
        let mut table = vec![shared.plan.head_entry];
        let slots = lock(&shared.slots);
        for (number, (blob, slot)) in placement.blobs.iter().zip(&*slots).enumerate() {
            let Slot::Complete(entries) = slot else {
                let digest = blob.digest.clone();
                return Err(BundleError::MissingBlob { digest });
            };
            table.push(placement.render_header(number).map_err(failed)?.entry);
            table.extend(entries);
        }
        let end = placement.render_end();
        table.push(end.entry);
        shared.files.write_all_at(&end.bytes, placement.end).map_err(failed)?;
        if placement.form == BundleForm::Frames {
            let table = render_seek_table(&table);
            shared.files.write_all_at(&table, placement.table).map_err(failed)?;
        }
        shared.files.publish().map_err(failed)
    }
}

pub(crate) fn check_room(path: &Utf8Path, directory: &Utf8Path, needed: u64) -> Result<(), BundleError> {
    match DiskSpace::of(directory) {
        Ok(DiskSpace { free, .. }) if free < needed => Err(BundleError::NoSpace {
            path: path.to_owned(),
            needed,
            free,
        }),
        // A disk that does not tell may have room.
        _ => Ok(()),
    }
}

impl Shared {
    fn state(&self, blob: &Descriptor) -> Result<BlobState, StoreError> {
        if self.plan.small.contains_key(&blob.digest) || self.at_site.contains(&blob.digest) {
            return Ok(BlobState::Complete);
        }
        let Some((number, _)) = self.plan.placement.find(&blob.digest) else {
            return Ok(BlobState::Missing);
        };
        let known = match &lock(&self.slots)[number] {
            Slot::Unknown => None,
            Slot::Missing => Some(BlobState::Missing),
            Slot::Paused(writer) => Some(BlobState::Partial(writer.length())),
            Slot::Complete(_) => Some(BlobState::Complete),
        };
        match known {
            Some(state) => Ok(state),
            None => self.examine(number),
        }
    }

    /// Looks at the bytes that an earlier process wrote.
    fn examine(&self, number: usize) -> Result<BlobState, StoreError> {
        let placement = &self.plan.placement;
        let blob = &placement.blobs[number];
        let header = placement.render_header(number)?;
        let has_header = self.files.has_bytes(&header.bytes, blob.header);
        let length = match has_header.is_ok_and(|is_same| is_same) {
            // The header is written behind the last byte.
            true => blob.size,
            false => self.written_length(blob)?,
        };
        if length == 0 {
            self.set(number, Slot::Missing);
            return Ok(BlobState::Missing);
        }
        let writer = StoredWriter::resume(self.files.clone(), placement, blob.clone(), length)?;
        if length < blob.size {
            self.set(number, Slot::Paused(Box::new(writer)));
            return Ok(BlobState::Partial(length));
        }
        match writer.finish() {
            Ok(entries) => {
                self.complete(number, entries)?;
                Ok(BlobState::Complete)
            }
            Err(StoreError::WrongDigest { .. }) => {
                self.set(number, Slot::Missing);
                Ok(BlobState::Missing)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the number of bytes of a blob that are before the first hole of its place, without the last block: it may
    /// be incomplete.
    fn written_length(&self, blob: &PlacedBlob) -> io::Result<u64> {
        let placement = &self.plan.placement;
        let end = self.files.next_hole(blob.content)?;
        let written = end.saturating_sub(blob.content).min(blob.size);
        let mut length = (written / BLOCK_SIZE).saturating_sub(1) * BLOCK_SIZE;
        // The bytes of the file have headers among them.
        while length > 0 && placement.locate(blob, length - 1).0 >= end {
            length -= BLOCK_SIZE;
        }
        Ok(length)
    }

    fn set(&self, number: usize, slot: Slot) {
        lock(&self.slots)[number] = slot;
    }

    /// Writes the header of a complete blob, which marks it for another process.
    fn complete(&self, number: usize, entries: Vec<SeekEntry>) -> Result<(), StoreError> {
        let placement = &self.plan.placement;
        let header = placement.render_header(number)?;
        self.files.write_all_at(&header.bytes, placement.blobs[number].header)?;
        self.set(number, Slot::Complete(entries));
        Ok(())
    }

    fn open_writer(&self, number: usize, offset: u64) -> Result<StoredWriter, StoreError> {
        let placement = &self.plan.placement;
        let blob = &placement.blobs[number];
        let slot = std::mem::replace(&mut lock(&self.slots)[number], Slot::Unknown);
        match slot {
            Slot::Paused(writer) if writer.length() == offset => Ok(*writer),
            _ => Ok(StoredWriter::resume(
                self.files.clone(),
                placement,
                blob.clone(),
                offset,
            )?),
        }
    }

    fn close_writer(
        &self,
        number: usize,
        writer: StoredWriter,
        received: Result<(), TransferError>,
    ) -> Result<Result<(), TransferError>, StoreError> {
        let size = self.plan.placement.blobs[number].size;
        if received.is_err() || writer.length() < size {
            let found = writer.length();
            let digest = self.plan.placement.blobs[number].digest.clone();
            self.set(number, Slot::Paused(Box::new(writer)));
            return match received {
                Ok(()) => Err(StoreError::Short { digest, size, found }),
                failed => Ok(failed),
            };
        }
        match writer.finish() {
            Ok(entries) => self.complete(number, entries).map(Ok),
            Err(error) => {
                self.set(number, Slot::Missing);
                Err(error)
            }
        }
    }

    fn attempt(&self, what: &Digest) -> String {
        format!("cannot write `{what}` to the bundle `{}`", self.path)
    }
}

/// Sink of one image. Manifests and small blobs are in the head already.
#[derive(Debug, Clone)]
struct BundleSink(Arc<Shared>);

impl ImageSink for BundleSink {
    fn describe(&self) -> String {
        format!("the bundle `{}`", self.0.path)
    }

    fn has_image<'a>(&'a self, _manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        async { Ok(false) }.boxed()
    }

    fn referrer_sink(&self, _tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        Some(Box::new(self.clone()))
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        let (shared, wanted) = (self.0.clone(), blob.clone());
        async move {
            let state = blocking(move || shared.state(&wanted)).await;
            state.map_err(|error| error.during(self.0.attempt(&blob.digest)))
        }
        .boxed()
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        async move {
            let failed = |error: StoreError| error.during(self.0.attempt(&blob.digest));
            let Some((number, _)) = self.0.plan.placement.find(&blob.digest) else {
                let digest = blob.digest.clone();
                return Err(failed(StoreError::Missing { digest }));
            };
            let shared = self.0.clone();
            let (writer, received) = receive_stream(move || shared.open_writer(number, offset), stream)
                .await
                .map_err(failed)?;
            let shared = self.0.clone();
            blocking(move || shared.close_writer(number, writer, received))
                .await
                .map_err(failed)?
        }
        .boxed()
    }

    /// Accepts a manifest of the plan only: a tag may have moved since.
    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        _name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        async move {
            if self.0.plan.small.contains_key(&manifest.digest) {
                return Ok(());
            }
            let digest = manifest.digest.clone();
            Err(StoreError::Missing { digest }.during(self.0.attempt(&manifest.digest)))
        }
        .boxed()
    }
}
