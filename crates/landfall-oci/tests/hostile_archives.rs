//! Archives whose headers announce gibibytes: reading them takes a bounded amount of memory. One test, in a program of
//! its own, because the peak of memory belongs to the whole process.

use std::io::{Seek, SeekFrom, Write};

use camino::Utf8Path;
use landfall_core::failure::error_chain;
use landfall_oci::archive::open_archive;
use landfall_testkit::memory::peak_memory;

#[test]
fn a_header_of_gibibytes_takes_no_memory() {
    const GIB: u64 = 1 << 30;
    let directory = tempfile::tempdir().unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap();
    for kind in [
        tar::EntryType::GNULongName,
        tar::EntryType::GNULongLink,
        tar::EntryType::XHeader,
    ] {
        let path = root.join("hostile.tar");
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(2 * GIB);
        header.set_cksum();
        let mut file = std::fs::File::create(&path).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        // A sparse file: it takes no disk.
        file.seek(SeekFrom::Start(512 + 2 * GIB)).unwrap();
        file.write_all(&[0; 1024]).unwrap();
        let before = peak_memory("self").unwrap();
        let error = open_archive(&path, root).unwrap_err();
        assert!(
            error_chain(&error).ends_with("has 2147483648 bytes of names and attributes; at most 1048576 are read"),
            "{kind:?}: {}",
            error_chain(&error)
        );
        let grown = peak_memory("self").unwrap() - before;
        assert!(grown < 32 << 20, "{kind:?}: {grown} bytes");
    }
}
