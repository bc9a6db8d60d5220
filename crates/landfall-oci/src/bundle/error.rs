//! Errors of bundles.

use std::borrow::Cow;
use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::document::{DOCUMENT_PATH, DocumentError};
use landfall_core::failure::Hint;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::wording::counted;

use crate::store::error::is_disk_full;

/// A bundle that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("cannot read the bundle `{path}`")]
    Read {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the bundle `{path}`")]
    Write {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    /// The file is no bundle of this program.
    #[error("`{path}` is no bundle of Landfall: it does not begin with `{DOCUMENT_PATH}`")]
    Foreign { path: Utf8PathBuf },
    #[error("the bundle `{path}` cannot be used")]
    Document {
        path: Utf8PathBuf,
        #[source]
        source: DocumentError,
    },
    /// The file is shorter than its head says: a copy is under way, or was cut.
    #[error("the bundle `{path}` is not complete: it has {found} of {expected} bytes")]
    Incomplete {
        path: Utf8PathBuf,
        expected: u64,
        found: u64,
    },
    #[error("the bundle `{path}` has {found} bytes where its head says {expected}")]
    TooLong {
        path: Utf8PathBuf,
        expected: u64,
        found: u64,
    },
    /// A part of the head is not as the document says.
    #[error("`{part}` in the head of the bundle `{path}` is damaged")]
    Head { path: Utf8PathBuf, part: String },
    /// Metadata beyond the limit of one bundle.
    #[error("the manifests of these images have {size} bytes, and one bundle takes {limit}")]
    TooManyManifests { size: u64, limit: u64 },
    /// A blob without which the bundle cannot be finished.
    #[error("blob `{digest}` has not arrived in the bundle")]
    MissingBlob { digest: Digest },
    /// A blob that the bundle leaves to the site.
    #[error("the bundle counts on blob `{digest}` of `{image}` at the site, where it is not")]
    Needed { digest: Digest, image: ImageReference },
    #[error("the disk of `{path}` has {free} bytes free, and the bundle needs {needed}")]
    NoSpace { path: Utf8PathBuf, needed: u64, free: u64 },
    #[error("the bundle `{path}` is damaged in {}", counted(*.damages, "part"))]
    Damaged { path: Utf8PathBuf, damages: usize },
    /// The device gave back other bytes than were written.
    #[error("the copy `{path}` is damaged: {} of it are not as they were written", counted(*.damages, "part"))]
    DamagedCopy { path: Utf8PathBuf, damages: usize },
    #[error("`{path}` is being written by another process")]
    InUse { path: Utf8PathBuf },
}

impl BundleError {
    /// Returns the error of a file that cannot be written.
    pub(crate) fn of_write(path: &Utf8Path, source: io::Error) -> BundleError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::ResourceBusy => BundleError::InUse { path },
            _ => BundleError::Write { path, source },
        }
    }
}

impl Hint for BundleError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            BundleError::Read { .. } | BundleError::MissingBlob { .. } => return None,
            BundleError::Write { source, .. } if !is_disk_full(source) => return None,
            BundleError::Write { path, .. } | BundleError::NoSpace { path, .. } => {
                format!("free space on the disk of `{path}`, or name a path on another disk").into()
            }
            BundleError::Document { source, .. } => return source.hint(),
            BundleError::Foreign { .. } => {
                "read it as `oci-archive:FILE` or `docker-archive:FILE`, or with `landfall bundle load`".into()
            }
            BundleError::Incomplete { .. } => {
                "wait until the copy is finished, or copy it again: `landfall bundle copy` goes on where it ended".into()
            }
            BundleError::TooLong { .. } | BundleError::Head { .. } => "copy the bundle again from where it was made".into(),
            BundleError::TooManyManifests { .. } => "make several bundles of fewer images".into(),
            BundleError::Needed { .. } => {
                "make a bundle with this blob: `landfall bundle create` without `--for`, or with the site's inventory of today"
                    .into()
            }
            BundleError::Damaged { .. } => {
                "`landfall bundle verify` names the parts; copy the bundle again from where it was made, or repair it".into()
            }
            BundleError::DamagedCopy { .. } => {
                "use another stick: this one loses bytes, or has less room than it says; `landfall bundle verify` names \
                 the parts"
                    .into()
            }
            BundleError::InUse { .. } => "wait for that one, or name another path".into(),
        })
    }
}
