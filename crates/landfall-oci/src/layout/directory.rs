//! The image sink over a layout in a directory. Incomplete blobs stay in a separate directory, so that the next run
//! resumes them. Everything else in the layout is complete for every reader at any instant.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use landfall_core::lenient;
use landfall_core::oci_types::{Descriptor, ManifestContent, parse_manifest};
use landfall_core::reference::{ImageReference, Tag};
use landfall_net::durable;
use landfall_net::output_path::{OutputPathError, look_at_directory};
use serde_json::{Value, json};

use super::format::named_entry;
use crate::digest::Algorithm;
use crate::image::{BlobState, BlobStream, ImageSink, RawManifest, TransferError};
use crate::layout_files::{INDEX, LAYOUT, LAYOUT_FILE, blob_path};
use crate::store::MANIFEST_SIZE_MAX;
use crate::store::blocking::blocking;
use crate::store::error::StoreError;
use crate::store::index::REF_NAME;
use crate::store::ingest::Ingest;
use crate::store::receive::{ByteReceiver, receive_stream};

/// Directory of incomplete blobs. Readers of layouts ignore unknown files.
const PARTIAL: &str = ".partial";

/// Writes one image to a layout.
#[derive(Debug, Clone)]
pub struct LayoutSink {
    root: Utf8PathBuf,
    /// The image's name in the layout, in any form that skopeo accepts.
    name: Option<String>,
}

/// Writer of one blob.
struct LayoutWriter {
    ingest: Ingest,
    blob: Descriptor,
}

impl ByteReceiver for LayoutWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.ingest.append_to(&self.blob, bytes)
    }
}

impl LayoutSink {
    /// Returns a sink for a layout in this directory, which is made with the first blob. The name is taken away from
    /// the image that has it in the layout.
    ///
    /// # Errors
    /// If the path is no directory, or cannot be written.
    pub fn new(root: &Utf8Path, name: Option<String>) -> Result<LayoutSink, OutputPathError> {
        look_at_directory(root)?;
        Ok(LayoutSink {
            root: root.to_owned(),
            name,
        })
    }

    fn partial_path(&self, blob: &Descriptor) -> Utf8PathBuf {
        let name = format!("{}-{}", blob.digest.algorithm(), blob.digest.hex());
        self.root.join(PARTIAL).join(name)
    }

    fn complete_path(&self, blob: &Descriptor) -> Utf8PathBuf {
        self.root.join(blob_path(&blob.digest))
    }

    fn blob_state_now(&self, blob: &Descriptor) -> Result<BlobState, StoreError> {
        if size_of(&self.complete_path(blob))? == Some(blob.size) {
            return Ok(BlobState::Complete);
        }
        Ok(match size_of(&self.partial_path(blob))? {
            Some(size) if size > 0 && size <= blob.size => BlobState::Partial(size),
            _ => BlobState::Missing,
        })
    }

    fn open_writer(&self, blob: &Descriptor, offset: u64) -> Result<LayoutWriter, StoreError> {
        let path = self.partial_path(blob);
        for path in [&path, &self.complete_path(blob)] {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
        }
        Ok(LayoutWriter {
            ingest: Ingest::open(path, Algorithm::of(&blob.digest), offset)?,
            blob: blob.clone(),
        })
    }

    /// Returns true if the index lists the image under this sink's name.
    fn is_listed(&self, manifest: &RawManifest) -> bool {
        let Ok(index) = self.load_index() else { return false };
        let digest = manifest.digest.as_str();
        entries(&index).any(|entry| entry["digest"] == digest && self.is_ours(entry))
    }

    fn is_ours(&self, entry: &Value) -> bool {
        entry["annotations"][REF_NAME].as_str() == self.name.as_deref()
    }

    fn load_index(&self) -> Result<Value, StoreError> {
        match fs::read(self.root.join(INDEX)) {
            Ok(text) => Ok(lenient::from_slice(&text).map_err(io::Error::from)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(json!({"schemaVersion": 2, "manifests": []})),
            Err(error) => Err(error.into()),
        }
    }

    /// Names the image in the index. Other entries and unknown fields stay.
    fn list(&self, manifest: &RawManifest) -> Result<(), StoreError> {
        // One writer at a time, including other processes. Closing the file ends the lock.
        let lock = fs::File::open(&self.root)?;
        lock.file().lock()?;
        let layout = self.root.join(LAYOUT_FILE);
        if !layout.exists() {
            durable::replace_file(&layout, LAYOUT)?;
        }
        let mut index = self.load_index()?;
        let mut kept: Vec<Value> = entries(&index)
            .filter(|entry| {
                !self.is_ours(entry) || (self.name.is_none() && entry["digest"] != manifest.digest.as_str())
            })
            .cloned()
            .collect();
        kept.push(json!(named_entry(manifest, self.name.as_deref())));
        index["manifests"] = Value::Array(kept);
        durable::replace_file(&self.root.join(INDEX), index.to_string().as_bytes())?;
        // Fails while the directory has incomplete blobs, on purpose.
        drop(fs::remove_dir(self.root.join(PARTIAL)));
        Ok(())
    }

    fn attempt(&self, what: &str) -> String {
        format!("cannot write {what} to the layout `{}`", self.root)
    }
}

fn entries(index: &Value) -> impl Iterator<Item = &Value> {
    index["manifests"].as_array().into_iter().flatten()
}

fn size_of(path: &Utf8Path) -> Result<Option<u64>, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl LayoutSink {
    /// Returns true if the manifest of an image and all content that it names is there. The entries of an index may be
    /// missing.
    fn has_content(&self, descriptor: &Descriptor) -> Result<bool, StoreError> {
        if self.blob_state_now(descriptor)? != BlobState::Complete {
            return Ok(false);
        }
        if descriptor.size > MANIFEST_SIZE_MAX {
            return Ok(true);
        }
        let bytes = fs::read(self.complete_path(descriptor))?;
        let Ok(content @ ManifestContent::Image(_)) = parse_manifest(&bytes) else {
            return Ok(true);
        };
        for child in content.children().filter(|child| !child.is_foreign()) {
            if self.blob_state_now(child)? != BlobState::Complete {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl ImageSink for LayoutSink {
    fn describe(&self) -> String {
        format!("the layout `{}`", self.root)
    }

    /// Returns true if the index lists the image and no file of it was lost since.
    fn has_image<'a>(&'a self, manifest: &'a RawManifest) -> BoxFuture<'a, Result<bool, TransferError>> {
        let (sink, manifest) = (self.clone(), manifest.clone());
        let found = blocking(move || {
            let size = manifest.bytes.len() as u64;
            let descriptor = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
            Ok(sink.is_listed(&manifest) && sink.has_content(&descriptor)?)
        });
        async move { found.await.map_err(|error| error.during(self.attempt("an image"))) }.boxed()
    }

    fn has_manifest<'a>(&'a self, entry: &'a Descriptor) -> BoxFuture<'a, Result<bool, TransferError>> {
        let (sink, descriptor) = (self.clone(), entry.clone());
        let found = blocking(move || sink.has_content(&descriptor));
        async move { found.await.map_err(|error| error.during(self.attempt("an image"))) }.boxed()
    }

    /// Returns a sink in the same layout, with the tag as the name or without a name: readers find a referrer by its
    /// subject.
    fn referrer_sink(&self, tag: Option<&Tag>) -> Option<Box<dyn ImageSink>> {
        Some(Box::new(LayoutSink {
            root: self.root.clone(),
            name: tag.map(ToString::to_string),
        }))
    }

    fn blob_state<'a>(&'a self, blob: &'a Descriptor) -> BoxFuture<'a, Result<BlobState, TransferError>> {
        let (sink, wanted) = (self.clone(), blob.clone());
        let found = blocking(move || sink.blob_state_now(&wanted));
        async move {
            found
                .await
                .map_err(|error| error.during(self.attempt(blob.digest.as_str())))
        }
        .boxed()
    }

    fn write_blob<'a>(
        &'a self,
        blob: &'a Descriptor,
        offset: u64,
        stream: BlobStream,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        let failed = |error: StoreError| error.during(self.attempt(blob.digest.as_str()));
        async move {
            let (sink, wanted) = (self.clone(), blob.clone());
            let (writer, received) = receive_stream(move || sink.open_writer(&wanted, offset), stream)
                .await
                .map_err(failed)?;
            let target = self.complete_path(blob);
            let (mut ingest, blob) = (writer.ingest, writer.blob);
            let kept = blocking(move || match received {
                Ok(()) => ingest.commit(&blob, &target).map(Ok),
                // Another attempt resumes after the received bytes.
                Err(error) => ingest.flush().map(|()| Err(error)),
            });
            kept.await.map_err(failed)?
        }
        .boxed()
    }

    fn write_manifest<'a>(
        &'a self,
        manifest: &'a RawManifest,
        _name: Option<&'a ImageReference>,
    ) -> BoxFuture<'a, Result<(), TransferError>> {
        let (sink, manifest) = (self.clone(), manifest.clone());
        async move {
            let attempt = self.attempt(manifest.digest.as_str());
            let size = manifest.bytes.len() as u64;
            let described = Descriptor::new(&manifest.media_type, manifest.digest.clone(), size);
            let written = blocking(move || {
                if sink.blob_state_now(&described)? == BlobState::Complete {
                    return Ok(());
                }
                let mut writer = sink.open_writer(&described, 0)?;
                writer.append(&manifest.bytes)?;
                writer.ingest.commit(&described, &sink.complete_path(&described))
            });
            written.await.map_err(|error| error.during(attempt))
        }
        .boxed()
    }

    fn finish_image<'a>(&'a self, root: &'a RawManifest) -> BoxFuture<'a, Result<(), TransferError>> {
        let (sink, manifest) = (self.clone(), root.clone());
        async move {
            let listed = blocking(move || sink.list(&manifest)).await;
            listed.map_err(|error| error.during(self.attempt("the index")))
        }
        .boxed()
    }
}
