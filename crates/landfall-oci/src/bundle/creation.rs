//! The two copies that make a bundle.

use std::collections::HashMap;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use landfall_core::oci_types::Descriptor;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::status::{NoProgress, ProgressSink};

use super::companions::CompanionMap;
use super::gathering::BundleGathering;
use super::plan::BundlePlan;
use super::writer::BundleWriter;
use crate::copy::{CopyFailure, CopyOptions, CopyReport, ImageCopy, copy_images};
use crate::image::{BlobStream, ImageSink, ImageSource, RawManifest, Referrer, RepositoryAddress, TransferError};

/// An image for a bundle.
#[derive(Debug, Clone, Copy)]
pub struct BundleImage<'a> {
    pub source: &'a dyn ImageSource,
    /// The tag or digest in the source.
    pub selector: &'a str,
    /// The image's name in the bundle.
    pub name: &'a ImageReference,
}

/// Gathers the manifests and small blobs of images. The results are in the order of the images.
pub async fn gather_images(
    images: &[BundleImage<'_>],
    options: &CopyOptions,
) -> (BundleGathering, Vec<Result<CopyReport, CopyFailure>>) {
    let gathering = BundleGathering::default();
    let sinks: Vec<_> = images.iter().map(|image| gathering.sink(image.name)).collect();
    let copies: Vec<_> = images
        .iter()
        .zip(&sinks)
        .map(|(image, sink)| ImageCopy {
            source: image.source,
            selector: image.selector,
            sink,
            name: Some(image.name),
            expected: None,
        })
        .collect();
    let results = copy_images(&copies, options, &NoProgress).await;
    (gathering, results)
}

/// Moves the large blobs of images to their places. The manifests are those of the plan: the sources are not asked for
/// them again. The results are in the order of the images.
pub async fn write_images(
    images: &[BundleImage<'_>],
    writer: &BundleWriter,
    options: &CopyOptions,
    progress: &dyn ProgressSink,
) -> Vec<Result<CopyReport, CopyFailure>> {
    let plan = writer.plan();
    let listed = plan.document().images.iter();
    let listed: HashMap<_, _> = listed.map(|image| (&image.name, &image.digest)).collect();
    let planned = |image: &BundleImage<'_>| {
        let digest = listed.get(&image.name.canonical());
        digest.map_or_else(|| image.selector.to_owned(), ToString::to_string)
    };
    let companions = CompanionMap::new(plan.document());
    let sources: Vec<_> = images
        .iter()
        .map(|image| PlannedSource {
            inner: image.source,
            plan,
            companions: &companions,
        })
        .collect();
    let selectors: Vec<String> = images.iter().map(planned).collect();
    let sink: Box<dyn ImageSink> = Box::new(writer.sink());
    let copies: Vec<_> = images
        .iter()
        .zip(sources.iter().zip(&selectors))
        .map(|(image, (source, selector))| ImageCopy {
            source,
            selector,
            sink: &*sink,
            name: Some(image.name),
            expected: None,
        })
        .collect();
    copy_images(&copies, options, progress).await
}

/// Source whose manifests are known.
#[derive(Debug)]
struct PlannedSource<'a> {
    inner: &'a dyn ImageSource,
    plan: &'a BundlePlan,
    companions: &'a CompanionMap,
}

impl ImageSource for PlannedSource<'_> {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn repository_address(&self) -> Option<RepositoryAddress> {
        self.inner.repository_address()
    }

    fn lacks(&self, entry: &Descriptor) -> bool {
        self.inner.lacks(entry)
    }

    fn fetch_manifest<'a>(&'a self, selector: &'a str) -> BoxFuture<'a, Result<RawManifest, TransferError>> {
        let digest = selector.parse::<Digest>().ok();
        match digest.and_then(|digest| self.plan.manifest(&digest)) {
            Some(manifest) => async move { Ok(manifest) }.boxed(),
            None => self.inner.fetch_manifest(selector),
        }
    }

    fn open_blob<'a>(&'a self, blob: &'a Descriptor, offset: u64) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        self.inner.open_blob(blob, offset)
    }

    fn find_referrers<'a>(&'a self, subject: &'a Digest) -> BoxFuture<'a, Result<Vec<Referrer>, TransferError>> {
        let found = self.companions.of(subject);
        async move { Ok(found) }.boxed()
    }
}
