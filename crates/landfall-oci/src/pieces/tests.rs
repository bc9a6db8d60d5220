#![expect(clippy::disallowed_methods, reason = "test set-up")]

use landfall_core::bundle::pieces::plan_pieces;
use landfall_core::failure::find_hint;
use proptest::prelude::*;

use super::*;
use crate::hints::hint_of;

fn mk_directory() -> (tempfile::TempDir, Utf8PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = Utf8PathBuf::try_from(directory.path().to_owned()).unwrap();
    (directory, path)
}

fn read_all(set: &FileSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    set.reader().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn any_piece_opens_the_whole_file() {
    let (_kept, directory) = mk_directory();
    let zarf = r#"{"sha256Sum":"00ff","bytes":9,"count":3}"#;
    for (names, description) in [
        (["c.zst_part00", "c.zst_part01", "c.zst_part02"], None),
        (["h.tar.zst.001", "h.tar.zst.002", "h.tar.zst.003"], None),
        (
            ["z.tar.part001", "z.tar.part002", "z.tar.part003"],
            Some("z.tar.part000"),
        ),
    ] {
        for (name, content) in names.iter().zip(["abcd", "efgh", "i"]) {
            std::fs::write(directory.join(name), content).unwrap();
        }
        description.inspect(|name| std::fs::write(directory.join(name), zarf).unwrap());
        for name in names.iter().chain(&description) {
            let set = FileSet::open_read(&directory.join(name)).unwrap();
            assert_eq!(
                (set.len(), set.piece_count(), read_all(&set)),
                (9, 3, b"abcdefghi".to_vec()),
                "{name}"
            );
            assert_eq!(set.check_stated_sha256().is_err(), description.is_some());
        }
        let whole = names[0].trim_end_matches(|letter: char| letter.is_ascii_digit());
        let whole = whole
            .trim_end_matches("_part")
            .trim_end_matches(".part")
            .trim_end_matches('.');
        assert_eq!(
            read_all(&FileSet::open_read(&directory.join(whole)).unwrap()),
            b"abcdefghi",
            "{whole}"
        );
    }
}

#[test]
fn a_link_to_a_file_or_to_a_piece_is_followed() {
    let (_kept, directory) = mk_directory();
    let (_kept_too, elsewhere) = mk_directory();
    for (name, content) in [("X_part00", "ab"), ("X_part01", "c"), ("plain.tar", "abc")] {
        std::fs::write(directory.join(name), content).unwrap();
    }
    for (link, target) in [
        ("latest", "plain.tar"),
        ("bundle", "X_part01"),
        ("X_part00", "X_part00"),
    ] {
        let link = elsewhere.join(link);
        std::os::unix::fs::symlink(directory.join(target), &link).unwrap();
        assert_eq!(read_all(&FileSet::open_read(&link).unwrap()), b"abc", "{link}");
    }
    // Each piece may be a link of its own.
    std::os::unix::fs::symlink(directory.join("X_part01"), elsewhere.join("X_part01")).unwrap();
    assert_eq!(
        FileSet::open_read(&elsewhere.join("X_part01")).unwrap().piece_count(),
        2
    );
}

#[test]
fn sets_that_are_not_whole_are_refused_with_the_names() {
    let missing = "copy all pieces into one directory and name any one of them";
    let copy_again = "copy this set again from where it was made";
    for (files, opened, expected, hint) in [
        (
            &[("X_part00", "ab"), ("X_part02", "c")][..],
            "X_part02",
            "`X` is not complete: `X_part01` is missing",
            missing,
        ),
        (
            &[("X_part00", "abc"), ("X_part01", "d"), ("X_part02", "e")],
            "X_part00",
            "`X_part01` has 1 bytes where `X_part00` has 3: it was cut short, or belongs to another set",
            copy_again,
        ),
        (
            &[("z.part000", r#"{"bytes":5,"count":2}"#), ("z.part001", "abc")],
            "z.part001",
            "`z.part000` states 2 pieces, and 1 are there",
            missing,
        ),
        (
            &[("z.part000", r#"{"bytes":5,"count":1}"#), ("z.part001", "abc")],
            "z.part001",
            "`z.part000` states 5 bytes, and the pieces have 3",
            copy_again,
        ),
        (
            &[("z.part000", "abc"), ("z.part001", "abc")],
            "z.part001",
            "`z.part000` does not describe the pieces that follow it",
            copy_again,
        ),
    ] {
        let (_kept, directory) = mk_directory();
        for (name, content) in files {
            std::fs::write(directory.join(name), content).unwrap();
        }
        let error = FileSet::open_read(&directory.join(opened)).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!(find_hint(&error, hint_of).as_deref(), Some(hint), "{expected}");
    }
    let (_kept, directory) = mk_directory();
    assert_eq!(
        FileSet::open_read(&directory).unwrap_err().kind(),
        io::ErrorKind::IsADirectory
    );
    let absent = FileSet::open_read(&directory.join("none")).unwrap_err();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
}

fn plan(name: &str, total: u64, size: u64) -> Vec<PlannedPiece> {
    plan_pieces(name, total, size.to_string().parse().unwrap()).unwrap()
}

#[test]
fn written_pieces_have_their_names_only_when_they_are_complete() {
    let (_kept, directory) = mk_directory();
    let planned = plan("b.tar.zst", 10, 4);
    let set = FileSet::create(&directory, &planned).unwrap();
    set.set_len(10).unwrap();
    set.write_all_at(b"efghij", 4).unwrap();
    set.write_all_at(b"abcdef", 0).unwrap();
    assert!(FileSet::open_read(&directory.join("b.tar.zst_part00")).is_err());
    assert_eq!(
        set.write_all_at(b"kl", 9).unwrap_err().kind(),
        io::ErrorKind::FileTooLarge
    );
    assert_eq!(set.set_len(11).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    let busy = FileSet::create(&directory, &planned).unwrap_err();
    assert_eq!(busy.kind(), io::ErrorKind::ResourceBusy);

    // The second byte beyond the end was refused, after the first one was written.
    set.write_all_at(b"j", 9).unwrap();
    set.publish().unwrap();
    let mut names = list_names(&directory).unwrap();
    names.sort();
    assert_eq!(names, ["b.tar.zst_part00", "b.tar.zst_part01", "b.tar.zst_part02"]);
    let read = FileSet::open_read(&directory.join("b.tar.zst")).unwrap();
    assert_eq!(read_all(&read), b"abcdefghij");

    // The same pieces are replaced; a third piece of the old set would be taken for one of a set of two.
    drop(FileSet::create(&directory, &planned).unwrap().discard());
    let error = FileSet::create(&directory, &plan("b.tar.zst", 8, 4)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert!(
        error
            .to_string()
            .ends_with("with this name: `b.tar.zst_part02`; delete them first"),
        "{error}"
    );
    assert!(!directory.join("b.tar.zst_part00.partial").exists());
}

#[test]
fn an_interrupted_write_goes_on_with_what_is_there() {
    let (_kept, directory) = mk_directory();
    let planned = plan("f", 6, 4);
    let first = FileSet::create(&directory, &planned).unwrap();
    first.write_all_at(b"abcdef", 0).unwrap();
    drop(first);
    let second = FileSet::create(&directory, &planned).unwrap();
    assert_eq!(read_all(&second), b"abcdef");
    std::os::unix::fs::symlink("/dev/null", directory.join("g.partial")).unwrap();
    assert!(
        FileSet::create(&directory, &plan("g", 1, 4)).is_err(),
        "a link in the place of a partial file"
    );
}

proptest! {
    #[test]
    fn reads_at_any_position_are_those_of_one_file(
        content in proptest::collection::vec(any::<u8>(), 1..60),
        size in 1_u64..20,
        offset in 0_u64..70,
        length in 0_usize..70,
    ) {
        let (_kept, directory) = mk_directory();
        let set = FileSet::create(&directory, &plan("f", content.len() as u64, size)).unwrap();
        set.write_all_at(&content, 0).unwrap();
        let start = usize::try_from(offset).unwrap().min(content.len());
        let expected = &content[start..(start + length).min(content.len())];
        let mut read = vec![0; expected.len()];
        set.read_exact_at(&mut read, offset).unwrap();
        prop_assert_eq!(&read, expected);
        let mut view = set.reader();
        view.seek(SeekFrom::Start(offset)).unwrap();
        let mut rest = Vec::new();
        view.read_to_end(&mut rest).unwrap();
        prop_assert_eq!(&rest, &content[start..]);
    }
}

#[test]
fn a_stated_sha256_is_compared_at_the_end_of_the_whole_file() {
    let sha256 = crate::digest::digest_of(b"abcdefgh").hex().to_owned();
    for (stated, fits) in [
        (sha256.clone(), true),
        (sha256.to_uppercase(), true),
        (String::new(), true),
        (sha256.replace('a', "b"), false),
        ("no digits".to_owned(), false),
    ] {
        let (_kept, directory) = mk_directory();
        let description = format!(r#"{{"sha256Sum":"{stated}","bytes":8,"count":2}}"#);
        for (name, content) in [
            ("p.part000", description.as_str()),
            ("p.part001", "abcd"),
            ("p.part002", "efgh"),
        ] {
            std::fs::write(directory.join(name), content).unwrap();
        }
        let set = FileSet::open_read(&directory.join("p.part001")).unwrap();
        let checked = set.check_stated_sha256();
        let mut bytes = Vec::new();
        let read = set.into_checked_reader().read_to_end(&mut bytes);
        assert_eq!(bytes, b"abcdefgh");
        for result in [checked, read.map(drop)] {
            let message = result.map_err(|error| error.to_string());
            assert_eq!(message.is_ok(), fits, "{stated}: {message:?}");
            if let Err(message) = message {
                assert!(message.starts_with("`p.part000` states the SHA-256"), "{message}");
            }
        }
    }
}
