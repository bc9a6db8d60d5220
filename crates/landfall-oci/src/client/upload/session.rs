//! An upload session of a registry.

use std::fmt;

use reqwest::Url;

/// An upload under way.
#[derive(Clone)]
pub struct UploadSession {
    /// Where its next request goes. Some registries keep secrets in it.
    pub(crate) location: Url,
    pub(crate) offset: u64,
}

impl UploadSession {
    /// How many bytes the registry has.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Debug for UploadSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadSession")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// What came of the wish to upload a blob.
#[derive(Debug)]
pub enum UploadStart {
    /// The registry has the blob, and now it is in the repository.
    Present,
    /// The bytes are wanted.
    Accepted(UploadSession),
}
