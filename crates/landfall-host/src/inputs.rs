//! Reader of input files: user-data, profiles, values. It reads no more than the limit, whatever the file is.

use std::borrow::Cow;
use std::io::{self, Read};

use camino::Utf8Path;
use landfall_core::config::{INPUT_BYTES_MAX, NotAnInput, decode_input};
use landfall_core::diagnostic::NamedText;
use landfall_core::failure::Hint;

/// Error of an input that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the input `{name}`")]
pub struct InputError {
    /// The name of the input in messages.
    name: String,
    #[source]
    source: InputFault,
}

#[derive(Debug, thiserror::Error)]
enum InputFault {
    #[error("it is a directory")]
    Directory,
    #[error(transparent)]
    Io(io::Error),
    #[error(transparent)]
    Content(NotAnInput),
}

impl Hint for InputError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match &self.source {
            InputFault::Directory => Some(Cow::Borrowed("name a file in it")),
            InputFault::Io(error) => Some(Cow::Borrowed(match error.kind() {
                io::ErrorKind::NotFound => "correct the path",
                io::ErrorKind::PermissionDenied => "run as a user that may read the file",
                _ => return None,
            })),
            // The hint holds no value of its own: it lives as long as the program.
            InputFault::Content(content) => content.hint().map(|hint| Cow::Owned(hint.into_owned())),
        }
    }
}

/// Reads an input file and gives it its name in messages. A pipe is read to its end, or to the limit.
///
/// # Errors
/// If it cannot be read, is larger than [`INPUT_BYTES_MAX`], or is no text in UTF-8.
pub fn load_input(path: &Utf8Path) -> Result<NamedText, InputError> {
    let named = |source| InputError {
        name: path.to_string(),
        source,
    };
    let open = || {
        let file = std::fs::File::open(path)?;
        let is_directory = file.metadata()?.is_dir();
        Ok((file, is_directory))
    };
    let (file, is_directory) = open().map_err(|error| named(InputFault::Io(error)))?;
    if is_directory {
        return Err(named(InputFault::Directory));
    }
    read_input(path.as_str(), file)
}

/// Reads an input from an open file or pipe, to its end or to the limit.
///
/// # Errors
/// If it cannot be read, is larger than [`INPUT_BYTES_MAX`], or is no text in UTF-8.
pub fn read_input(name: &str, reader: impl Read) -> Result<NamedText, InputError> {
    let named = |source| InputError {
        name: name.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let read = reader.take(INPUT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| named(InputFault::Io(error)))?;
    let text = decode_input(bytes).map_err(|error| named(InputFault::Content(error)))?;
    Ok(NamedText::new(name, &text))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A reader without an end that counts the bytes that are read from it.
    struct Endless<'a>(&'a Cell<usize>);

    impl Read for Endless<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'a');
            self.0.set(self.0.get() + buffer.len());
            Ok(buffer.len())
        }
    }

    fn shown(error: &InputError) -> String {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        format!(
            "{error}: {}; {}",
            cause.unwrap_or_default(),
            error.hint().unwrap_or_default()
        )
    }

    #[test]
    fn an_input_without_an_end_is_read_to_the_limit() {
        let read = Cell::new(0);
        let error = read_input("<stdin>", Endless(&read)).unwrap_err();
        assert_eq!(
            shown(&error),
            "cannot read the input `<stdin>`: it has more than 16777216 bytes; name the right file, or remove what is \
             generated"
        );
        assert_eq!(read.get(), INPUT_BYTES_MAX + 1);
    }

    #[test]
    fn a_directory_and_a_missing_file_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(directory.path()).unwrap();
        let error = load_input(path).unwrap_err();
        assert_eq!(
            shown(&error),
            format!("cannot read the input `{path}`: it is a directory; name a file in it")
        );
        let missing = load_input(&path.join("none")).unwrap_err();
        assert_eq!(missing.hint().as_deref(), Some("correct the path"));
        fs_err::write(path.join("file"), "a: b").unwrap();
        let text = load_input(&path.join("file")).unwrap();
        assert_eq!((&*text.name, &*text.text), (path.join("file").as_str(), "a: b"));
    }
}
