//! An open bundle as a place that a server looks into: its images by their full names, and its blobs where they lie.

use camino::Utf8Path;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use landfall_core::reference::{Digest, ImageReference};

use super::source::BundleSource;
use crate::content::read_only::{CHUNK_SIZE_MAX, ReadOnlyContent};
use crate::image::{BlobStream, ImageSource, TransferError};

impl ReadOnlyContent for BundleSource {
    fn describe(&self) -> String {
        ImageSource::describe(self)
    }

    fn path(&self) -> Option<&Utf8Path> {
        Some(self.file.path())
    }

    fn images(&self) -> Vec<(ImageReference, Digest)> {
        let images = self.file.document().images.iter();
        images
            .flat_map(|image| {
                let companions = image.companions.iter().map(|companion| {
                    let name = image.name.beside(companion.tag.as_ref(), &companion.digest);
                    (name, companion.digest.clone())
                });
                [(image.name.clone(), image.digest.clone())]
                    .into_iter()
                    .chain(companions)
            })
            .collect()
    }

    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        self.file.blob_size(digest)
    }

    fn open_blob<'a>(
        &'a self,
        digest: &'a Digest,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        async move { self.stream(digest, offset, length, CHUNK_SIZE_MAX as u64) }.boxed()
    }
}
