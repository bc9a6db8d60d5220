//! Files of other formats at a host [spec:bundles.foreign]: the decision when one is worth a read. Such a file has no
//! table that tells its length. It is complete when all of it was read without an error, and did not change meanwhile;
//! a file that is still being copied is not read at all.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time after its last change from which on a file is read without a second look.
pub const QUIET_TIME: Duration = Duration::from_secs(10);

/// Sizes and times of the files that are one bundle: its pieces, and its detached signature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// In the order of the pieces.
    pub files: Vec<StampedFile>,
}

/// One file of a [`FileStamp`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StampedFile {
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub modified: i64,
}

impl FileStamp {
    /// Returns true if the files are not being copied: the look before saw the same, or the last change is a while ago.
    /// `now` is in nanoseconds since 1970. A clock that was never set, or a time in the future, costs a second look.
    #[must_use]
    pub fn is_settled(&self, before: Option<&FileStamp>, now: i64) -> bool {
        let quiet = i64::try_from(QUIET_TIME.as_nanos()).unwrap_or(i64::MAX);
        let is_old = |file: &StampedFile| file.modified.saturating_add(quiet) <= now;
        before == Some(self) || self.files.iter().all(is_old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_stamp(files: &[(u64, i64)]) -> FileStamp {
        let file = |(number, (size, modified)): (usize, &(u64, i64))| StampedFile {
            name: format!("x_part{number:02}"),
            size: *size,
            modified: *modified,
        };
        FileStamp {
            files: files.iter().enumerate().map(file).collect(),
        }
    }

    #[test]
    fn a_file_is_read_once_it_is_quiet() {
        const SECOND: i64 = 1_000_000_000;
        let now = 1_000 * SECOND;
        let old = mk_stamp(&[(3, 0), (3, 990 * SECOND)]);
        let young = mk_stamp(&[(3, 0), (3, 991 * SECOND)]);
        let future = mk_stamp(&[(3, 2_000 * SECOND)]);
        let grown = mk_stamp(&[(3, 0), (4, 991 * SECOND)]);
        let cases = [
            ("old", &old, None, true),
            ("young, first look", &young, None, false),
            ("young, second look", &young, Some(&young), true),
            ("it grew", &grown, Some(&young), false),
            ("of the future, first look", &future, None, false),
            ("of the future, second look", &future, Some(&future), true),
            ("old, and replaced by an older one", &old, Some(&young), true),
        ];
        for (case, stamp, before, expected) in cases {
            assert_eq!(stamp.is_settled(before, now), expected, "{case}");
        }
        // A clock that was never set.
        assert!(!old.is_settled(None, 5 * SECOND));
        assert!(old.is_settled(Some(&old), 5 * SECOND));
    }
}
