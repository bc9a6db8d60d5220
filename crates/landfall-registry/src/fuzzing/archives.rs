//! Properties of archives and of the names of their pieces.

use std::collections::BTreeSet;
use std::io::Write as _;

use camino::Utf8Path;
use landfall_core::bundle::pieces::{PIECES_MAX, find_pieces, parse_piece_name};
use landfall_oci::archive::{ArchiveError, ArchiveImage, open_archive};

pub(super) fn check_pieces(name: &str, listing: &[&str]) {
    let Ok(Some(set)) = find_pieces(name, listing.iter().copied()) else {
        return;
    };
    let all: Vec<&str> = set.pieces.iter().chain(&set.description).map(String::as_str).collect();
    let distinct: BTreeSet<&str> = all.iter().copied().collect();
    assert_eq!(distinct.len(), all.len());
    assert!(set.pieces.len() as u64 <= PIECES_MAX + 1);
    for piece in &all {
        assert!(listing.contains(piece));
        assert_eq!(
            parse_piece_name(piece).map(|piece| piece.whole),
            Some(set.whole.as_str())
        );
    }
    match parse_piece_name(name) {
        Some(_) => assert!(distinct.contains(name)),
        None => assert_eq!(name, set.whole),
    }
}

/// Returns the images of an archive in memory.
pub(super) fn open(data: &[u8]) -> Result<Vec<ArchiveImage>, ArchiveError> {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = Utf8Path::from_path(directory.path()).expect("its name is UTF-8");
    let file = path.join("archive");
    let written = fs_err::File::create(&file).and_then(|mut file| file.write_all(data));
    written.expect("a temporary file can be written");
    open_archive(&file, path)
}

pub(super) fn check_archive(data: &[u8]) {
    for image in open(data).unwrap_or_default() {
        assert!(image.names.iter().all(|name| image.ref_names.contains(name)));
    }
}
