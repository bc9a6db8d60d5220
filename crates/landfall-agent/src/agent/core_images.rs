//! Loads the core images, which the layers of the provider image contain as archives, into containerd, or into the
//! store on a host without containerd [spec:agent.phases]. Each archive is tried several times. An archive that cannot
//! be loaded is reported as an event, and the phase fails.

use std::sync::Arc;

use anyhow::Context as _;
use camino::Utf8Path;
use futures_util::FutureExt as _;
use landfall_core::failure::{Explanation, FailureKind};
use landfall_core::reference::{Digest, ImageReference, parse_reference};
use landfall_core::status::EventReason;
use landfall_core::wording::counted;
use landfall_host::facts::own_platform;
use landfall_oci::archive::{ArchiveError, ArchiveImage, open_whole_images};
use landfall_oci::copy::copy_image;
use landfall_oci::image::TransferError;
use landfall_oci::layers::pattern::provider_image_patterns;
use landfall_oci::layers::{ExtractLimits, ExtractedFile, ExtractedFiles, extract_files};
use landfall_oci::store::ContentStore;
use landfall_oci::store::source_and_sink::StoreSink;

use crate::agent::active_config::ActiveConfig;
use crate::agent::host::Host;
use crate::agent::ledger::{CoreImageStorage, CoreImages};
use crate::agent::runtime::{self, RuntimeSink, explain_load};

/// Loads every core image of a stored provider image.
pub(crate) async fn load_core_images(
    host: &Arc<Host>,
    active: &ActiveConfig,
    provider: &ImageReference,
) -> Result<CoreImages, Explanation> {
    let (digest, extracted) = extract(&host.store, provider).await.map_err(|error| {
        Explanation::new(
            format!("the core images cannot be taken out of the provider image `{provider}`: {error:#}"),
            "look at how the provider image was built, and name another one in `system.uri` of the OS pack",
        )
    })?;
    let kept_in = if active.settings.landfall.containerd_enable {
        CoreImageStorage::Containerd
    } else {
        CoreImageStorage::Store
    };
    let mut names = Vec::new();
    let mut failures = Vec::new();
    for file in &extracted.files {
        let load = || load_archive(host, active, kept_in, file).boxed();
        match active.local.retrying(&*host.meter, &file.path, load).await {
            Ok(of_archive) => {
                for Loaded { name, remark } in of_archive {
                    let text = format!("from `{}` of the provider image{remark}", file.path);
                    host.note(EventReason::ImageLoaded, &name, text).await;
                    names.push(name);
                }
            }
            Err(error) => {
                failures.push(explain_load(
                    &format!("`{}` of the provider image `{provider}`", file.path),
                    &error,
                ));
            }
        }
    }
    match failures.len() {
        0 => Ok(CoreImages {
            provider: digest,
            kept_in,
            names,
        }),
        failed => {
            let all = counted(extracted.files.len(), "archive");
            let joined = Explanation::join(failures);
            Err(Explanation::new(
                format!("{failed} of {all} failed: {}", joined.message),
                joined.hint,
            ))
        }
    }
}

async fn extract(store: &ContentStore, provider: &ImageReference) -> anyhow::Result<(Digest, ExtractedFiles)> {
    let digest = store.image(provider).context("it is not in the content store")?.digest;
    let (store, image) = (store.clone(), digest.clone());
    let work = move || {
        extract_files(
            &store,
            &image,
            &own_platform(),
            &provider_image_patterns(),
            ExtractLimits::default(),
        )
    };
    let extracted = tokio::task::spawn_blocking(work).await??;
    Ok((digest, extracted))
}

/// A loaded image, by one of its names.
struct Loaded {
    name: String,
    /// An addition to the message about it.
    remark: String,
}

/// Loads the images of one archive.
async fn load_archive(
    host: &Arc<Host>,
    active: &ActiveConfig,
    kept_in: CoreImageStorage,
    file: &ExtractedFile,
) -> Result<Vec<Loaded>, TransferError> {
    let (images, _spool) = open(&host.store, &file.content, &file.path).await?;
    let mut loaded = Vec::new();
    for image in images {
        let names = parse_names(&image, &file.path)?;
        match kept_in {
            CoreImageStorage::Containerd => into_containerd(host, active, &image, &names).await?,
            CoreImageStorage::Store => into_store(host, active, &image, &names).await?,
        }
        loaded.extend(names.iter().map(|name| Loaded {
            name: name.runtime_name(),
            remark: remark_on(&image),
        }));
    }
    Ok(loaded)
}

/// Explains that the index has another digest here than in its archive.
fn remark_on(image: &ArchiveImage) -> String {
    image.narrowed_from.as_ref().map_or_else(String::new, |listed| {
        let digest = &image.root.digest;
        format!(
            "; the archive holds some of its platforms only, so that its index is `{digest}` in place of `{listed}`"
        )
    })
}

/// Indexes an archive. A compressed archive is decompressed beside the store, until the second value is dropped.
async fn open(
    store: &ContentStore,
    content: &Utf8Path,
    path: &str,
) -> Result<(Vec<ArchiveImage>, tempfile::TempDir), TransferError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| TransferError {
        attempt: format!("cannot read the archive `{path}`"),
        kind: FailureKind::Corrupt,
        source: Some(source),
    };
    let (store, content) = (store.clone(), content.to_owned());
    let work = move || {
        let spool = store.work_directory()?;
        let directory = Utf8Path::from_path(spool.path()).context("the state directory's path is not text")?;
        let images = open_whole_images(&content, directory).map_err(|error| match error {
            // The error names the temporary file, which means nothing to an operator.
            ArchiveError::Read { source, .. } => anyhow::Error::from(source),
            error => error.into(),
        })?;
        anyhow::Ok((images, spool))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(opened)) => Ok(opened),
        Ok(Err(error)) => Err(failed(error.into())),
        Err(error) => Err(failed(error.into())),
    }
}

/// Returns the names of an archive's image. An image without a name could never be used: such an archive is broken.
fn parse_names(image: &ArchiveImage, path: &str) -> Result<Vec<ImageReference>, TransferError> {
    let broken = |attempt: String, source: Option<Box<dyn std::error::Error + Send + Sync>>| TransferError {
        attempt,
        kind: FailureKind::Protocol,
        source,
    };
    let names = image.names.iter().map(|name| {
        let parsed = parse_reference(name).map(|reference| reference.canonical());
        parsed.map_err(|error| {
            broken(
                format!("cannot use the image name `{name}` in `{path}`"),
                Some(error.into()),
            )
        })
    });
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Err(broken(
            format!(
                "cannot use the image `{}` in `{path}`: it has no name",
                image.root.digest
            ),
            None,
        ));
    }
    Ok(names)
}

async fn into_containerd(
    host: &Host,
    active: &ActiveConfig,
    image: &ArchiveImage,
    names: &[ImageReference],
) -> Result<(), TransferError> {
    let namespace = runtime::connect(&host.root, &active.settings.landfall.containerd_socket).await?;
    let all = names.iter().map(ImageReference::runtime_name).collect();
    let sink = RuntimeSink::begin(&namespace, all).await?;
    copy_image(
        &*image.source,
        image.root.digest.as_str(),
        &sink,
        Some(&names[0]),
        &active.local,
        &*host.meter,
    )
    .await?;
    sink.finish().await
}

async fn into_store(
    host: &Host,
    active: &ActiveConfig,
    image: &ArchiveImage,
    names: &[ImageReference],
) -> Result<(), TransferError> {
    let sink = StoreSink::new(host.store.clone());
    for name in names {
        copy_image(
            &*image.source,
            image.root.digest.as_str(),
            &sink,
            Some(name),
            &active.local,
            &*host.meter,
        )
        .await?;
    }
    Ok(())
}
