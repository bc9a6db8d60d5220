//! The plan of a bundle: its document, the bytes of its head, and the place of everything. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write as _};

use bytes::Bytes;
use landfall_core::bundle::document::{
    BlobPlace, BundleDocument, BundleFile, BundledBlob, BundledImage, DOCUMENT_PATH, FORMAT, NeededBlob,
    SIGNATURES_PATH,
};
use landfall_core::bundle::seek_table::SeekEntry;
use landfall_core::oci_types::{Descriptor, parse_manifest};
use landfall_core::reference::{Digest, ImageReference};
use serde_json::json;

use super::content::{BundleContent, ContentImage};
use super::gathering::STORED_MIN;
use super::head::{HeadWriter, carried_path};
use super::placement::{BundleForm, Placement, checksum};
use crate::digest::digest_of;
use crate::image::RawManifest;
use crate::layout::{DOCKER_MANIFEST, INDEX, LAYOUT, LAYOUT_FILE, blob_path};
use crate::store::index::{REF_NAME, named_descriptor, render_index};

/// Level of the head's compression.
const LEVEL: i32 = 3;
/// Window of the head's compression, as a power of two: 8 MiB, which every decoder has (RFC 8878 section 3.1.1.1.2).
const WINDOW_LOG: u32 = 23;
/// Annotation of a referrer, by which containerd makes no image of it.
const CONTAINERD_SUBJECT: &str = "io.containerd.manifest.subject";

/// A file that a bundle carries beside images, e.g. a profile.
#[derive(Debug, Clone)]
pub struct Carried {
    /// Path below the directory of carried files.
    pub name: String,
    pub bytes: Bytes,
}

/// Choices for a bundle.
#[derive(Debug, Clone)]
pub struct BundleOptions {
    pub form: BundleForm,
    pub series: Option<String>,
    pub sequence: Option<u64>,
    /// Inventory, receipt or bundle that a delta counts on.
    pub base: Option<String>,
    pub carried: Vec<Carried>,
    /// Large blobs that the site has: they are left out.
    pub at_site: HashSet<Digest>,
}

impl Default for BundleOptions {
    fn default() -> BundleOptions {
        BundleOptions {
            form: BundleForm::Frames,
            series: None,
            sequence: None,
            base: None,
            carried: Vec::new(),
            at_site: HashSet::new(),
        }
    }
}

/// A bundle before it is signed.
#[derive(Debug)]
pub struct BundleDraft {
    form: BundleForm,
    document: BundleDocument,
    document_bytes: Vec<u8>,
    /// Files of the head behind the signatures, in order.
    files: Vec<(String, Bytes)>,
}

/// A bundle with a place for everything.
#[derive(Debug)]
pub struct BundlePlan {
    pub(crate) document: BundleDocument,
    id: Digest,
    /// The head as it stands in the file.
    pub(crate) head: Vec<u8>,
    pub(crate) head_entry: SeekEntry,
    pub(crate) placement: Placement,
    /// Content in the head.
    pub(crate) small: BTreeMap<Digest, Bytes>,
}

impl BundleDraft {
    /// Describes a bundle of this content.
    #[must_use]
    pub fn new(content: BundleContent, options: BundleOptions) -> BundleDraft {
        let mut needs = Vec::new();
        let mut stored = Vec::new();
        let owners = match options.at_site.is_empty() {
            true => HashMap::new(),
            false => content.owners(),
        };
        for (digest, size) in &content.large {
            let is_left_out = options.at_site.contains(digest) && *size >= STORED_MIN;
            match owners.get(digest).filter(|_| is_left_out) {
                Some(&image) => needs.push(NeededBlob {
                    digest: digest.clone(),
                    size: *size,
                    image: image.clone(),
                }),
                None => stored.push(BundledBlob {
                    digest: digest.clone(),
                    size: *size,
                    how: BlobPlace::Stored,
                }),
            }
        }
        let mut carried = options.carried;
        carried.sort_by(|a, b| a.name.cmp(&b.name));
        let mut files: Vec<(String, Bytes)> = carried
            .into_iter()
            .map(|file| (carried_path(&file.name), file.bytes))
            .collect();
        files.push((INDEX.to_owned(), render_index(index_entries(&content)).into()));
        files.push((DOCKER_MANIFEST.to_owned(), docker_manifest(&content).into()));
        let listed = files.iter().map(|(path, bytes)| BundleFile {
            path: path.clone(),
            digest: digest_of(bytes),
            size: bytes.len() as u64,
        });
        let listed = listed.collect();
        let images = content.images.iter();
        let images = images
            .map(|(name, image)| describe_image(&content, name, image))
            .collect();
        let manifests = content
            .manifests
            .into_iter()
            .map(|(digest, manifest)| (digest, manifest.bytes));
        let small: BTreeMap<Digest, Bytes> = manifests.chain(content.small).collect();
        let head = small.iter().map(|(digest, bytes)| BundledBlob {
            digest: digest.clone(),
            size: bytes.len() as u64,
            how: BlobPlace::Head,
        });
        let document = BundleDocument {
            format: FORMAT,
            series: options.series,
            sequence: options.sequence,
            base: options.base,
            files: listed,
            images,
            blobs: head.chain(stored).collect(),
            needs,
        };
        files.extend(small.into_iter().map(|(digest, bytes)| (blob_path(&digest), bytes)));
        BundleDraft {
            form: options.form,
            document_bytes: document.render(),
            document,
            files,
        }
    }

    /// Returns the bytes to sign.
    #[must_use]
    pub fn document_bytes(&self) -> &[u8] {
        &self.document_bytes
    }

    /// Adds the signatures, and gives everything its place.
    ///
    /// # Errors
    /// If the head cannot be compressed.
    pub fn seal(self, signatures: Option<&[u8]>) -> io::Result<BundlePlan> {
        let mut head = HeadWriter::default();
        head.add(LAYOUT_FILE, LAYOUT)?;
        head.add(DOCUMENT_PATH, &self.document_bytes)?;
        if let Some(signatures) = signatures {
            head.add(SIGNATURES_PATH, signatures)?;
        }
        for (path, bytes) in &self.files {
            head.add(path, bytes)?;
        }
        let content = head.finish();
        let sum = checksum(&content);
        let content_length = content.len() as u64;
        let head = match self.form {
            BundleForm::Frames => compress(&content)?,
            BundleForm::Plain => content,
        };
        let listed = |length: u64| u32::try_from(length).map_err(io::Error::other);
        let head_entry = SeekEntry {
            compressed: listed(head.len() as u64)?,
            content: listed(content_length)?,
            checksum: Some(sum),
        };
        let placement = Placement::new(self.form, head.len() as u64, self.document.stored())?;
        let skipped = self.document.files.len();
        let small = self.document.head().map(|blob| blob.digest.clone());
        let small = small
            .zip(self.files.into_iter().skip(skipped).map(|(_, bytes)| bytes))
            .collect();
        Ok(BundlePlan {
            id: digest_of(&self.document_bytes),
            document: self.document,
            head,
            head_entry,
            placement,
            small,
        })
    }
}

impl BundlePlan {
    #[must_use]
    pub fn document(&self) -> &BundleDocument {
        &self.document
    }

    /// Returns the bundle's id.
    #[must_use]
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// Returns a manifest of the bundle.
    pub(super) fn manifest(&self, digest: &Digest) -> Option<RawManifest> {
        let bytes = self.small.get(digest)?;
        let content = parse_manifest(bytes).ok()?;
        Some(RawManifest {
            bytes: bytes.clone(),
            media_type: content.media_type().to_owned(),
            digest: digest.clone(),
        })
    }

    /// Returns the exact length of the file in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.placement.total
    }
}

fn compress(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    encoder.include_checksum(true)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.set_pledged_src_size(Some(content.len() as u64))?;
    encoder.write_all(content)?;
    encoder.finish()
}

fn describe_image(content: &BundleContent, name: &ImageReference, image: &ContentImage) -> BundledImage {
    BundledImage {
        name: name.clone(),
        digest: image.root.digest.clone(),
        media_type: image.root.media_type.clone(),
        size: image.root.size,
        platforms: content.platforms(image),
        left_out: content.left_out(image),
        companions: image.companions.clone(),
    }
}

/// Returns the entries of `index.json`: the images by name, then their companions.
fn index_entries(content: &BundleContent) -> Vec<Descriptor> {
    let mut entries = Vec::new();
    let mut companions = BTreeMap::new();
    for (name, image) in &content.images {
        entries.push(named_descriptor(&image.root, &name.to_string()));
        for companion in &image.companions {
            let mut entry = companion.descriptor();
            entry
                .annotations
                .insert(CONTAINERD_SUBJECT.to_owned(), companion.subject.to_string());
            let tagged = companion.tag.as_ref().map(|tag| {
                let repository = ImageReference {
                    tag: Some(tag.clone()),
                    digest: None,
                    ..name.clone()
                };
                repository.to_string()
            });
            if let Some(tagged) = &tagged {
                entry.annotations.insert(REF_NAME.to_owned(), tagged.clone());
            }
            companions.insert((tagged, companion.digest.clone()), entry);
        }
    }
    entries.extend(companions.into_values());
    entries
}

/// Returns Docker's `manifest.json`: podman, `docker load` before version 25 and the start of RKE2 read it.
fn docker_manifest(content: &BundleContent) -> Vec<u8> {
    let mut images: BTreeMap<Digest, serde_json::Value> = BTreeMap::new();
    for (name, image) in &content.images {
        let Some(manifest) = content.runnable(image) else {
            continue;
        };
        let tags = images.entry(image.root.digest.clone()).or_insert_with(|| {
            let layers: Vec<_> = manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
            json!({"Config": blob_path(&manifest.config.digest), "RepoTags": [], "Layers": layers})
        });
        if let (Some(_), None, Some(tags)) = (&name.tag, &name.digest, tags["RepoTags"].as_array_mut()) {
            tags.push(json!(name.to_string()));
        }
    }
    serde_json::Value::from_iter(images.into_values())
        .to_string()
        .into_bytes()
}
