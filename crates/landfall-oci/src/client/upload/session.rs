//! An upload session of a registry.

use std::fmt;

use reqwest::Url;

#[derive(Clone)]
pub struct UploadSession {
    /// Target of the next request. Some registries put secrets into it.
    pub(crate) location: Url,
    pub(crate) offset: u64,
}

impl UploadSession {
    /// Returns the number of bytes that the registry has.
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

/// Response to the start of an upload.
#[derive(Debug)]
pub enum UploadStart {
    /// The registry has the blob, and it is in the repository now.
    Present,
    /// The registry waits for the bytes.
    Accepted(UploadSession),
}
