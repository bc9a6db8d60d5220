use std::sync::atomic::{AtomicU64, Ordering};

use landfall_oci::digest::digest_of;

use super::*;

const RANGE: u64 = 64 * 1024;

struct Place {
    _directory: tempfile::TempDir,
    bundles: Utf8PathBuf,
}

fn mk_place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let bundles = Utf8PathBuf::from_path_buf(directory.path().join("content")).unwrap();
    Place {
        _directory: directory,
        bundles,
    }
}

fn mk_content(size: usize) -> Vec<u8> {
    (0..size).map(|place| u8::try_from(place / 7 % 251).unwrap()).collect()
}

fn request(name: &str, size: usize) -> UploadRequest {
    UploadRequest {
        name: name.parse().unwrap(),
        size: size as u64,
        range_size: Some(RANGE),
        bundle: None,
        replace: false,
        dry_run: false,
    }
}

fn range_of(content: &[u8], number: u64) -> &[u8] {
    let start = usize::try_from(number * RANGE).unwrap();
    &content[start..content.len().min(start + usize::try_from(RANGE).unwrap())]
}

fn begin_range(uploads: &Uploads, id: &str, number: u64, bytes: &[u8]) -> Result<Offer, UploadError> {
    uploads.offer(id, number, Some(bytes.len() as u64), &digest_of(bytes))
}

/// Sends a range as a client does.
fn send(uploads: &Uploads, id: &str, number: u64, bytes: &[u8]) -> Result<UploadStatus, UploadError> {
    match begin_range(uploads, id, number, bytes)? {
        Offer::Here(status) => Ok(status),
        Offer::Take(mut receiving) => {
            for chunk in bytes.chunks(10_000) {
                receiving.write(chunk)?;
            }
            receiving.finish()
        }
    }
}

fn missing(status: &UploadStatus) -> Vec<u64> {
    let numbers = 0..status.ranges.len() as u64;
    let ranges = numbers.zip(&status.ranges);
    ranges
        .filter(|(_, range)| range.is_none())
        .map(|(number, _)| number)
        .collect()
}

#[test]
fn ranges_in_any_order_and_over_restarts_make_the_file() {
    let place = mk_place();
    let content = mk_content(5 * 65_536 + 100);
    let (uploads, _) = Uploads::open(&place.bundles);
    let begun = uploads.begin(&request("site.tar.zst", content.len())).unwrap();
    let id = begun.id.clone().unwrap();
    assert_eq!((begun.missing, begun.state), (6, UploadState::Receiving));
    let part = place.bundles.join(DIRECTORY).join(&id).with_extension(PART);
    assert_eq!(fs::metadata(&part).unwrap().len(), content.len() as u64);
    for number in [5, 0, 3] {
        send(&uploads, &id, number, range_of(&content, number)).unwrap();
    }
    // The process is killed in the middle of a range, and a line of the journal is torn.
    let Ok(Offer::Take(mut half)) = begin_range(&uploads, &id, 1, range_of(&content, 1)) else {
        panic!("the range is taken");
    };
    half.write(&[0xee; 1000]).unwrap();
    std::mem::forget(half);
    let journal = part.with_extension(JOURNAL);
    let mut torn = fs::read(&journal).unwrap();
    torn.extend_from_slice(b"range 2 sha256:12");
    fs::write(&journal, torn).unwrap();

    let (uploads, mut published) = Uploads::open(&place.bundles);
    // Another client asks.
    let resumed = uploads.begin(&request("site.tar.zst", content.len())).unwrap();
    assert_eq!(resumed.id.as_deref(), Some(id.as_str()));
    assert_eq!(missing(&resumed), [1, 2, 4]);
    let again = begin_range(&uploads, &id, 0, range_of(&content, 0)).unwrap();
    assert!(matches!(again, Offer::Here(_)), "nothing acknowledged is taken twice");
    for number in [1, 2] {
        send(&uploads, &id, number, range_of(&content, number)).unwrap();
    }
    assert!(published.try_recv().is_err());
    let done = send(&uploads, &id, 4, range_of(&content, 4)).unwrap();
    let target = place.bundles.join("site.tar.zst");
    assert_eq!(
        (done.state, done.path),
        (UploadState::Complete, Some(target.to_string()))
    );
    assert!(fs::read(&target).unwrap() == content);
    assert_eq!(published.try_recv().unwrap().name, "site.tar.zst");
    assert!(!part.exists());

    // A client that missed the last answer learns of it, also after a restart.
    let (uploads, mut published) = Uploads::open(&place.bundles);
    let known = uploads.begin(&request("site.tar.zst", content.len())).unwrap();
    assert_eq!((known.id, known.state), (Some(id.clone()), UploadState::Complete));
    assert!(published.try_recv().is_err(), "told once");
    // The record goes with the file.
    fs::remove_file(&target).unwrap();
    assert!(uploads.list().is_empty());
    assert!(!journal.exists());
}

#[test]
fn a_crash_before_the_rename_is_made_good_at_the_next_start() {
    let place = mk_place();
    let content = mk_content(1000);
    let (uploads, _) = Uploads::open(&place.bundles);
    let id = uploads.begin(&request("a.tar", content.len())).unwrap().id.unwrap();
    send(&uploads, &id, 0, &content).unwrap();
    let directory = place.bundles.join(DIRECTORY);
    fs::rename(place.bundles.join("a.tar"), directory.join(&id).with_extension(PART)).unwrap();
    // Of another upload, only the sparse file was made.
    fs::write(directory.join("00.part"), "x").unwrap();
    let (uploads, mut published) = Uploads::open(&place.bundles);
    assert!(fs::read(place.bundles.join("a.tar")).unwrap() == content);
    assert_eq!(published.try_recv().unwrap().state, UploadState::Complete);
    assert_eq!(uploads.list().len(), 1);
    assert!(!directory.join("00.part").exists());
}

#[test]
fn wrong_bytes_are_refused_and_harm_nothing() {
    let place = mk_place();
    let content = mk_content(2 * 65_536);
    let (uploads, _) = Uploads::open(&place.bundles);
    let id = uploads.begin(&request("a.tar", content.len())).unwrap().id.unwrap();
    let good = range_of(&content, 0);
    let mut bad = good.to_vec();
    bad[77] ^= 1;
    let cases: [(&str, &[u8], &str); 3] = [
        (
            "a flipped bit",
            &bad,
            "the bytes of range 0 do not have the SHA-256 that was sent with them",
        ),
        ("a short one", &good[..100], "range 0 has 65536 bytes, and 100 came"),
        (
            "a long one",
            &content[..70_000],
            "range 0 has 65536 bytes, and 70000 came",
        ),
    ];
    for (case, bytes, message) in cases {
        let Offer::Take(mut receiving) = uploads.offer(&id, 0, None, &digest_of(good)).unwrap() else {
            panic!("{case}: the range is missing");
        };
        let written = receiving.write(bytes).and_then(|()| receiving.finish());
        assert_eq!(written.unwrap_err().to_string(), message, "{case}");
        assert_eq!(missing(&uploads.get(&id).unwrap()), [0, 1], "{case}");
    }
    send(&uploads, &id, 0, good).unwrap();
    let other = send(&uploads, &id, 0, &bad).unwrap_err().to_string();
    assert_eq!(
        other,
        "range 0 is here with other bytes: this is not the file that the upload was begun with"
    );
    send(&uploads, &id, 1, range_of(&content, 1)).unwrap();
    assert!(fs::read(place.bundles.join("a.tar")).unwrap() == content);
}

#[tokio::test(start_paused = true)]
async fn a_range_belongs_to_one_client_until_that_one_falls_silent() {
    let place = mk_place();
    let content = mk_content(100);
    let (uploads, _) = Uploads::open(&place.bundles);
    let id = uploads.begin(&request("a.tar", content.len())).unwrap().id.unwrap();
    let Ok(Offer::Take(mut first)) = begin_range(&uploads, &id, 0, &content) else {
        panic!("the range is taken");
    };
    first.write(&content[..10]).unwrap();
    let refused = |uploads: &Uploads| begin_range(uploads, &id, 0, &content).unwrap_err().to_string();
    assert_eq!(refused(&uploads), "range 0 is being sent by somebody else");
    assert!(!first.gives_way().is_cancelled());
    tokio::time::advance(std::time::Duration::from_secs(6)).await;
    assert_eq!(refused(&uploads), "range 0 is being sent by somebody else");
    assert!(first.gives_way().is_cancelled());
    drop(first);
    send(&uploads, &id, 0, &content).unwrap();
}

#[test]
fn no_more_ranges_than_there_are_places_are_received_at_once() {
    let place = mk_place();
    let content = mk_content(10 * 65_536);
    let (uploads, _) = Uploads::open(&place.bundles);
    let id = uploads.begin(&request("a.tar", content.len())).unwrap().id.unwrap();
    let open: Vec<Offer> = (0..8)
        .map(|number| begin_range(&uploads, &id, number, range_of(&content, number)).unwrap())
        .collect();
    let refused = begin_range(&uploads, &id, 8, range_of(&content, 8)).unwrap_err();
    assert_eq!(refused.to_string(), "too many ranges are being sent at once");
    drop(open);
    send(&uploads, &id, 8, range_of(&content, 8)).unwrap();
}

#[test]
fn an_upload_that_is_ended_leaves_nothing_and_takes_nothing_more() {
    let place = mk_place();
    let content = mk_content(100);
    let (uploads, _) = Uploads::open(&place.bundles);
    let id = uploads.begin(&request("a.tar", content.len())).unwrap().id.unwrap();
    let Ok(Offer::Take(mut receiving)) = begin_range(&uploads, &id, 0, &content) else {
        panic!("the range is taken");
    };
    receiving.write(&content).unwrap();
    uploads.remove(&id).unwrap();
    assert!(receiving.gives_way().is_cancelled());
    let late = receiving.finish().unwrap_err().to_string();
    assert_eq!(late, format!("there is no upload `{id}`"));
    assert_eq!(place.bundles.join(DIRECTORY).read_dir().unwrap().count(), 0);
    assert!(uploads.get(&id).is_err() && uploads.remove(&id).is_err());
}

#[test]
fn an_abandoned_upload_frees_its_space_and_a_restart_does_not_make_it_young() {
    let place = mk_place();
    let request = request("a.tar", 100_000);
    let (uploads, _) = Uploads::open(&place.bundles);
    uploads.begin(&request).unwrap();
    for _ in 0..40 {
        assert!(uploads.pass_hour().is_empty());
    }
    let (uploads, _) = Uploads::open(&place.bundles);
    for _ in 0..31 {
        assert!(uploads.pass_hour().is_empty());
    }
    assert_eq!(uploads.pass_hour()[0].name, "a.tar");
    assert!(uploads.list().is_empty());
    assert_eq!(place.bundles.join(DIRECTORY).read_dir().unwrap().count(), 0);
}

#[test]
fn a_file_in_the_way_is_replaced_only_if_the_client_says_so() {
    let place = mk_place();
    fs::create_dir_all(&place.bundles).unwrap();
    let target = place.bundles.join("a.tar");
    let content = mk_content(100);
    let (uploads, _) = Uploads::open(&place.bundles);
    fs::write(&target, "older").unwrap();
    let exists = uploads.begin(&request("a.tar", content.len())).unwrap_err().to_string();
    assert_eq!(exists, "a file `a.tar` is in the directory of bundles already");
    fs::remove_file(&target).unwrap();
    let id = uploads.begin(&request("a.tar", content.len())).unwrap().id.unwrap();
    // It comes while the ranges do.
    fs::write(&target, "older").unwrap();
    let blocked = send(&uploads, &id, 0, &content).unwrap();
    assert_eq!(blocked.state, UploadState::Blocked);
    assert_eq!(fs::read(&target).unwrap(), b"older");
    let replacing = UploadRequest {
        replace: true,
        ..request("a.tar", content.len())
    };
    assert_eq!(uploads.begin(&replacing).unwrap().state, UploadState::Complete);
    assert!(fs::read(&target).unwrap() == content);
    // A newer one takes the place of a completed upload.
    let newer = UploadRequest { size: 50, ..replacing };
    let id = uploads.begin(&newer).unwrap().id.unwrap();
    send(&uploads, &id, 0, &content[..50]).unwrap();
    assert_eq!(fs::read(&target).unwrap(), &content[..50]);
    assert_eq!(uploads.list().len(), 1);
}

#[test]
fn a_dry_run_changes_nothing() {
    let place = mk_place();
    let (uploads, _) = Uploads::open(&place.bundles);
    let asked = UploadRequest {
        dry_run: true,
        ..request("a.tar", 100_000)
    };
    let planned = uploads.begin(&asked).unwrap();
    assert_eq!(
        (planned.id, planned.state, planned.missing),
        (None, UploadState::Planned, 2)
    );
    assert!(!place.bundles.exists());
    let huge = UploadRequest {
        size: 1 << 50,
        range_size: None,
        ..asked.clone()
    };
    let error = uploads.begin(&huge).unwrap_err().to_string();
    assert!(error.starts_with("the file has 1125899906842624 bytes"), "{error}");
    let large = UploadRequest {
        size: 1 << 40,
        range_size: None,
        ..asked
    };
    let error = uploads.begin(&large).unwrap_err().to_string();
    assert!(
        error.starts_with("the disk has no room: 1099511627776 bytes are needed, "),
        "{error}"
    );
}

/// Two clients send the same file at once, each in an order of its own: it arrives once.
#[test]
fn two_clients_share_one_upload() {
    let place = mk_place();
    let content = mk_content(30 * 65_536);
    let (uploads, _) = Uploads::open(&place.bundles);
    let sent = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for client in 0..2 {
            let (uploads, content, sent) = (&uploads, &content, &sent);
            scope.spawn(move || {
                let mut status = uploads.begin(&request("a.tar", content.len())).unwrap();
                let id = status.id.clone().unwrap();
                while status.state == UploadState::Receiving {
                    let mut wanted = missing(&status);
                    if client == 1 {
                        wanted.reverse();
                    }
                    for number in wanted {
                        match begin_range(uploads, &id, number, range_of(content, number)) {
                            Ok(Offer::Take(mut receiving)) => {
                                receiving.write(range_of(content, number)).unwrap();
                                receiving.finish().unwrap();
                                sent.fetch_add(1, Ordering::Relaxed);
                            }
                            Ok(Offer::Here(_)) | Err(UploadError::Refused(UploadRefusal::InFlight { .. })) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                    status = uploads.get(&id).unwrap();
                }
            });
        }
    });
    assert_eq!(sent.load(Ordering::Relaxed), 30);
    assert!(fs::read(place.bundles.join("a.tar")).unwrap() == content);
}

#[test]
fn the_token_is_made_once_for_root_alone_and_guesses_are_limited() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().unwrap();
    let state_dir = Utf8Path::from_path(directory.path()).unwrap();
    let token = UploadToken::new(state_dir);
    let mode = fs::metadata(token.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(token.path()).unwrap();
    let right = || secrecy::SecretString::from(text.trim());
    let client = |address: &str| address.parse::<std::net::IpAddr>().unwrap().into();
    let (courier, guesser) = (client("10.0.0.1"), client("10.0.0.2"));
    assert_eq!(
        UploadToken::new(state_dir).admits(courier, &right()),
        Ok(true),
        "not made anew"
    );
    assert_eq!(token.admits(courier, &right()), Ok(true));
    let guess = |client, number: u32| token.admits(client, &format!("guess {number}").into());
    assert_eq!((0..100).filter(|number| guess(guesser, *number).is_ok()).count(), 60);
    assert!(token.admits(guesser, &right()).is_err(), "not even the right one");
    // Guesses from the courier's own address do not lock it out.
    assert_eq!((0..100).filter(|number| guess(courier, *number).is_ok()).count(), 60);
    assert_eq!(token.admits(courier, &right()), Ok(true));
    fs::remove_file(token.path()).unwrap();
    assert_eq!(
        token.admits(courier, &right()),
        Ok(false),
        "who deletes the file, ends the token"
    );
    assert!(token.path().exists());
}
