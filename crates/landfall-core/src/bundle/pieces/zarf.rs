//! zarf's description of a package in pieces (`ZarfSplitPackageData`).

use super::error::PieceSetError;
use crate::{lenient, lenient_object};

/// Content of `X.part000`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZarfDescription {
    /// Hexadecimal digits of the whole file's SHA-256.
    pub sha256: String,
    /// Size of the whole file.
    pub bytes: Option<u64>,
    /// Number of the pieces with data.
    pub count: Option<u64>,
}

lenient_object!(ZarfDescription { "sha256Sum" => sha256, "bytes" => bytes, "count" => count });

impl ZarfDescription {
    /// Limit of the file, in bytes: it has three fields.
    pub const SIZE_MAX: u64 = 64 * 1024;

    /// Parses the file with this name.
    ///
    /// # Errors
    /// If it is no description.
    pub fn parse(file: &str, text: &[u8]) -> Result<ZarfDescription, PieceSetError> {
        lenient::from_slice(text).map_err(|_may_be_anything| PieceSetError::Description { file: file.to_owned() })
    }

    /// Checks the number and the size of the pieces that are there.
    ///
    /// # Errors
    /// If the description states others, or none.
    pub fn check(&self, file: &str, pieces: u64, bytes: u64) -> Result<(), PieceSetError> {
        let file = file.to_owned();
        let (Some(count), Some(size)) = (self.count, self.bytes) else {
            return Err(PieceSetError::Description { file });
        };
        if count != pieces {
            return Err(PieceSetError::Count {
                file,
                expected: count,
                found: pieces,
            });
        }
        if size != bytes {
            return Err(PieceSetError::Bytes {
                file,
                expected: size,
                found: bytes,
            });
        }
        Ok(())
    }
}
