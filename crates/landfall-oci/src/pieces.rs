//! Several files that are read and written as one [spec:bundles.pieces]: a file on its own, or the pieces of a large one.
//! They are never joined on disk. Positions are those of the whole; reads and writes may go on at the same time.
//!
//! [`landfall_core::bundle::pieces`] decides by names which files belong together. This module opens them.

use std::borrow::Borrow;
use std::fs::TryLockError;
use std::io::{self, IoSlice, Read, Seek, SeekFrom};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use fs_err::os::unix::fs::FileExt as _;
use landfall_core::bundle::pieces::{
    PieceSet, PieceSetError, PlannedPiece, ZarfDescription, check_piece_sizes, find_pieces, stale_pieces,
};
use landfall_core::reference::Digest;
use landfall_core::wording::quoted;
use landfall_net::durable::{self, directory_of};

use crate::read_at::{ReadAt, limit};

mod stated;

pub use self::stated::CheckedReader;
use self::stated::StatedSha256;

/// Ending of the name of a piece that is being written.
const PARTIAL: &str = ".partial";

/// Files that together are one.
#[derive(Debug)]
pub struct FileSet {
    /// In order; at least one.
    pieces: Vec<Piece>,
    length: u64,
    /// The SHA-256 of the whole, if zarf's description states it.
    stated: Option<StatedSha256>,
}

#[derive(Debug)]
struct Piece {
    file: fs::File,
    /// The name that a written piece gets when the set is complete.
    target: Option<Utf8PathBuf>,
    /// Position of its first byte in the whole.
    start: u64,
    size: u64,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.size
    }
}

impl FileSet {
    /// Opens a file, or all pieces of the set that it belongs to. A link is followed: the other pieces may be beside the
    /// link or beside its target. The path may also be that of the whole file, with pieces in its place.
    ///
    /// # Errors
    /// If there is no regular file, or the set is not complete; then with a [`PieceSetError`] inside.
    pub fn open_read(path: &Utf8Path) -> io::Result<FileSet> {
        FileSet::open(path, fs::OpenOptions::new().read(true))
    }

    /// Opens a file, or all pieces of a set, to read and write it in place. Nothing is truncated.
    ///
    /// # Errors
    /// As for [`FileSet::open_read`].
    pub fn open_write(path: &Utf8Path) -> io::Result<FileSet> {
        FileSet::open(path, fs::OpenOptions::new().read(true).write(true))
    }

    fn open(path: &Utf8Path, options: &fs::OpenOptions) -> io::Result<FileSet> {
        let Some((directory, set)) = find_set(path)? else {
            return FileSet::from_file(options.open(path)?);
        };
        let (mut files, mut sizes) = (Vec::new(), Vec::new());
        for name in set.pieces {
            let file = options.open(directory.join(&name))?;
            let size = regular_size(&file)?;
            files.push((file, size, None));
            sizes.push((name, size));
        }
        let length = check_piece_sizes(&sizes).map_err(refuse)?;
        let stated = match set.description {
            Some(file) => {
                let described = load_description(&directory, &file, sizes.len(), length)?;
                let sha256 = described.sha256.to_ascii_lowercase();
                (!sha256.is_empty()).then_some(StatedSha256 { file, sha256 })
            }
            None => None,
        };
        Ok(FileSet {
            stated,
            ..FileSet::new(files)
        })
    }

    /// Returns the set of one open file.
    ///
    /// # Errors
    /// If it is not a regular file.
    pub fn from_file(file: fs::File) -> io::Result<FileSet> {
        let size = regular_size(&file)?;
        Ok(FileSet::new([(file, size, None)]))
    }

    /// Creates the files of planned pieces, each as `NAME.partial`, until [`FileSet::publish`]. Their locks keep other
    /// writers away. Files of an earlier attempt keep their content.
    ///
    /// # Errors
    /// If another process writes them, or the directory has pieces of another set with the same name.
    pub fn create(directory: &Utf8Path, pieces: &[PlannedPiece]) -> io::Result<FileSet> {
        let listing = list_names(directory)?;
        let stale = stale_pieces(pieces, listing.iter().map(String::as_str));
        if !stale.is_empty() {
            let why = format!(
                "`{directory}` has pieces of another file with this name: {}; delete them first",
                quoted(stale)
            );
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        let mut files = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let target = directory.join(&piece.name);
            files.push((open_partial(&target)?, piece.size, Some(target)));
        }
        Ok(FileSet::new(files))
    }

    fn new(files: impl IntoIterator<Item = (fs::File, u64, Option<Utf8PathBuf>)>) -> FileSet {
        let mut start = 0;
        let mut pieces = Vec::new();
        for (file, size, target) in files {
            pieces.push(Piece {
                file,
                target,
                start,
                size,
            });
            start += size;
        }
        FileSet {
            pieces,
            length: start,
            stated: None,
        }
    }

    /// Returns the size of the whole in bytes; of files that are written, the planned size.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.length
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Returns the number of files.
    #[must_use]
    pub fn piece_count(&self) -> usize {
        self.pieces.len()
    }

    /// Returns true if a description in the set states the SHA-256 of the whole file.
    #[must_use]
    pub fn has_stated_sha256(&self) -> bool {
        self.stated.is_some()
    }

    /// Compares the SHA-256 that a description in the set states with that of the whole file, which is read for it. Does
    /// nothing without such a description. Blocks.
    ///
    /// # Errors
    /// If they differ, then with a [`PieceSetError`] inside, or a file cannot be read.
    pub fn check_stated_sha256(&self) -> io::Result<()> {
        if !self.has_stated_sha256() {
            return Ok(());
        }
        io::copy(&mut CheckedReader::new(self.reader()), &mut io::sink()).map(drop)
    }

    /// Compares the SHA-256 that a description in the set states, if there is one, with that of the whole file.
    ///
    /// # Errors
    /// If they differ; with a [`PieceSetError`] inside.
    pub(crate) fn compare_sha256(&self, found: &Digest) -> io::Result<()> {
        self.stated.as_ref().map_or(Ok(()), |stated| stated.compare(found))
    }

    /// Reads bytes at a position. Returns fewer than asked for at the end of a piece, and none at the end of the whole.
    ///
    /// # Errors
    /// If a file cannot be read; the error names it.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(piece) = self.piece_at(offset) else {
            return Ok(0);
        };
        let wanted = limit(buffer.len(), piece.end() - offset);
        piece.file.read_at(&mut buffer[..wanted], offset - piece.start)
    }

    /// Fills a buffer from a position.
    ///
    /// # Errors
    /// `UnexpectedEof` if the whole ends before, or if a file cannot be read.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    buffer = &mut buffer[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns true if these bytes stand at a position.
    ///
    /// # Errors
    /// As for [`FileSet::read_exact_at`].
    pub fn has_bytes(&self, expected: &[u8], offset: u64) -> io::Result<bool> {
        let mut found = vec![0; expected.len()];
        self.read_exact_at(&mut found, offset)?;
        Ok(found == expected)
    }

    /// Writes all bytes at a position.
    ///
    /// # Errors
    /// If they reach beyond the planned size, or a file cannot be written.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let piece = self.piece_at(offset).ok_or_else(too_long)?;
            let (now, later) = bytes.split_at(limit(bytes.len(), piece.end() - offset));
            write_all_at(&piece.file, now, offset - piece.start)?;
            bytes = later;
            offset += now.len() as u64;
        }
        Ok(())
    }

    /// Writes the bytes of several slices behind one another at a position, by one call of the system where they lie in
    /// one file. The slices are used up.
    ///
    /// # Errors
    /// As for [`FileSet::write_all_at`].
    pub fn write_all_vectored_at(&self, mut slices: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        let end = slices.iter().fold(offset, |end, slice| end + slice.len() as u64);
        let Some(piece) = self.piece_at(offset).filter(|piece| end <= piece.end()) else {
            for slice in &*slices {
                self.write_all_at(slice, offset)?;
                offset += slice.len() as u64;
            }
            return Ok(());
        };
        while offset < end {
            match rustix::io::pwritev(piece.file.file(), slices, offset - piece.start) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut slices, written);
                    offset += written as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Returns the position of the first hole from `offset` on: nothing was written there. A file system without holes
    /// has one at the end of the file.
    ///
    /// # Errors
    /// If the file cannot be asked.
    pub fn next_hole(&self, offset: u64) -> io::Result<u64> {
        let Some(piece) = self.piece_at(offset) else {
            return Ok(self.length);
        };
        let hole = rustix::fs::seek(piece.file.file(), rustix::fs::SeekFrom::Hole(offset - piece.start))?;
        let hole = piece.start + hole.min(piece.size);
        match hole == piece.end() && hole < self.length {
            true => self.next_hole(hole),
            false => Ok(hole),
        }
    }

    /// Forgets the copies of the files in memory, so that the next reads come from the device. Only bytes that are on the
    /// disk are forgotten.
    ///
    /// # Errors
    /// If a file cannot be asked.
    pub fn drop_cache(&self) -> io::Result<()> {
        for piece in &self.pieces {
            rustix::fs::fadvise(piece.file.file(), 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Sets the sizes of the files, so that together they have `length` bytes.
    ///
    /// # Errors
    /// If that is more than planned, or the disk has no room.
    pub fn set_len(&self, length: u64) -> io::Result<()> {
        if length > self.length {
            return Err(too_long());
        }
        for piece in &self.pieces {
            piece.file.set_len(length.saturating_sub(piece.start).min(piece.size))?;
        }
        Ok(())
    }

    /// Writes all files to the disk.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync_all(&self) -> io::Result<()> {
        self.pieces.iter().try_for_each(|piece| piece.file.sync_all())
    }

    /// Gives written files their names, durably. A complete set is never mixed with an earlier one of another size:
    /// [`FileSet::create`] has refused it.
    ///
    /// # Errors
    /// If the disk fails. Some of the files may have their names then.
    pub fn publish(&self) -> io::Result<()> {
        self.sync_all()?;
        for piece in &self.pieces {
            if let Some(target) = &piece.target {
                durable::publish(&partial_path(target), target)?;
            }
        }
        Ok(())
    }

    /// Deletes the files of a set that is not published.
    ///
    /// # Errors
    /// If one cannot be deleted.
    pub fn discard(self) -> io::Result<()> {
        for target in self.pieces.iter().filter_map(|piece| piece.target.as_ref()) {
            fs::remove_file(partial_path(target))?;
        }
        Ok(())
    }

    /// Returns a reader of the whole with a position of its own.
    #[must_use]
    pub fn reader(&self) -> FileSetReader<&FileSet> {
        FileSetReader { set: self, position: 0 }
    }

    /// Returns a reader that owns the files. Its end is an error if a description in the set states another SHA-256 than
    /// that of the bytes that were read.
    #[must_use]
    pub fn into_checked_reader(self) -> CheckedReader<FileSet> {
        CheckedReader::new(FileSetReader { set: self, position: 0 })
    }

    /// Returns the piece with this position; `None` from the end on.
    fn piece_at(&self, offset: u64) -> Option<&Piece> {
        // An empty piece has no position: its end is its start.
        let number = self.pieces.partition_point(|piece| piece.end() <= offset);
        self.pieces.get(number)
    }
}

impl ReadAt for FileSet {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileSet::read_at(self, buffer, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.len())
    }
}

/// Reader of a [`FileSet`] from its beginning to its end.
#[derive(Debug, Clone)]
pub struct FileSetReader<S> {
    set: S,
    position: u64,
}

impl<S: Borrow<FileSet>> Read for FileSetReader<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.set.borrow().read_at(buffer, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl<S: Borrow<FileSet>> Seek for FileSetReader<S> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.set.borrow().len().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Finds the set of a file, and its directory: of a link, the larger one of the sets beside the link and beside its
/// target. A set whose last pieces are missing looks complete.
fn find_set(path: &Utf8Path) -> io::Result<Option<(Utf8PathBuf, PieceSet)>> {
    let here = find_set_at(path);
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return here;
    }
    let target = path.canonicalize_utf8()?;
    let count = |found: &Option<(Utf8PathBuf, PieceSet)>| found.as_ref().map_or(0, |(_, set)| set.pieces.len());
    match (here, find_set_at(&target)) {
        (Ok(here), Ok(there)) if count(&there) > count(&here) => Ok(there),
        (Err(_), Ok(there @ Some(_))) => Ok(there),
        (here, _) => here,
    }
}

fn find_set_at(path: &Utf8Path) -> io::Result<Option<(Utf8PathBuf, PieceSet)>> {
    let Some(name) = path.file_name() else { return Ok(None) };
    let directory = directory_of(path);
    // A file may be readable in a directory that is not. Whatever else is wrong, opening the file tells.
    let Ok(listing) = list_names(directory) else {
        return Ok(None);
    };
    let set = find_pieces(name, listing.iter().map(String::as_str)).map_err(refuse)?;
    Ok(set.map(|set| (directory.to_owned(), set)))
}

fn list_names(directory: &Utf8Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        // No piece has a name that is not UTF-8.
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

fn load_description(directory: &Utf8Path, name: &str, pieces: usize, length: u64) -> io::Result<ZarfDescription> {
    let mut text = Vec::new();
    let file = fs::File::open(directory.join(name))?;
    file.take(ZarfDescription::SIZE_MAX).read_to_end(&mut text)?;
    let described = ZarfDescription::parse(name, &text).map_err(refuse)?;
    described.check(name, pieces as u64, length).map_err(refuse)?;
    Ok(described)
}

fn regular_size(file: &fs::File) -> io::Result<u64> {
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(metadata.len())
}

fn partial_path(target: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{target}{PARTIAL}"))
}

fn open_partial(target: &Utf8Path) -> io::Result<fs::File> {
    let path = partial_path(target);
    if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
        let why = format!("`{path}` is no file: it is the place of the unfinished `{target}`");
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)?;
    match file.file().try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let why = format!("`{path}` is being written by another process");
            Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Writes all bytes at a position, whatever the file's own position is.
pub(crate) fn write_all_at(file: &fs::File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn refuse(problem: PieceSetError) -> io::Error {
    let kind = match problem {
        PieceSetError::Missing { .. } => io::ErrorKind::NotFound,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, problem)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "the pieces have no room for so many bytes")
}

#[cfg(test)]
mod tests;
