//! Headers of tar entries, as this program writes them: the same path and size give the same bytes. GNU's form, whose
//! sizes have no limit, and whose paths may be of any length; `tar`, Go and Rust read it.

use std::io;

use tar::{EntryType, Header};

/// Unit of tar, in bytes.
pub(crate) const BLOCK: u64 = 512;
/// Longest path that a header holds, in bytes. A longer one has an entry of its own before it.
const PATH_MAX: usize = 100;
/// Name of the entry with a long path.
const LONG_PATH: &str = "././@LongLink";

/// Returns the length of the headers of a file in bytes.
pub(crate) fn header_length(path: &str) -> u64 {
    match path.len() <= PATH_MAX {
        true => BLOCK,
        // A zero ends the path.
        false => 2 * BLOCK + (path.len() as u64 + 1).next_multiple_of(BLOCK),
    }
}

/// Returns the headers of a file.
///
/// # Errors
/// If the path cannot be in a tar.
pub(crate) fn render_header(path: &str, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut name = path;
    if path.len() > PATH_MAX {
        let length = path.len() as u64 + 1;
        bytes.extend(render_block(LONG_PATH, length, EntryType::GNULongName)?);
        bytes.extend(path.as_bytes());
        pad(&mut bytes);
        // Readers without GNU's extension see the beginning.
        name = path.get(..PATH_MAX).unwrap_or("long");
    }
    bytes.extend(render_block(name, size, EntryType::Regular)?);
    Ok(bytes)
}

/// Adds the zeros behind a content: at least one, so that a path of a whole block ends, too.
fn pad(bytes: &mut Vec<u8>) {
    let length = (bytes.len() as u64 + 1).next_multiple_of(BLOCK);
    bytes.resize(usize::try_from(length).unwrap_or(bytes.len()), 0);
}

fn render_block(path: &str, size: u64, kind: EntryType) -> io::Result<[u8; 512]> {
    let mut header = Header::new_gnu();
    header.set_path(path)?;
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    Ok(*header.as_bytes())
}

/// Returns the headers of a file whose content begins at a multiple of `border`, for an entry at `at`. A pax comment fills
/// the gap: readers skip it.
///
/// # Errors
/// If the path cannot be in a tar.
pub(crate) fn render_aligned_header(path: &str, size: u64, at: u64, border: u64) -> io::Result<Vec<u8>> {
    let header = render_header(path, size)?;
    let mut gap = (at + header.len() as u64).next_multiple_of(border) - at - header.len() as u64;
    if gap == 0 {
        return Ok(header);
    }
    // A comment takes a header and at least one block.
    if gap < 2 * BLOCK {
        gap += border;
    }
    let length = usize::try_from(gap - BLOCK).map_err(io::Error::other)?;
    let mut bytes = render_block("comment", length as u64, EntryType::XHeader)?.to_vec();
    // A record has its own length, a space, a key, `=`, the value and a line feed (pax, "pax Extended Header").
    let start = format!("{length} comment=");
    bytes.extend(start.as_bytes());
    bytes.resize(bytes.len() + length - start.len() - 1, b' ');
    bytes.push(b'\n');
    bytes.extend(header);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    fn paths(tar: &[u8]) -> Vec<(String, u64)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap();
        entries
            .map(|entry| {
                let mut entry = entry.unwrap();
                let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
                let size = entry.header().entry_size().unwrap();
                if size < 1000 {
                    let mut content = Vec::new();
                    entry.read_to_end(&mut content).unwrap();
                    assert_eq!(content, vec![b'c'; content.len()]);
                }
                (path, size)
            })
            .collect()
    }

    #[test]
    fn a_path_of_any_length_is_read_back() {
        for length in [1, 99, 100, 101, 141, 511, 512, 513] {
            let path = "p".repeat(length);
            let mut tar = render_header(&path, 512).unwrap();
            assert_eq!(tar.len() as u64, header_length(&path), "{length}");
            tar.extend([b'c'; 512]);
            tar.extend([0; 1024]);
            assert_eq!(paths(&tar), [(path, 512)], "{length}");
        }
    }

    #[test]
    fn a_size_above_8_gib_is_kept() {
        let bytes = render_header("blobs/sha256/ab", 9_000_000_000).unwrap();
        assert_eq!(Header::from_byte_slice(&bytes).entry_size().unwrap(), 9_000_000_000);
    }

    #[test]
    fn an_aligned_content_begins_at_a_border() {
        for at in (0..10 * 1024).step_by(512) {
            let header = render_aligned_header("blobs/sha256/ab", 512, at, 4096).unwrap();
            assert_eq!((at + header.len() as u64) % 4096, 0, "{at}");
            let mut tar = header;
            tar.extend([b'c'; 512]);
            tar.extend([0; 1024]);
            assert_eq!(paths(&tar), [("blobs/sha256/ab".to_owned(), 512)], "{at}");
        }
    }
}
