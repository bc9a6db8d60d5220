//! The trait of content that is read where it lies.

use std::fmt;

use camino::Utf8Path;
use futures_util::future::BoxFuture;
use landfall_core::reference::{Digest, ImageReference};

use crate::image::{BlobStream, TransferError};

/// Bytes that one chunk of a read has at most: a server holds two chunks for each client.
pub const CHUNK_SIZE_MAX: usize = 256 * 1024;

/// Content that does not change, and that may vanish at any instant: a stick can be pulled. Only the lists are known to
/// be in memory.
///
/// An implementation verifies nothing. [`crate::content::place::Place`] does, for all of them.
pub trait ReadOnlyContent: fmt::Debug + Send + Sync {
    /// Returns the name of the content in messages, e.g. `bundle site-7.tar.zst`.
    fn describe(&self) -> String;

    /// Returns the path of the file, or of the first of its pieces; `None` for content that is no file.
    fn path(&self) -> Option<&Utf8Path> {
        None
    }

    /// Returns the images by their full names, with the digests of their manifests or indexes. A signature or another
    /// referrer has the name of its image, with its own tag, or with its digest alone.
    fn images(&self) -> Vec<(ImageReference, Digest)>;

    /// Returns the size of a blob or manifest in bytes; `None` if it is not here.
    fn blob_size(&self, digest: &Digest) -> Option<u64>;

    /// Opens a part of a blob or manifest, in chunks of at most [`CHUNK_SIZE_MAX`] bytes. The caller asks for a part
    /// that lies inside.
    fn open_blob<'a>(
        &'a self,
        digest: &'a Digest,
        offset: u64,
        length: u64,
    ) -> BoxFuture<'a, Result<BlobStream, TransferError>>;
}
