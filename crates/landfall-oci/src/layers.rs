//! Finds files in an image's layers, as a container would see them: upper layers win, whiteouts delete (OCI image
//! specification, layer.md). Layers are read as streams; only the requested files touch the disk.
//!
//! Selects the files and the platform. The use of the files is left to the caller.

pub mod pattern;
mod view;

use std::io::{self, Seek as _, Write as _};

use camino::Utf8Path;
use fs_err as fs;
use landfall_core::oci_types::{Descriptor, Manifest, ManifestContent, Platform, parse_manifest};
use landfall_core::reference::Digest;
use landfall_core::wording::quoted;

use crate::decode::CappedDecoder;
use crate::inner_path::{entry_path, path_text};
use crate::layers::pattern::PathPattern;
use crate::layers::view::{View, ViewEntry};
use crate::read_at::limit;
use crate::store::ContentStore;
use crate::store::error::StoreError;
use crate::tar_reader::{EntryKind, Skipping, TarEntry, TarError, TarInput, TarReader};

pub use crate::layers::view::ExtractedFile;

/// Size of one read from a layer, in bytes.
const BUFFER_SIZE: usize = 256 * 1024;
/// Limit of the nesting of indexes.
const INDEX_DEPTH_MAX: usize = 4;

/// Bounds of an extraction, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtractLimits {
    /// Decompressed size of one layer.
    pub layer: u64,
    /// Size of all files together.
    pub files: u64,
}

impl Default for ExtractLimits {
    fn default() -> ExtractLimits {
        const GIB: u64 = 1024 * 1024 * 1024;
        ExtractLimits {
            layer: 64 * GIB,
            files: 64 * GIB,
        }
    }
}

/// Files of an image, in a directory that is deleted when this value is dropped.
#[derive(Debug)]
pub struct ExtractedFiles {
    /// The files in the order of their paths.
    pub files: Vec<ExtractedFile>,
    _directory: tempfile::TempDir,
}

/// Error of the extraction of files from an image.
#[derive(Debug, thiserror::Error)]
pub enum LayersError {
    /// The store does not have the image, or cannot read it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The image does not have this platform.
    #[error(
        "the image `{image}` is not there for the platform `{wanted}`, only for {}",
        list(available)
    )]
    Platform {
        image: Digest,
        wanted: Platform,
        available: Vec<Platform>,
    },
    /// Indexes are nested too deeply.
    #[error("the image `{image}` has its manifests more than {INDEX_DEPTH_MAX} indexes deep")]
    TooDeep { image: Digest },
    /// A layer cannot be read.
    #[error("cannot read the layer `{layer}`")]
    Layer {
        layer: Digest,
        #[source]
        source: TarError,
    },
    /// A layer has a path that leads out of the image.
    #[error("the layer `{layer}` has the path `{path}`, which leads out of the image")]
    Path { layer: Digest, path: String },
    /// A requested file is a link to a path that is not requested.
    #[error("the image's `{path}` is a link to `{target}`, which is not among the files that are asked for")]
    Link { path: String, target: String },
    /// The requested files are too large.
    #[error("the files in the image that are asked for have more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The image has more files or links below the requested paths than the limit.
    #[error("the layer `{layer}` has more files and links among those that are asked for than are read")]
    TooMany { layer: Digest },
    /// The path of the work directory is not UTF-8.
    #[error("the content store's directory has a path that is not text")]
    WorkDirectory,
}

fn list(platforms: &[Platform]) -> String {
    match platforms {
        [] => "no platform at all".to_owned(),
        platforms => quoted(platforms),
    }
}

/// Extracts the files of an image that match a pattern. An index is resolved for `platform`. Blocks: call it on a
/// blocking thread.
///
/// # Errors
/// If the store lacks the image, the image lacks the platform, is hostile, or exceeds the limits.
pub fn extract_files(
    store: &ContentStore,
    image: &Digest,
    platform: &Platform,
    patterns: &[PathPattern],
    limits: ExtractLimits,
) -> Result<ExtractedFiles, LayersError> {
    let manifest = select_manifest(store, image, platform)?;
    let directory = store.work_directory()?;
    let root = Utf8Path::from_path(directory.path()).ok_or(LayersError::WorkDirectory)?;
    let mut view = View::default();
    let mut extraction = Extraction {
        root,
        count: 0,
        left: limits.files,
        limits,
    };
    for layer in manifest.layers.iter().filter(|layer| !layer.is_foreign()) {
        read_layer(store, layer, patterns, &mut view, &mut extraction)?;
    }
    let files = view
        .into_files()
        .map_err(|(path, target)| LayersError::Link { path, target })?;
    Ok(ExtractedFiles {
        files,
        _directory: directory,
    })
}

/// Returns the manifest of an image for a platform. An image without an index is returned for every platform.
///
/// # Errors
/// [`LayersError::Platform`] lists the available platforms.
pub fn select_manifest(store: &ContentStore, image: &Digest, wanted: &Platform) -> Result<Manifest, LayersError> {
    let mut digest = image.clone();
    for _ in 0..INDEX_DEPTH_MAX {
        let raw = store.read_manifest(&digest)?;
        let content = parse_manifest(&raw.bytes).map_err(|source| StoreError::Manifest {
            digest: digest.clone(),
            source,
        })?;
        match content {
            ManifestContent::Image(manifest) => return Ok(manifest),
            ManifestContent::Index(index) => {
                digest = select_platform(&index.manifests, wanted).ok_or_else(|| LayersError::Platform {
                    image: image.clone(),
                    wanted: wanted.clone(),
                    available: index
                        .manifests
                        .iter()
                        .filter_map(|entry| entry.platform.clone())
                        .collect(),
                })?;
            }
        }
    }
    Err(LayersError::TooDeep { image: image.clone() })
}

/// Returns the index entry for a platform: with the same variant, else without a variant, else with any variant. An
/// index with a single entry without a platform leaves no choice.
fn select_platform(entries: &[Descriptor], wanted: &Platform) -> Option<Digest> {
    if let [only] = entries
        && only.platform.is_none()
    {
        return Some(only.digest.clone());
    }
    let rank = |entry: &Descriptor| {
        let platform = entry.platform.as_ref()?;
        (platform.os == wanted.os && platform.architecture == wanted.architecture).then_some(match &platform.variant {
            variant if *variant == wanted.variant => 0,
            None => 1,
            Some(_) => 2,
        })
    };
    entries
        .iter()
        .filter_map(|entry| rank(entry).map(|rank| (rank, entry)))
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, entry)| entry.digest.clone())
}

struct Extraction<'a> {
    root: &'a Utf8Path,
    count: usize,
    left: u64,
    limits: ExtractLimits,
}

fn read_layer(
    store: &ContentStore,
    layer: &Descriptor,
    patterns: &[PathPattern],
    view: &mut View,
    extraction: &mut Extraction<'_>,
) -> Result<(), LayersError> {
    let failed = |source| LayersError::Layer {
        layer: layer.digest.clone(),
        source,
    };
    let (blob, _path) = store.open_blob(&layer.digest, 0)?.into_parts();
    let decoder = CappedDecoder::new(blob, extraction.limits.layer).map_err(|error| failed(error.into()))?;
    let mut tar = TarReader::new(Skipping(decoder));
    view.begin_layer();
    loop {
        let entry = match tar.next_entry() {
            Ok(Some(entry)) => entry,
            // An empty layer is an archive without entries.
            Ok(None) | Err(TarError::Empty) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let raw_path = path_text(&entry.path);
        let path = entry_path(&raw_path).ok_or_else(|| LayersError::Path {
            layer: layer.digest.clone(),
            path: raw_path.clone(),
        })?;
        if view.apply_whiteout(&path) {
            continue;
        }
        if entry.kind == EntryKind::Directory {
            view.put_directory(&path);
            continue;
        }
        view.remove(&path);
        if !patterns.iter().any(|pattern| pattern.matches(&path)) {
            continue;
        }
        let found = match entry.kind {
            EntryKind::Symlink => ViewEntry::link(&path, &path_text(&entry.target), true),
            EntryKind::HardLink => ViewEntry::link(&path, &path_text(&entry.target), false),
            EntryKind::File => {
                extract_file(&mut tar, &entry, extraction).map_err(|error| error.into_layers_error(failed))?
            }
            EntryKind::Directory | EntryKind::Other => continue,
        };
        if !view.put(path, found) {
            return Err(LayersError::TooMany {
                layer: layer.digest.clone(),
            });
        }
    }
}

/// Error of one file: reading the layer failed, or another step.
enum ExtractError {
    Read(TarError),
    Other(LayersError),
}

impl ExtractError {
    fn into_layers_error(self, read: impl FnOnce(TarError) -> LayersError) -> LayersError {
        match self {
            ExtractError::Read(error) => read(error),
            ExtractError::Other(error) => error,
        }
    }
}

impl From<io::Error> for ExtractError {
    fn from(error: io::Error) -> ExtractError {
        ExtractError::Other(StoreError::from(error).into())
    }
}

/// Writes the content of an entry to a file of its own. Holes of a sparse file stay holes.
fn extract_file<R: TarInput>(
    tar: &mut TarReader<R>,
    entry: &TarEntry,
    extraction: &mut Extraction<'_>,
) -> Result<ViewEntry, ExtractError> {
    let size = entry.size;
    extraction.left = extraction
        .left
        .checked_sub(size)
        .ok_or(ExtractError::Other(LayersError::TooLarge {
            limit: extraction.limits.files,
        }))?;
    let content = extraction.root.join(extraction.count.to_string());
    extraction.count += 1;
    let mut file = fs::File::create(&content)?;
    file.set_len(size)?;
    let mut buffer = vec![0; BUFFER_SIZE];
    for segment in &entry.segments {
        file.seek(io::SeekFrom::Start(segment.offset))?;
        let mut left = segment.length;
        while left > 0 {
            let wanted = limit(buffer.len(), left);
            let read = tar.read_data(&mut buffer[..wanted]).map_err(ExtractError::Read)?;
            if read == 0 {
                return Err(ExtractError::Read(TarError::CutShort));
            }
            file.write_all(&buffer[..read])?;
            left -= read as u64;
        }
    }
    Ok(ViewEntry::File { content, size })
}

#[cfg(test)]
mod tests;
