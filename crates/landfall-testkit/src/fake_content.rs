//! Images in memory that are read in place, with faults: wrong bytes under a digest, reads that stop half way, and a
//! stick that is pulled.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::sync::lock;
use landfall_oci::content::read_only::ReadOnlyContent;
use landfall_oci::image::{BlobStream, TransferError};
use tokio::sync::watch;

use crate::image_builder::ImageFixture;

/// Bytes of a chunk: less than the largest that the trait allows, so that small blobs have several.
const CHUNK_SIZE: usize = 16 * 1024;

/// State of the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Medium {
    Present,
    /// Reads stop before their second chunk.
    Stuck,
    Pulled,
}

/// The content.
#[derive(Debug)]
pub struct FakeContent {
    images: Vec<(ImageReference, Digest)>,
    blobs: Mutex<BTreeMap<Digest, Bytes>>,
    medium: watch::Sender<Medium>,
}

impl FakeContent {
    /// Returns content with these images, by their full names.
    ///
    /// # Panics
    /// Panics if a name is not a reference.
    #[must_use]
    pub fn new(images: &[(&str, &ImageFixture)]) -> FakeContent {
        let parse = |name: &str| name.parse().expect("the test names an image");
        let named = images
            .iter()
            .map(|(name, image)| (parse(name), image.root.digest.clone()));
        let content = images.iter().flat_map(|(_, image)| image.all_content());
        FakeContent {
            images: named.collect(),
            blobs: Mutex::new(content.map(|(digest, bytes)| (digest.clone(), bytes.clone())).collect()),
            medium: watch::Sender::new(Medium::Present),
        }
    }

    /// Takes a blob out, as a delta does that counts on it elsewhere.
    pub fn leave_out(&self, digest: &Digest) {
        lock(&self.blobs).remove(digest);
    }

    /// Puts bytes under a digest that they do not have. Their number stays.
    pub fn damage(&self, digest: &Digest) {
        if let Some(bytes) = lock(&self.blobs).get_mut(digest) {
            let mut wrong = bytes.to_vec();
            if let Some(last) = wrong.last_mut() {
                *last ^= 1;
            }
            *bytes = wrong.into();
        }
    }

    /// Lets reads stop before their second chunk, until the medium is pulled or [`FakeContent::go_on`] is called.
    pub fn get_stuck(&self) {
        self.medium.send_replace(Medium::Stuck);
    }

    /// Lets reads go on.
    pub fn go_on(&self) {
        self.medium.send_replace(Medium::Present);
    }

    /// Pulls the medium: every read fails from now on.
    pub fn pull(&self) {
        self.medium.send_replace(Medium::Pulled);
    }
}

impl ReadOnlyContent for FakeContent {
    fn describe(&self) -> String {
        "the fake stick".to_owned()
    }

    fn images(&self) -> Vec<(ImageReference, Digest)> {
        self.images.clone()
    }

    fn blob_size(&self, digest: &Digest) -> Option<u64> {
        lock(&self.blobs).get(digest).map(|bytes| bytes.len() as u64)
    }

    fn open_blob<'a>(
        &'a self,
        digest: &'a Digest,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<BlobStream, TransferError>> {
        Box::pin(async move {
            if *self.medium.borrow() == Medium::Pulled {
                return Err(pulled());
            }
            let bytes = lock(&self.blobs).get(digest).cloned().ok_or_else(pulled)?;
            let range = usize::try_from(offset).ok().zip(usize::try_from(offset + length).ok());
            let (begin, end) = range.ok_or_else(pulled)?;
            let part = bytes.slice(begin..end);
            let begins = (0..part.len()).step_by(CHUNK_SIZE);
            let chunks: Vec<Bytes> = begins
                .map(|begin| part.slice(begin..part.len().min(begin + CHUNK_SIZE)))
                .collect();
            let medium = self.medium.subscribe();
            let chunks = stream::iter(chunks).enumerate().then(move |(number, chunk)| {
                let mut medium = medium.clone();
                async move {
                    let is_stuck = |medium: &Medium| number > 0 && *medium == Medium::Stuck;
                    let state = medium.wait_for(|medium| !is_stuck(medium)).await.map(|state| *state);
                    match state {
                        Ok(Medium::Present | Medium::Stuck) => Ok(chunk),
                        Ok(Medium::Pulled) | Err(_) => Err(pulled()),
                    }
                }
            });
            Ok(chunks.boxed())
        })
    }
}

fn pulled() -> TransferError {
    TransferError {
        attempt: "cannot read the fake stick".to_owned(),
        kind: FailureKind::Local,
        source: Some(Box::new(io::Error::other("input/output error"))),
    }
}
