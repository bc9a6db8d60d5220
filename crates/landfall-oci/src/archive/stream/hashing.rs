//! The SHA-256 of a file, taken while the archive in it is read: a signature of the whole file needs no second pass, and
//! a device cannot give other bytes in that one.

use std::io::{self, Read};
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::reference::Digest;
use landfall_core::sync::lock;

use crate::archive::error::ArchiveError;
use crate::digest::{Algorithm, Digester};
use crate::pieces::FileSet;
use crate::tar_reader::TarError;

/// Bytes of one read of the rest.
const READ_SIZE: usize = 256 * 1024;

/// The hash of a file that is read once. It is complete after [`FileHash::finish`].
#[derive(Debug)]
pub struct FileHash {
    path: Utf8PathBuf,
    shared: Arc<Mutex<Hashing>>,
}

#[derive(Debug)]
struct Hashing {
    files: FileSet,
    position: u64,
    digester: Digester,
}

/// Reader of the file.
#[derive(Debug)]
pub(super) struct HashedFile(Arc<Mutex<Hashing>>);

impl Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.files.read_at(buffer, self.position)?;
        self.position += read as u64;
        self.digester.update(&buffer[..read]);
        Ok(read)
    }
}

impl Read for HashedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.0).read(buffer)
    }
}

impl FileHash {
    pub(super) fn open(path: &Utf8Path) -> io::Result<(HashedFile, FileHash)> {
        let shared = Arc::new(Mutex::new(Hashing {
            files: FileSet::open_read(path)?,
            position: 0,
            digester: Digester::new(Algorithm::Sha256),
        }));
        let hash = FileHash {
            path: path.to_owned(),
            shared: shared.clone(),
        };
        Ok((HashedFile(shared), hash))
    }

    /// Reads what the reader of the archive left, and returns the SHA-256 of the whole file. Blocks.
    ///
    /// # Errors
    /// If the file cannot be read, or zarf's description of its pieces states another SHA-256.
    pub fn finish(self) -> Result<Digest, ArchiveError> {
        let failed = |error| ArchiveError::Read {
            archive: self.path.clone(),
            source: TarError::Read(error),
        };
        let mut hashing = lock(&self.shared);
        let mut buffer = vec![0; READ_SIZE];
        loop {
            match hashing.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let found = hashing.digester.clone().finish();
        hashing.files.compare_sha256(&found).map_err(failed)?;
        Ok(found)
    }
}
