//! Sets of pieces that cannot be read as one file.

use std::borrow::Cow;

use crate::failure::Hint;
use crate::wording::quoted;

/// Most names that a message lists.
const LISTED_MAX: usize = 8;

/// The pieces of a file are not a whole set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceSetError {
    #[error("`{whole}` is not complete: {} missing", describe_missing(.missing))]
    Missing {
        whole: String,
        /// Names of the missing pieces, in order.
        missing: Vec<String>,
    },
    #[error("{} are the same piece", quoted(.pieces))]
    Doubled { pieces: [String; 2] },
    /// A name of another numbering.
    #[error("`{piece}` is no piece of the set of `{other}`: it is numbered in another way")]
    Foreign { piece: String, other: String },
    /// The directory has sets of several forms.
    #[error("`{whole}` is there in pieces of several tools")]
    Ambiguous { whole: String },
    #[error("`{whole}` has more than {} pieces", super::PIECES_MAX)]
    TooMany { whole: String },
    /// Sizes are in bytes.
    #[error("`{piece}` has {size} bytes where `{other}` has {expected}: it was cut short, or belongs to another set")]
    Size {
        piece: String,
        size: u64,
        other: String,
        expected: u64,
    },
    #[error("`{piece}` is empty: it was cut short")]
    Empty { piece: String },
    /// zarf's description is not readable.
    #[error("`{file}` does not describe the pieces that follow it")]
    Description { file: String },
    /// zarf's description states another number of pieces.
    #[error("`{file}` states {expected} pieces, and {found} are there")]
    Count { file: String, expected: u64, found: u64 },
    /// zarf's description states another size.
    #[error("`{file}` states {expected} bytes, and the pieces have {found}")]
    Bytes { file: String, expected: u64, found: u64 },
    /// zarf's description states another SHA-256, in hexadecimal digits.
    #[error("`{file}` states the SHA-256 `{expected}` of the whole file, and the pieces have `{found}`")]
    Sha256 {
        file: String,
        expected: String,
        found: String,
    },
}

impl Hint for PieceSetError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            PieceSetError::Missing { .. } | PieceSetError::Count { .. } => {
                "copy all pieces into one directory and name any one of them"
            }
            PieceSetError::Doubled { .. } | PieceSetError::Foreign { .. } => {
                "keep the pieces of one file in a directory of their own"
            }
            PieceSetError::Ambiguous { .. } => "name one of the pieces in place of the whole file",
            PieceSetError::TooMany { .. } => "join them with `cat` and name the file that it makes",
            PieceSetError::Size { .. }
            | PieceSetError::Empty { .. }
            | PieceSetError::Description { .. }
            | PieceSetError::Bytes { .. }
            | PieceSetError::Sha256 { .. } => "copy this set again from where it was made",
        }))
    }
}

fn describe_missing(missing: &[String]) -> String {
    let shown = quoted(&missing[..missing.len().min(LISTED_MAX)]);
    match missing.len() {
        1 => format!("{shown} is"),
        ..=LISTED_MAX => format!("{shown} are"),
        count => format!("{shown} and {} more are", count - LISTED_MAX),
    }
}
