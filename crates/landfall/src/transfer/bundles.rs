//! Bundles as the sources of a transfer.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::adoption::check_needs;
use landfall_core::bundle::document::NeededBlob;
use landfall_core::failure::{Explanation, FailureKind};
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::ImageReference;
use landfall_core::report::BundleNeed;
use landfall_core::wording::{counted, quoted};
use landfall_net::durable;
use landfall_oci::archive::stream::{Staging, open_or_load};
use landfall_oci::archive::{ArchiveImage, open_archive, size_to_copy};
use landfall_oci::bundle::{BundleError, BundleFile, BundleSource};
use landfall_oci::image::{BlobState, ImageSource, TransferError};
use landfall_oci::store::disk_space::DiskSpace;

use crate::commands::bundle::{BundleKeyArgs, SignedImage};
use crate::context::Context;
use crate::output::progress::Progress;
use crate::output::size::bytes;
use crate::registries::Registries;
use crate::runtime;
use crate::transfer::Transfer;
use crate::transfer::location::ImageLocation;

/// File with the needs that a destination does not meet, for the next bundle.
const NEEDS_FILE: &str = "needs.json";

/// Lists the images of a file that is no bundle.
fn list_foreign(
    path: &Utf8Path,
    keys: &BundleKeyArgs,
    staging: Option<&Staging>,
    context: &Context,
) -> anyhow::Result<Vec<ArchiveImage>> {
    keys.refuse_foreign(path)?;
    let spool = spool_directory()?;
    let failed = || format!("cannot read the images of `{path}`");
    let Some(staging) = staging else {
        announce_copy(path, &spool, context)?;
        return open_archive(path, &spool).with_context(failed);
    };
    let progress = Progress::new(context.progress, &context.printer);
    let loading = open_or_load(path, &spool, staging, &*progress.sink);
    runtime::current_thread()?.block_on(loading).with_context(failed)
}

/// Says how much room a decompressed copy of a file takes, if one is made.
///
/// # Errors
/// If there is less room than the file itself has bytes.
fn announce_copy(path: &Utf8Path, spool: &Utf8Path, context: &Context) -> anyhow::Result<()> {
    let size = size_to_copy(path).with_context(|| format!("cannot read the images of `{path}`"))?;
    let Some(size) = size else { return Ok(()) };
    let space = DiskSpace::of(spool).with_context(|| format!("no copy of `{path}` can be made in `{spool}`"))?;
    let free = space.free;
    let needs = format!(
        "`{path}` can be read only once, and a decompressed copy of it in `{spool}` takes more than its {}",
        bytes(size)
    );
    if free < size {
        bail!(Explanation::new(
            format!("{needs}; {} are free there", bytes(free)),
            "let `TMPDIR` name a directory on a larger disk, or push all of the file to one registry, which needs no copy",
        ));
    }
    context
        .printer
        .note(format_args!("{needs}; {} are free there", bytes(free)));
    Ok(())
}

/// Returns the directory for temporary files.
fn spool_directory() -> anyhow::Result<Utf8PathBuf> {
    Ok(Utf8PathBuf::try_from(std::env::temp_dir())?)
}

/// Returns a place in a registry for the blobs of archives that can be read only once. The registry mounts them into the
/// repositories of the images. Nothing is asked yet.
///
/// # Errors
/// If the registry's client cannot be made.
pub(crate) fn staging_in_registry(
    repository: &ImageReference,
    registry: Option<usize>,
    registries: &Registries<'_>,
) -> anyhow::Result<Staging> {
    let place = ImageLocation::Registry(repository.clone());
    let (source, _) = place.open_source(registries, registry)?;
    let sink = place.open_sink(registries, registry)?.sink;
    Ok(Staging::in_sink(sink, source, &spool_directory()?))
}

/// The open bundles of a command. An image is taken from the first one that has it.
#[derive(Debug, Default)]
pub(crate) struct OpenBundles {
    files: Vec<Arc<BundleFile>>,
    images: BTreeMap<ImageReference, ArchiveImage>,
    /// The file of each image.
    places: BTreeMap<ImageReference, Utf8PathBuf>,
    /// The paths, for messages.
    paths: Vec<Utf8PathBuf>,
}

impl OpenBundles {
    /// Opens bundles, and other files with images. A compressed one that is no bundle is read once, into `staging` if
    /// there is one, else into a decompressed copy. Blocks.
    ///
    /// # Errors
    /// If a file cannot be read, or is not signed by one of the keys.
    pub(crate) fn open(
        paths: &[Utf8PathBuf],
        keys: &BundleKeyArgs,
        staging: Option<&Staging>,
        context: &Context,
    ) -> anyhow::Result<OpenBundles> {
        let mut bundles = OpenBundles {
            paths: paths.to_vec(),
            ..OpenBundles::default()
        };
        let mut opened = Vec::with_capacity(paths.len());
        for path in paths {
            opened.push(match BundleFile::open(path) {
                Ok(file) => Some(file),
                Err(BundleError::Foreign { .. }) => None,
                Err(error) => return Err(error.into()),
            });
        }
        // What a delta counts on is looked for before anything is written.
        let is_delta = |file: &Arc<BundleFile>| !file.document().needs.is_empty();
        let staging = staging.filter(|_| !opened.iter().flatten().any(is_delta));
        for (path, file) in paths.iter().zip(opened) {
            let images = match file {
                Some(file) => bundles.take(file, keys)?,
                None => list_foreign(path, keys, staging, context)?,
            };
            for image in images {
                for name in image
                    .names
                    .iter()
                    .filter_map(|name| name.parse::<ImageReference>().ok())
                {
                    let name = name.canonical();
                    bundles.places.entry(name.clone()).or_insert_with(|| path.clone());
                    bundles.images.entry(name).or_insert_with(|| image.clone());
                }
            }
        }
        let images = bundles.images.iter().map(|(name, image)| SignedImage {
            name: name.to_string(),
            source: &*image.source,
            digest: image.root.digest.clone(),
        });
        keys.require_signed(&images.collect::<Vec<_>>())?;
        Ok(bundles)
    }

    /// Takes a bundle that one of the keys signed. Returns its images.
    fn take(&mut self, file: Arc<BundleFile>, keys: &BundleKeyArgs) -> anyhow::Result<Vec<ArchiveImage>> {
        keys.trust(&file)?;
        let images = BundleSource::new(file.clone()).images();
        self.files.push(file);
        Ok(images)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Returns all images with their names.
    pub(crate) fn images(&self) -> impl Iterator<Item = (ImageReference, &ArchiveImage)> {
        self.images.iter().map(|(name, image)| (name.clone(), image))
    }

    /// Returns the path of the file that has an image.
    pub(crate) fn path_of(&self, name: &ImageReference) -> Option<String> {
        self.places.get(name).map(ToString::to_string)
    }

    /// Returns the source of an image, with the digest to ask for.
    ///
    /// # Errors
    /// If no bundle has it.
    pub(crate) fn find(&self, name: &ImageReference) -> Result<(Arc<dyn ImageSource>, String), TransferError> {
        match self.images.get(name) {
            Some(image) => Ok((image.source.clone(), image.root.digest.to_string())),
            None => Err(TransferError {
                attempt: format!("cannot read `{name}` from {}", quoted(&self.paths)),
                kind: FailureKind::NotFound,
                source: Some(Box::new(Explanation::new(
                    "no bundle has this image",
                    "name a bundle that has it, or make one: `landfall bundle show` lists the images of a bundle",
                ))),
            }),
        }
    }

    /// Checks that the destinations have the blobs that deltas count on, before anything is written. Those that are not
    /// there are written to `needs.json`, for the next bundle. `is_right` reads a blob that is there.
    ///
    /// # Errors
    /// If a blob is missing. The message names it with its image and its size.
    pub(crate) fn check_needs(
        &self,
        transfers: &[Transfer],
        is_right: impl Fn(&NeededBlob) -> bool,
    ) -> anyhow::Result<()> {
        if self.files.iter().all(|file| file.document().needs.is_empty()) {
            return Ok(());
        }
        let runtime = runtime::current_thread()?;
        let mut missing = Vec::new();
        for file in &self.files {
            let by_blob = file.images_by_blob();
            let has = |need: &NeededBlob| {
                let images = by_blob.get(&need.digest).map_or(&[][..], Vec::as_slice);
                let sinks = transfers.iter().filter_map(|transfer| {
                    let is_with = images.iter().any(|name| name.to_string() == transfer.source);
                    transfer.opened.as_ref().ok().filter(|_| is_with)
                });
                let mut sinks = sinks.peekable();
                let blob = Descriptor::new("application/octet-stream", need.digest.clone(), need.size);
                // Where a registry cannot be asked, the copy says why.
                let has_blob = |sink: &dyn landfall_oci::image::ImageSink| {
                    !matches!(
                        runtime.block_on(sink.blob_state(&blob)),
                        Ok(BlobState::Missing | BlobState::Partial(_))
                    )
                };
                // A blob of images that are not copied is not needed.
                sinks.peek().is_none() || sinks.any(|transfer| has_blob(&*transfer.sink)) && is_right(need)
            };
            if let Err(lacking) = check_needs(&file.document().needs, has) {
                missing.extend(lacking.missing);
            }
        }
        let Some(first) = missing.first() else { return Ok(()) };
        let text = serde_json::to_vec_pretty(&missing.iter().map(BundleNeed::of).collect::<Vec<_>>())?;
        durable::replace_file(Utf8Path::new(NEEDS_FILE), &text).context("cannot write the list of missing blobs")?;
        let others = match missing.len() {
            1 => String::new(),
            count => format!(", and {} more", counted(count - 1, "blob")),
        };
        Err(Explanation::new(
            format!(
                "nothing was written, because the bundle counts on blob `{}` of `{}` ({} bytes), which is not there{others}",
                first.digest, first.image, first.size
            ),
            format!("bring a bundle with these blobs: `{NEEDS_FILE}` lists them"),
        )
        .into())
    }
}
