//! The SHA-256 of a whole file that zarf's description of its pieces states, compared where the file is read from its
//! beginning to its end.

use std::borrow::Borrow;
use std::io::{self, Read};

use landfall_core::bundle::pieces::PieceSetError;
use landfall_core::reference::Digest;

use super::{FileSet, FileSetReader, refuse};
use crate::digest::{Algorithm, Digester};

/// A stated SHA-256.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatedSha256 {
    /// The name of the description.
    pub(super) file: String,
    /// Hexadecimal digits in lower case.
    pub(super) sha256: String,
}

impl StatedSha256 {
    pub(super) fn compare(&self, found: &Digest) -> io::Result<()> {
        match found.hex() == self.sha256 {
            true => Ok(()),
            false => Err(refuse(PieceSetError::Sha256 {
                file: self.file.clone(),
                expected: self.sha256.clone(),
                found: found.hex().to_owned(),
            })),
        }
    }
}

/// Reader of a [`FileSet`] from its beginning to its end. The end is an error if a description in the set states another
/// SHA-256.
#[derive(Debug)]
pub struct CheckedReader<S> {
    reader: FileSetReader<S>,
    /// `None` if nothing is stated.
    digester: Option<Digester>,
}

impl<S: Borrow<FileSet>> CheckedReader<S> {
    pub(super) fn new(reader: FileSetReader<S>) -> CheckedReader<S> {
        let is_stated = reader.set.borrow().stated.is_some();
        CheckedReader {
            reader,
            digester: is_stated.then(|| Digester::new(Algorithm::Sha256)),
        }
    }

    fn check_end(&self) -> io::Result<()> {
        match &self.digester {
            Some(digester) => self.reader.set.borrow().compare_sha256(&digester.clone().finish()),
            None => Ok(()),
        }
    }
}

impl<S: Borrow<FileSet>> Read for CheckedReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if let Some(digester) = &mut self.digester {
            digester.update(&buffer[..read]);
        }
        if read == 0 && !buffer.is_empty() {
            self.check_end()?;
        }
        Ok(read)
    }
}
