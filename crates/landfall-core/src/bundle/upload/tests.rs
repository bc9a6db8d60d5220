use proptest::prelude::*;

use super::*;

fn digest(seed: u64) -> Digest {
    format!("sha256:{seed:064x}").parse().unwrap()
}

fn header(size: u64, range_size: u64) -> UploadHeader {
    UploadHeader {
        version: UploadHeader::VERSION,
        name: "site.tar.zst".parse().unwrap(),
        size,
        range_size,
        bundle: None,
    }
}

fn request(name: &str, size: u64) -> UploadRequest {
    UploadRequest {
        name: name.parse().unwrap(),
        size,
        range_size: None,
        bundle: None,
        replace: false,
        dry_run: false,
    }
}

const ROOM: DiskRoom = DiskRoom {
    free: 1 << 40,
    kept: 1 << 20,
};

#[test]
fn names_with_directories_and_endings_of_the_host_are_refused() {
    let long = "x".repeat(201);
    for (name, is_good) in [
        ("site.tar.zst", true),
        ("site.tar.zst_part00", true),
        ("site.tar.sig.bin", true),
        ("Äpfel 1.tar", true),
        ("a..b.tar", true),
        ("", false),
        ("..", false),
        ("../site.tar.zst", false),
        ("a/../b", false),
        ("/etc/passwd", false),
        ("a\\b", false),
        (".hidden", false),
        ("a\0b", false),
        ("a\nb", false),
        (" a", false),
        ("site.tar.zst.receipt.json", false),
        ("site.tar.zst.partial", false),
        ("site.tar.zst.receipt.sig", false),
        (long.as_str(), false),
    ] {
        assert_eq!(name.parse::<UploadName>().is_ok(), is_good, "{name:?}");
    }
    let error = "../x".parse::<UploadName>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "`../x` is no name for an upload: it begins with a dot"
    );
}

#[test]
fn a_range_is_taken_once_and_other_bytes_in_its_place_are_refused() {
    let mut upload = Upload::begin(header(250, 100)).unwrap();
    assert_eq!(upload.span(2), Some(200..250));
    assert_eq!(upload.offer(2, Some(50), &digest(1)), Ok(RangeDecision::Take));
    let wrong = upload.offer(2, Some(100), &digest(1)).unwrap_err();
    assert_eq!(wrong.to_string(), "range 2 has 50 bytes, and 100 came");
    let none = upload.offer(3, None, &digest(1)).unwrap_err();
    assert_eq!(none.to_string(), "there is no range 3: the upload has 3");
    upload.apply(&JournalEntry::Range(2, digest(1)));
    assert_eq!(upload.offer(2, Some(50), &digest(1)), Ok(RangeDecision::Here));
    let other = upload.offer(2, Some(50), &digest(2));
    assert_eq!(other, Err(UploadRefusal::OtherContent { number: 2 }));
    assert_eq!((upload.missing(), upload.received_bytes()), (2, 50));
}

#[test]
fn an_upload_is_abandoned_by_hours_of_run_time_and_not_by_a_clock() {
    let mut upload = Upload::begin(header(250, 100)).unwrap();
    for _ in 0..IDLE_HOURS_MAX - 1 {
        upload.apply(&JournalEntry::Idle);
    }
    assert!(!upload.is_abandoned());
    upload.apply(&JournalEntry::Range(0, digest(1)));
    assert_eq!(upload.idle_hours(), 0);
    for _ in 0..IDLE_HOURS_MAX {
        upload.apply(&JournalEntry::Idle);
    }
    assert!(upload.is_abandoned());
}

#[test]
fn any_client_goes_on_with_a_file_and_another_file_does_not_mix_in() {
    let upload = Upload::begin(UploadHeader {
        bundle: Some(digest(1)),
        ..header(1000, 100)
    })
    .unwrap();
    let open = [KnownUpload {
        id: "one",
        upload: &upload,
        is_published: false,
    }];
    let published = [KnownUpload {
        is_published: true,
        ..open[0]
    }];
    let with_bundle = |name: &str, size, seed| UploadRequest {
        bundle: Some(digest(seed)),
        ..request(name, size)
    };
    let replacing = UploadRequest {
        replace: true,
        ..request("site.tar.zst", 999)
    };
    let resumes = "resumes one";
    let begins = "begins";
    let in_use = "another upload to `site.tar.zst` is under way: `one`, of 1000 bytes";
    let exists = "a file `site.tar.zst` is in the directory of bundles already";
    for (case, request, known, is_taken, expected) in [
        ("another client", request("site.tar.zst", 1000), &open, false, resumes),
        (
            "the same bundle",
            with_bundle("site.tar.zst", 1000, 1),
            &open,
            false,
            resumes,
        ),
        (
            "another name",
            with_bundle("copy.tar.zst", 1000, 1),
            &open,
            false,
            resumes,
        ),
        (
            "a piece",
            with_bundle("copy.tar.zst_part00", 1000, 1),
            &open,
            false,
            begins,
        ),
        (
            "another bundle",
            with_bundle("site.tar.zst", 1000, 2),
            &open,
            false,
            in_use,
        ),
        ("another size", request("site.tar.zst", 999), &open, false, in_use),
        ("replacing", replacing.clone(), &open, true, in_use),
        ("again", request("site.tar.zst", 1000), &published, true, resumes),
        ("a newer one", request("site.tar.zst", 999), &published, true, exists),
        ("a newer one, replacing", replacing, &published, true, begins),
        (
            "a file that came by stick",
            request("new.tar", 5),
            &open,
            true,
            "a file `new.tar` is in the directory of bundles already",
        ),
        ("another file", request("other.tar.zst", 5), &open, false, begins),
    ] {
        let decided = match decide_opening(&request, known, is_taken, ROOM) {
            Ok(Opening::Resume { id }) => format!("resumes {id}"),
            Ok(Opening::Begin(_)) => begins.to_owned(),
            Err(refusal) => refusal.to_string(),
        };
        assert_eq!(decided, expected, "{case}");
    }
}

#[test]
fn what_the_disk_cannot_hold_is_refused_with_figures() {
    let half = {
        let mut upload = Upload::begin(header(1000, 500)).unwrap();
        upload.apply(&JournalEntry::Range(0, digest(1)));
        upload
    };
    let known = [KnownUpload {
        id: "one",
        upload: &half,
        is_published: false,
    }];
    let room = |free| DiskRoom { free, kept: 100 };
    let ask = |free| decide_opening(&request("other.tar", 400), &known, false, room(free));
    assert!(matches!(ask(1000), Ok(Opening::Begin(_))));
    let refused = UploadRefusal::NoRoom(NoRoom {
        needed_bytes: 400,
        free_bytes: 999,
        reserved_bytes: 500,
        kept_bytes: 100,
    });
    assert_eq!(ask(999), Err(refused));
    assert!(matches!(
        decide_opening(&request("site.tar.zst", 1000), &known, false, room(0)),
        Ok(Opening::Resume { .. })
    ));
}

#[test]
fn the_number_of_uploads_and_of_ranges_is_bounded() {
    let upload = Upload::begin(header(1000, 100)).unwrap();
    let known: Vec<KnownUpload<'_>> = (0..UPLOADS_MAX)
        .map(|_| KnownUpload {
            id: "one",
            upload: &upload,
            is_published: false,
        })
        .collect();
    let ask = |request: &UploadRequest, known| {
        decide_opening(
            request,
            known,
            false,
            DiskRoom {
                free: u64::MAX,
                kept: 0,
            },
        )
    };
    assert_eq!(ask(&request("other.tar", 5), &known), Err(UploadRefusal::TooMany));
    for (size, range_size, expected) in [
        (1, None, Ok(RANGE_SIZE_DEFAULT)),
        (1 << 40, None, Ok(RANGE_SIZE_MAX)),
        (
            (1 << 40) + 1,
            None,
            Err(UploadRefusal::TooLarge { size: (1 << 40) + 1 }),
        ),
        (1 << 38, Some(RANGE_SIZE_MIN), Ok(RANGE_SIZE_MAX / 4)),
        (5, Some(1), Err(UploadRefusal::RangeSize { size: 1 })),
        (5, Some(u64::MAX), Err(UploadRefusal::RangeSize { size: u64::MAX })),
        (u64::MAX, None, Err(UploadRefusal::TooLarge { size: u64::MAX })),
        (0, None, Err(UploadRefusal::Empty)),
    ] {
        let asked = UploadRequest {
            range_size,
            ..request("other.tar", size)
        };
        let planned = ask(&asked, &[]).map(|opening| match opening {
            Opening::Begin(header) => {
                assert!(Upload::begin(header.clone()).is_some(), "{size}");
                header.range_size
            }
            Opening::Resume { id } => panic!("{id}"),
        });
        assert_eq!(planned, expected, "{size} in {range_size:?}");
    }
}

#[test]
fn journals_that_this_program_did_not_write_are_refused() {
    for (text, message) in [
        ("", "its first line is torn"),
        ("{\"version\":1", "its first line is torn"),
        ("{}\n", "its first line is no description of an upload"),
        (
            "{\"version\":2,\"name\":\"a\",\"size\":1,\"rangeSize\":1}\n",
            "it is of version 2, which this program does not know",
        ),
        (
            "{\"version\":1,\"name\":\"a\",\"size\":1,\"rangeSize\":0}\n",
            "it describes a file with no or too many ranges",
        ),
        (
            "{\"version\":1,\"name\":\"a\",\"size\":18446744073709551615,\"rangeSize\":1}\n",
            "it describes a file with no or too many ranges",
        ),
        (
            "{\"version\":1,\"name\":\"../a\",\"size\":1,\"rangeSize\":1}\n",
            "its first line is no description of an upload",
        ),
    ] {
        assert_eq!(
            parse_journal(text.as_bytes()).unwrap_err().to_string(),
            message,
            "{text}"
        );
    }
}

fn entries() -> impl Strategy<Value = Vec<JournalEntry>> {
    let entry = prop_oneof![
        8 => (0..40_u64, any::<u64>()).prop_map(|(number, seed)| JournalEntry::Range(number, digest(seed))),
        1 => Just(JournalEntry::Idle),
        1 => Just(JournalEntry::Replace),
    ];
    proptest::collection::vec(entry, 0..60)
}

proptest! {
    /// A power cut at any byte loses nothing that was acknowledged: of a range, its whole line is on the disk then.
    #[test]
    fn no_acknowledged_range_is_lost_or_asked_for_again(
        size in 1..4000_u64, range_size in 100..2000_u64, entries in entries(), cut in any::<proptest::sample::Index>(),
    ) {
        let header = header(size, range_size);
        let mut journal = render_header(&header);
        let begun = journal.len();
        let mut upload = Upload::begin(header).unwrap();
        // The state after each line, by the length of the journal then.
        let mut states = vec![(begun, upload.clone())];
        for entry in &entries {
            if let JournalEntry::Range(number, sha256) = entry
                && upload.offer(*number, None, sha256) != Ok(RangeDecision::Take)
            {
                continue;
            }
            journal.push_str(&render_entry(entry));
            upload.apply(entry);
            states.push((journal.len(), upload.clone()));
        }
        let cut = begun + cut.index(journal.len() - begun + 1);
        let (read, length) = parse_journal(&journal.as_bytes()[..cut]).unwrap();
        let (expected, state) = states.iter().rfind(|(length, _)| *length <= cut).unwrap();
        prop_assert_eq!((length, &read), (*expected, state));
        for (number, sha256) in read.ranges().iter().enumerate() {
            if let Some(sha256) = sha256 {
                prop_assert_eq!(read.offer(number as u64, None, sha256), Ok(RangeDecision::Here));
            }
        }
        // The next line goes where the journal was cut off.
        let mut resumed = journal.as_bytes()[..length].to_vec();
        resumed.extend(render_entry(&JournalEntry::Idle).bytes());
        let (again, whole) = parse_journal(&resumed).unwrap();
        prop_assert_eq!((again.ranges(), whole), (read.ranges(), resumed.len()));
    }

    /// Ranges tile the file, and those that are here and those that are missing are all of it.
    #[test]
    fn ranges_are_the_file_without_gap_and_overlap(size in 1..100_000_u64, range_size in 100..2000_u64, entries in entries()) {
        let mut upload = Upload::begin(header(size, range_size)).unwrap();
        for entry in &entries {
            upload.apply(entry);
        }
        let (mut end, mut missing) = (0, 0);
        for (number, sha256) in upload.ranges().iter().enumerate() {
            let span = upload.span(number as u64).unwrap();
            prop_assert_eq!(span.start, end);
            prop_assert!(span.end > span.start && span.end - span.start <= range_size);
            end = span.end;
            missing += if sha256.is_none() { span.end - span.start } else { 0 };
        }
        prop_assert_eq!((end, upload.span(upload.ranges().len() as u64)), (size, None));
        prop_assert_eq!(upload.received_bytes() + missing, size);
        prop_assert_eq!(upload.is_whole(), missing == 0);
    }

    #[test]
    fn no_bytes_make_the_reader_of_journals_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut journal = render_header(&header(1000, 100)).into_bytes();
        drop(parse_journal(&bytes));
        journal.extend(&bytes);
        let (_, length) = parse_journal(&journal).unwrap();
        prop_assert!(length <= journal.len());
    }
}
