//! The images that go into a bundle: those of profiles, and those that the command line names.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use camino::Utf8Path;
use futures_util::{FutureExt, StreamExt, stream};
use landfall_core::failure::Explanation;
use landfall_core::plan::plan_images;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::report::RewrittenIndexRow;
use landfall_core::resolve::Resolver;
use landfall_core::settings::Settings;
use landfall_core::status::NoProgress;
use landfall_oci::copy::CopyOptions;
use landfall_oci::image::{ImageSource, TransferError};
use landfall_oci::narrowing::{NarrowedImage, narrow_image};

use crate::inputs::load_text;
use crate::registries::Registries;
use crate::transfer::location::ImageLocation;

/// Images whose indexes are read at once.
const REQUESTS_MAX: usize = 8;

/// An image with its origin, before it is opened.
#[derive(Debug, Clone)]
pub(super) struct WantedImage {
    pub(super) from: ImageLocation,
    /// The registry of the settings whose login counts.
    pub(super) registry: Option<usize>,
    /// The name in the bundle; `None` for the image's own name.
    pub(super) name: Option<ImageReference>,
}

/// An image with its source and its name in the bundle.
pub(super) struct NamedImage {
    pub(super) source: Arc<dyn ImageSource>,
    pub(super) selector: String,
    pub(super) name: ImageReference,
    /// The image before its index was made again.
    pub(super) original: Option<OriginalImage>,
}

/// An image whose index was made again.
pub(super) struct OriginalImage {
    pub(super) source: Arc<dyn ImageSource>,
    pub(super) digest: Digest,
    /// The referrers that do not refer to the new index, by tag or digest.
    lost: Vec<String>,
}

impl NamedImage {
    /// Returns the report's row about the new index, if it has one.
    pub(super) fn rewritten(&self) -> Option<RewrittenIndexRow> {
        let original = self.original.as_ref()?;
        Some(RewrittenIndexRow {
            name: self.name.to_string(),
            from: original.digest.to_string(),
            to: self.selector.clone(),
            lost: original.lost.clone(),
        })
    }
}

/// Makes the indexes of images again, with the platforms of the options. An image that is named by its digest keeps its
/// index.
///
/// # Errors
/// The images that failed.
pub(super) async fn narrow_images(
    images: Vec<NamedImage>,
    options: &CopyOptions,
) -> Result<Vec<NamedImage>, Vec<FailedCopy>> {
    let questions: Vec<_> = images.iter().map(|image| narrow(image, options)).collect();
    let answers: Vec<_> = stream::iter(questions).buffered(REQUESTS_MAX).collect().await;
    let (mut narrowed, mut failed) = (Vec::with_capacity(images.len()), Vec::new());
    for (image, answer) in images.into_iter().zip(answers) {
        match answer {
            Ok(None) => narrowed.push(image),
            Ok(Some(made)) => narrowed.push(NamedImage {
                selector: made.to.to_string(),
                name: image.name,
                original: Some(OriginalImage {
                    source: image.source,
                    digest: made.from,
                    lost: made.lost,
                }),
                source: Arc::new(made.source),
            }),
            Err(error) => failed.push(FailedCopy::new(&image.name, &error)),
        }
    }
    match failed.is_empty() {
        true => Ok(narrowed),
        false => Err(failed),
    }
}

async fn narrow(image: &NamedImage, options: &CopyOptions) -> Result<Option<NarrowedImage>, TransferError> {
    if image.name.digest.is_some() {
        return Ok(None);
    }
    let question = || narrow_image(&image.source, &image.selector, &options.platforms).boxed();
    options.retrying(&NoProgress, &image.name.to_string(), question).await
}

/// Returns the images of the profiles, from their origins.
pub(super) fn images_of_profiles(settings: &Settings) -> Vec<WantedImage> {
    let resolver = Resolver::new(settings);
    let planned = plan_images(settings, &resolver);
    let wanted = planned.iter().map(|image| {
        let role = settings.images[image.image].role;
        WantedImage {
            registry: resolver.registry_for(&image.canonical, role),
            from: ImageLocation::Registry(image.canonical.clone()),
            name: Some(image.canonical.clone()),
        }
    });
    wanted.collect()
}

/// Returns the images of a list: each line has a location and, if it is to have another name in the bundle, that name.
pub(super) fn images_of_list(file: &Utf8Path) -> anyhow::Result<Vec<WantedImage>> {
    let text = load_text(file)?;
    let mut wanted = Vec::new();
    for (number, line) in text.text.lines().enumerate() {
        let place = || format!("{}:{}", text.name, number + 1);
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = match words[..] {
            [] => continue,
            [_] => None,
            [_, name] => Some(name.parse::<ImageReference>().with_context(place)?),
            _ => bail!("{}: a line must hold a location, and a name if it has another", place()),
        };
        let from = words[0].parse().with_context(place)?;
        wanted.push(WantedImage {
            from,
            registry: None,
            name,
        });
    }
    Ok(wanted)
}

/// Opens an image.
///
/// # Errors
/// If its source cannot be opened, or it has no name.
pub(super) fn open(wanted: &WantedImage, registries: &Registries<'_>) -> anyhow::Result<NamedImage> {
    let opened = wanted.from.open_named(registries, wanted.registry)?;
    let name = match wanted.name.clone().or(opened.name) {
        Some(name) => name.canonical(),
        None => bail!(Explanation::new(
            format!("the image at `{}` has no full name", wanted.from),
            "give it one: a line `LOCATION NAME` in the file of `--from-file`"
        )),
    };
    ensure!(
        name.tag.is_some() || name.digest.is_some(),
        "`{name}` has neither a tag nor a digest"
    );
    Ok(NamedImage {
        source: opened.source,
        selector: opened.selector,
        name,
        original: None,
    })
}

/// An image that failed, and the reason.
pub(super) struct FailedCopy {
    pub(super) name: String,
    pub(super) reason: String,
}

impl FailedCopy {
    pub(super) fn new(name: &ImageReference, error: &TransferError) -> FailedCopy {
        FailedCopy {
            name: name.to_string(),
            reason: error.reason(),
        }
    }
}
