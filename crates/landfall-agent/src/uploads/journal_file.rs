//! The file of an upload's journal.

use std::io;
use std::os::unix::fs::FileExt as _;

use camino::Utf8Path;
use fs_err as fs;

#[derive(Debug)]
pub(super) struct JournalFile {
    file: fs::File,
    /// Length of the lines that are on the disk.
    length: u64,
}

impl JournalFile {
    /// Opens a journal, and cuts off what is behind its good lines.
    pub(super) fn open(path: &Utf8Path, length: u64) -> io::Result<JournalFile> {
        let file = fs::OpenOptions::new().write(true).open(path)?;
        if file.metadata()?.len() != length {
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(JournalFile { file, length })
    }

    /// Appends a line, and returns once it is on the disk. After a failure, the next line takes the place of this one.
    pub(super) fn append(&mut self, line: &str) -> io::Result<()> {
        let file = self.file.file();
        let written = file
            .write_all_at(line.as_bytes(), self.length)
            .and_then(|()| file.sync_data());
        match written {
            Ok(()) => self.length += line.len() as u64,
            Err(_) => {
                // If this fails too, a reader stops at the rest of the line.
                let _stays = file.set_len(self.length);
            }
        }
        written
    }
}
