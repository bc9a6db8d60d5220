#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::io::Read;
use std::process::Command;

use proptest::prelude::*;

use super::*;

/// Returns the entries, with the content of files.
fn read_all(tar: &[u8]) -> Result<Vec<(EntryKind, String, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(Skipping(tar));
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = vec![0; usize::try_from(entry.size).unwrap()];
        for segment in &entry.segments {
            let start = usize::try_from(segment.offset).unwrap();
            let mut part = &mut content[start..start + usize::try_from(segment.length).unwrap()];
            assert_eq!(reader.position, segment.position);
            while !part.is_empty() {
                let read = reader.read_data(part)?;
                part = &mut part[read..];
            }
        }
        found.push((entry.kind, String::from_utf8(entry.path).unwrap(), content));
    }
    Ok(found)
}

fn mk_header(kind: u8, name: &str, size: u64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn mk_entry(kind: u8, name: &str, content: &[u8]) -> Vec<u8> {
    let mut entry = mk_header(kind, name, content.len() as u64);
    entry.extend_from_slice(content);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

const END: [u8; 1024] = [0; 1024];

fn mk_pax(records: &[(&str, &str)]) -> Vec<u8> {
    let record = |(key, value): &(&str, &str)| {
        let rest = format!(" {key}={value}\n");
        let length = (1..).find(|length| *length == rest.len() + length.to_string().len());
        format!("{}{rest}", length.unwrap())
    };
    let text: String = records.iter().map(record).collect();
    mk_entry(b'x', "PaxHeaders/x", text.as_bytes())
}

#[test]
fn headers_of_every_form_give_the_same_entry() {
    let long = "a/".repeat(200) + "file";
    let sized = [mk_pax(&[("size", "3"), ("comment", "é")]), mk_header(b'0', "f", 0)].concat();
    let sized = [sized, b"abc".to_vec(), vec![0; 509]].concat();
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("plain", mk_entry(b'0', "f", b"abc"), "f"),
        ("old", mk_entry(0, "f", b"abc"), "f"),
        ("contiguous", mk_entry(b'7', "f", b"abc"), "f"),
        (
            "GNU long name",
            [
                mk_entry(b'L', "././@LongLink", (long.clone() + "\0").as_bytes()),
                mk_entry(b'0', "x", b"abc"),
            ]
            .concat(),
            &long,
        ),
        (
            "pax path",
            [mk_pax(&[("path", &long)]), mk_entry(b'0', "x", b"abc")].concat(),
            &long,
        ),
        (
            "the last pax path counts",
            [mk_pax(&[("path", "no"), ("path", "f")]), mk_entry(b'0', "x", b"abc")].concat(),
            "f",
        ),
        ("pax size", sized, "f"),
        (
            "a global header",
            [
                mk_entry(b'g', "pax_global_header", b"18 comment=abcdef\n"),
                mk_entry(b'0', "f", b"abc"),
            ]
            .concat(),
            "f",
        ),
        (
            "a link that states a size",
            [mk_header(b'1', "link", 4096), mk_entry(b'0', "f", b"abc")].concat(),
            "f",
        ),
    ];
    for (case, tar, path) in cases {
        let found = read_all(&[tar.as_slice(), &END].concat()).unwrap();
        let file = found.into_iter().find(|(kind, ..)| *kind == EntryKind::File);
        assert_eq!(
            file,
            Some((EntryKind::File, path.to_owned(), b"abc".to_vec())),
            "{case}"
        );
    }
}

#[test]
fn sparse_files_of_gnu_tar_are_read_in_every_form() {
    let directory = tempfile::tempdir().unwrap();
    let mut content = vec![0; 3 << 20];
    // More parts than fit into the header and the first block after it.
    for part in 0..60 {
        content[part * 40_960..part * 40_960 + 5000].fill(b'a' + u8::try_from(part % 26).unwrap());
    }
    let path = directory.path().join("file");
    {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(content.len() as u64).unwrap();
        for part in 0..60 {
            file.write_all_at(&content[part * 40_960..part * 40_960 + 5000], part as u64 * 40_960)
                .unwrap();
        }
    }
    let expected = [
        (EntryKind::File, "file".to_owned(), content),
        (EntryKind::File, "after".to_owned(), b"x".to_vec()),
    ];
    std::fs::write(directory.path().join("after"), "x").unwrap();
    for form in [
        &["--format=gnu"][..],
        &["--format=pax", "--sparse-version=0.0"],
        &["--format=pax", "--sparse-version=0.1"],
        &["--format=pax", "--sparse-version=1.0"],
    ] {
        let mut tar = Command::new("tar");
        tar.args(["-c", "--sparse", "--hole-detection=raw"]).args(form);
        let output = tar
            .arg("-C")
            .arg(directory.path())
            .args(["file", "after"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.len() < 1 << 20, "{form:?}: GNU tar leaves the holes out");
        assert!(read_all(&output.stdout).unwrap() == expected, "{form:?}");
        for cut in [600, 3000, output.stdout.len() - 20_000] {
            let error = read_all(&output.stdout[..cut]).unwrap_err();
            assert!(matches!(error, TarError::CutShort), "{form:?} {cut}: {error}");
        }
    }
}

#[test]
fn maps_of_sparse_files_that_lie_are_refused() {
    let old = |size: u64, parts: &[(u64, u64)], stored: &[u8]| {
        let mut header = Header::from_byte_slice(&mk_header(b'S', "f", stored.len() as u64)).clone();
        let gnu = header.as_gnu_mut().unwrap();
        gnu.set_real_size(size);
        for (slot, (offset, length)) in gnu.sparse.iter_mut().zip(parts) {
            slot.set_offset(*offset);
            slot.set_length(*length);
        }
        header.set_cksum();
        [header.as_bytes().as_slice(), stored, &vec![0; 512 - stored.len()], &END].concat()
    };
    assert_eq!(
        read_all(&old(9, &[(2, 3), (9, 0)], b"abc")).unwrap()[0].2,
        b"\0\0abc\0\0\0\0"
    );
    for (case, tar) in [
        ("beyond the end", old(4, &[(2, 3)], b"abc")),
        ("not ascending", old(9, &[(4, 2), (2, 1)], b"abc")),
        ("more than stored", old(9, &[(2, 4)], b"abc")),
        ("less than stored", old(9, &[(2, 2)], b"abc")),
        ("too large a number", old(u64::MAX, &[(u64::MAX, 3)], b"abc")),
        (
            "a stored map without numbers",
            [
                mk_pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.realsize", "9")]),
                mk_entry(b'0', "f", &[b'x'; 512]),
            ]
            .concat(),
        ),
        (
            "an odd map",
            [
                mk_pax(&[("GNU.sparse.map", "1,1,2"), ("GNU.sparse.size", "9")]),
                mk_entry(b'0', "f", b"x"),
            ]
            .concat(),
        ),
    ] {
        assert!(matches!(read_all(&tar), Err(TarError::SparseMap { .. })), "{case}");
    }
}

#[test]
fn an_input_that_is_no_tar_is_told_from_one_that_is_cut_short() {
    let whole = [mk_entry(b'0', "f", &[7; 2000]), mk_entry(b'0', "g", b"g"), END.to_vec()].concat();
    let text = "failed\u{1b}[31m".repeat(100);
    for (input, expected) in [
        (&b""[..], "it is empty"),
        (b"hello", "it is not a tar archive"),
        (text.as_bytes(), "it is not a tar archive"),
        (
            b"PK\x03\x04\x14\0\0\0",
            "it is compressed by zip, which is not supported",
        ),
        (
            b"7z\xbc\xaf\x27\x1c\0\x04",
            "it is compressed by 7-Zip, which is not supported",
        ),
        (&whole[..300], "it ends in the middle: it was cut short"),
        (&whole[..700], "it ends in the middle: it was cut short"),
        (&whole[..2600], "it ends in the middle: it was cut short"),
        (
            &[&whole[..2560], &[7; 512]].concat(),
            "the tar header at byte 2560 is damaged",
        ),
        (&mk_entry(b'L', "x", b"long"), "it ends in the middle: it was cut short"),
    ] {
        assert_eq!(read_all(input).unwrap_err().to_string(), expected);
    }
    // The end mark and the last padding may be missing.
    for end in [whole.len() - 512, whole.len() - 1024, whole.len() - 1024 - 400] {
        assert_eq!(read_all(&whole[..end]).unwrap().len(), 2, "{end}");
    }
}

/// An endless input behind a beginning. Counts the bytes that are read.
struct Endless<'a>(&'a [u8], u64);

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self.0.len() {
            0 => {
                buffer.fill(b'a');
                buffer.len()
            }
            _ => self.0.read(buffer)?,
        };
        self.1 += read as u64;
        Ok(read)
    }
}

#[test]
fn a_header_that_announces_gibibytes_is_refused_before_they_are_read() {
    const GIB: u64 = 1 << 30;
    let small = mk_entry(b'L', "././@LongLink", &[b'a'; 600 * 1024]);
    let old_sparse = {
        let mut header = Header::from_byte_slice(&mk_header(b'S', "f", 0)).clone();
        header.as_gnu_mut().unwrap().set_is_extended(true);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let pax_sparse = [
        mk_pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.realsize", "9"),
            ("size", "4294967296"),
        ]),
        mk_header(b'0', "f", 0),
        b"99999999\n".to_vec(),
        b"1\n".repeat(4_000_000),
    ]
    .concat();
    for (case, beginning, least) in [
        ("a GNU long name", mk_header(b'L', "././@LongLink", 2 * GIB), 2 * GIB),
        ("a GNU long link", mk_header(b'K', "././@LongLink", 9 * GIB), 9 * GIB),
        ("pax", mk_header(b'x', "PaxHeaders/x", 2 * GIB), 2 * GIB),
        ("pax of Solaris", mk_header(b'X', "PaxHeaders/x", 2 * GIB), 2 * GIB),
        (
            "several that are too large together",
            [small.clone(), small].concat(),
            EXTENSIONS_MAX,
        ),
        ("a sparse map in pax form", pax_sparse, EXTENSIONS_MAX),
    ] {
        let mut input = Endless(&beginning, 0);
        let mut reader = TarReader::new(Skipping(&mut input));
        let error = reader.next_entry().unwrap_err();
        assert!(
            matches!(error, TarError::Extensions { size, .. } if size >= least),
            "{case}: {error}"
        );
        assert!(input.1 <= 4 * EXTENSIONS_MAX, "{case}: {} bytes are read", input.1);
    }
    // The blocks of a sparse map in GNU tar's old form are endless here, and are no map.
    let mut input = Endless(&old_sparse, 0);
    let error = TarReader::new(Skipping(&mut input)).next_entry().unwrap_err();
    assert!(matches!(error, TarError::SparseMap { .. }), "{error}");
}

proptest! {
    #[test]
    fn no_input_panics_or_reads_beyond_its_headers(
        kinds in prop::collection::vec((any::<u8>(), 0..2000_u64, any::<[u8; 24]>()), 0..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let mut tar = Vec::new();
        for (kind, size, content) in kinds {
            let content = content.repeat(usize::try_from(size).unwrap() / 24);
            tar.extend(mk_entry(b"0LKxXgSD125"[usize::from(kind) % 11], "name", &content));
        }
        tar.extend(END);
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        let mut reader = TarReader::new(Skipping(tar.as_slice()));
        let mut entries = 0;
        while let Ok(Some(entry)) = reader.next_entry() {
            entries += 1;
            prop_assert!(entry.path.len() as u64 <= EXTENSIONS_MAX);
            prop_assert!(entries * 512 <= tar.len());
        }
    }

    #[test]
    fn what_the_tar_crate_writes_is_read_back(
        files in prop::collection::vec(("[a-z/é]{1,300}", prop::collection::vec(any::<u8>(), 0..1500)), 0..5),
    ) {
        let files: Vec<_> = files.into_iter().map(|(name, content)| (format!("x{name}x"), content)).collect();
        let mut builder = tar::Builder::new(Vec::new());
        for (name, content) in &files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let found = read_all(&tar).unwrap();
        prop_assert_eq!(found.len(), files.len());
        for ((kind, path, content), (name, expected)) in found.into_iter().zip(files) {
            prop_assert_eq!(kind, EntryKind::File);
            // The writer joins doubled slashes.
            let joined: Vec<_> = name.split('/').filter(|part| !part.is_empty()).collect();
            let read: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
            prop_assert_eq!(read, joined);
            prop_assert_eq!(content, expected);
        }
    }
}
