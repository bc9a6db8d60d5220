//! Sizes of pieces that the user asks for, and the pieces of a file of known size.

use std::borrow::Cow;
use std::str::FromStr;

use super::PIECES_MAX;
use crate::failure::Hint;
use crate::quantity::ByteSize;

/// Largest file of FAT32, in bytes.
const FAT32_FILE_MAX: u64 = u32::MAX as u64;

/// Largest size of a piece, in bytes: `3GB`, `700 MiB`, `4294967295` or `fat32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitSize(u64);

/// A text is no size of a piece.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no size of a piece: write `fat32`, or a number of bytes with a unit, as in `3GB` or `700MiB`")]
pub struct SplitSizeError {
    pub text: String,
}

impl SplitSize {
    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for SplitSize {
    type Err = SplitSizeError;

    fn from_str(text: &str) -> Result<SplitSize, SplitSizeError> {
        let refuse = || SplitSizeError { text: text.to_owned() };
        if text.trim().eq_ignore_ascii_case("fat32") {
            return Ok(SplitSize(FAT32_FILE_MAX));
        }
        let size = text.parse().map(ByteSize::bytes).ok().filter(|bytes| *bytes > 0);
        size.map(SplitSize).ok_or_else(refuse)
    }
}

/// A piece that will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPiece {
    /// The name in its directory.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}

/// The pieces would be too many.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{total} bytes would be {pieces} pieces of {size} bytes, and at most {PIECES_MAX} are read")]
pub struct SplitPlanError {
    pub total: u64,
    pub pieces: u64,
    /// The requested size of a piece in bytes.
    pub size: u64,
}

impl Hint for SplitPlanError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        let megabytes = self.total.div_ceil(PIECES_MAX).div_ceil(1_000_000);
        Some(Cow::Owned(format!("use pieces of at least {megabytes} MB")))
    }
}

/// Returns the pieces of a file with this name and size. A file that fits into one piece keeps its name. The numbers of
/// others have as many digits as the last one needs, two at least: the order of names is that of the pieces.
///
/// # Errors
/// If there would be more than [`PIECES_MAX`].
pub fn plan_pieces(name: &str, total: u64, size: SplitSize) -> Result<Vec<PlannedPiece>, SplitPlanError> {
    let SplitSize(size) = size;
    let count = total.div_ceil(size);
    if count <= 1 {
        let name = name.to_owned();
        return Ok(vec![PlannedPiece { name, size: total }]);
    }
    if count > PIECES_MAX {
        let pieces = count;
        return Err(SplitPlanError { total, pieces, size });
    }
    let width = (count - 1).to_string().len().max(2);
    let piece = |number: u64| PlannedPiece {
        name: format!("{name}_part{number:0width$}"),
        size: size.min(total - number * size),
    };
    Ok((0..count).map(piece).collect())
}
