//! Landfall's own state files: ledger, last good configuration, lists. A power cut, a bad sector or a hand can damage
//! each of them, and a later version may have written it. None of that may keep the program from starting: the file is
//! set aside and the program begins a new one. A file that a power cut left empty is damaged.

use std::fmt;
use std::io::{self, Read as _};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::durable;

/// Largest state file that is read, in bytes.
const SIZE_MAX: u64 = 64 * 1024 * 1024;
/// Largest number of files that are set aside under one name.
const ASIDE_MAX: u32 = 9;

/// Reason why the content of a state file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// The content is not what Landfall wrote. The text never quotes the content, which may hold a secret.
    Damaged(String),
    /// A later version of Landfall wrote it, and this one would drop what it does not know.
    Newer {
        /// Version in the file.
        found: u32,
        /// Latest version that this program knows.
        known: u32,
    },
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Damaged(reason) => write!(f, "is damaged: {reason}"),
            Unusable::Newer { found, known } => {
                write!(f, "is of version {found}, and this program knows version {known}")
            }
        }
    }
}

/// Outcome of [`load_state_file`].
#[derive(Debug, PartialEq, Eq)]
pub enum StateFile<T> {
    Missing,
    Loaded(T),
    /// The file could not be used, and is set aside.
    SetAside(SetAside),
}

/// A state file that could not be used. `Display` is a sentence for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    pub path: Utf8PathBuf,
    pub reason: Unusable,
    /// The file's new path; the error if it could not be renamed.
    pub aside: Result<Utf8PathBuf, String>,
}

impl fmt::Display for SetAside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}; ", self.path, self.reason)?;
        match &self.aside {
            Ok(aside) => write!(f, "it is set aside as `{aside}`, and a new one is begun"),
            Err(error) => write!(f, "it cannot be set aside ({error}), and is not used"),
        }
    }
}

/// Loads a state file. A file that cannot be read or parsed, and anything that is not a file, is renamed to
/// `NAME.damaged`; a file of a later version to `NAME.newer`.
pub fn load_state_file<T>(path: &Utf8Path, parse: impl FnOnce(&[u8]) -> Result<T, Unusable>) -> StateFile<T> {
    let content = match read_regular_file(path) {
        Ok(None) => return StateFile::Missing,
        Ok(Some(content)) if content.is_empty() => Err(Unusable::Damaged("it is empty".to_owned())),
        Ok(Some(content)) => Ok(content),
        Err(error) => Err(Unusable::Damaged(error)),
    };
    match content.and_then(|content| parse(&content)) {
        Ok(loaded) => StateFile::Loaded(loaded),
        Err(reason) => StateFile::SetAside(set_aside(path, reason)),
    }
}

/// Parses a state file in JSON that states its `version`. `what` says what it should be, with an article.
///
/// # Errors
/// If it is of a later version, or is not what it should be.
pub fn parse_versioned<T: DeserializeOwned>(bytes: &[u8], known: u32, what: &str) -> Result<T, Unusable> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let damaged = |error: serde_json::Error| Unusable::Damaged(format!("it is not {what}: {error}"));
    let Versioned { version: found } = serde_json::from_slice(bytes).map_err(damaged)?;
    if found > known {
        return Err(Unusable::Newer { found, known });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Sets aside whatever is at this path, unless it is a file or nothing: the caller is about to write a file there.
pub fn clear_for_writing(path: &Utf8Path) -> Option<SetAside> {
    let found = fs::symlink_metadata(path).ok()?;
    let is_writable = found.is_file() || found.is_symlink() && !path.is_dir();
    (!is_writable).then(|| set_aside(path, Unusable::Damaged("it is not a file".to_owned())))
}

/// Renames a state file that cannot be used, so that a new one can take its place.
#[must_use]
pub fn set_aside(path: &Utf8Path, reason: Unusable) -> SetAside {
    let ending = match reason {
        Unusable::Damaged(_) => "damaged",
        Unusable::Newer { .. } => "newer",
    };
    let aside = free_name(path, ending).and_then(|aside| {
        durable::publish(path, &aside)?;
        Ok(aside)
    });
    SetAside {
        path: path.to_owned(),
        reason,
        aside: aside.map_err(|error| error.to_string()),
    }
}

/// Returns a path for a file that is set aside. The first one is kept; beyond a small number the last one is replaced.
fn free_name(path: &Utf8Path, ending: &str) -> io::Result<Utf8PathBuf> {
    let numbered = |number| match number {
        1 => Utf8PathBuf::from(format!("{path}.{ending}")),
        number => Utf8PathBuf::from(format!("{path}.{ending}.{number}")),
    };
    for number in 1..=ASIDE_MAX {
        let aside = numbered(number);
        if fs::symlink_metadata(&aside).is_err() {
            return Ok(aside);
        }
    }
    let last = numbered(ASIDE_MAX);
    // A rename replaces no directory, and no file by a directory.
    match fs::symlink_metadata(&last)?.is_dir() {
        true => fs::remove_dir_all(&last)?,
        false => fs::remove_file(&last)?,
    }
    Ok(last)
}

/// Reads a file; `None` if nothing is there. The error is a reason in words.
fn read_regular_file(path: &Utf8Path) -> Result<Option<Vec<u8>>, String> {
    let plain = |error: io::Error| format!("it cannot be read: {}", error.kind());
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(plain(error)),
    };
    // A pipe would block, and a device may never end.
    if !found.is_file() {
        return Err("it is not a file".to_owned());
    }
    let mut content = Vec::new();
    let file = fs::File::open(path).map_err(plain)?;
    file.take(SIZE_MAX + 1).read_to_end(&mut content).map_err(plain)?;
    match content.len() as u64 > SIZE_MAX {
        true => Err(format!("it has more than {} MiB", SIZE_MAX >> 20)),
        false => Ok(Some(content)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_dir() -> (tempfile::TempDir, Utf8PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().join("ledger.json")).unwrap();
        (directory, path)
    }

    fn load(path: &Utf8Path) -> StateFile<String> {
        load_state_file(path, |content| match content {
            b"good" => Ok("good".to_owned()),
            b"newer" => Err(Unusable::Newer { found: 99, known: 1 }),
            _ => Err(Unusable::Damaged("it is not good".to_owned())),
        })
    }

    #[test]
    fn file_that_cannot_be_used_is_set_aside_with_its_reason() {
        let (_directory, path) = mk_dir();
        assert_eq!(load(&path), StateFile::Missing);
        fs::write(&path, "good").unwrap();
        assert_eq!(load(&path), StateFile::Loaded("good".to_owned()));
        for (content, ending, words) in [
            ("", "damaged", "is damaged: it is empty"),
            ("{", "damaged.2", "is damaged: it is not good"),
            ("newer", "newer", "is of version 99, and this program knows version 1"),
        ] {
            fs::write(&path, content).unwrap();
            let StateFile::SetAside(told) = load(&path) else {
                panic!("{content} is used")
            };
            let expected = format!("`{path}` {words}; it is set aside as `{path}.{ending}`, and a new one is begun");
            assert_eq!(told.to_string(), expected);
            assert!(!path.exists());
            assert_eq!(fs::read_to_string(format!("{path}.{ending}")).unwrap(), content);
        }
    }

    #[test]
    fn whatever_is_no_file_is_set_aside_too() {
        let (_directory, path) = mk_dir();
        fs::create_dir_all(path.join("inner")).unwrap();
        let StateFile::SetAside(told) = load(&path) else {
            panic!("a directory is used")
        };
        assert_eq!(told.reason, Unusable::Damaged("it is not a file".to_owned()));
        assert!(Utf8PathBuf::from(format!("{path}.damaged")).join("inner").is_dir());
        fs::create_dir(&path).unwrap();
        assert!(clear_for_writing(&path).is_some_and(|told| told.aside.is_ok()));
        assert_eq!(clear_for_writing(&path), None);
        fs::write(&path, "").unwrap();
        assert_eq!(clear_for_writing(&path), None, "a file is replaced by a rename");
    }

    #[test]
    fn number_of_files_that_are_set_aside_is_bounded() {
        let (directory, path) = mk_dir();
        for number in 0..30 {
            match number % 2 {
                0 => fs::write(&path, "{").unwrap(),
                _ => fs::create_dir(&path).unwrap(),
            }
            assert!(matches!(load(&path), StateFile::SetAside(told) if told.aside.is_ok()));
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 9);
    }
}
