//! A process that writes into the store is killed by SIGKILL repeatedly. All reported content is there, and no
//! visible content is truncated or wrong.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "test set-up")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::oci_types::{Descriptor, media_type};
use landfall_core::reference::ImageReference;
use landfall_oci::digest::digest_of;
use landfall_oci::image::BlobState;
use landfall_oci::store::ContentStore;

const DIRECTORY: &str = "LANDFALL_TEST_STORE";
const FIRST: &str = "LANDFALL_TEST_FIRST";
const DONE: &str = "blob is done: ";

fn content(number: u64) -> Vec<u8> {
    let length = 1 + (number * 7919) % 60_000;
    (0..length)
        .map(|at| u8::try_from((at * 31 + number) % 251).unwrap())
        .collect()
}

fn describe(number: u64) -> Descriptor {
    let bytes = content(number);
    Descriptor::new(media_type::OCI_LAYER, digest_of(&bytes), bytes.len() as u64)
}

fn name(number: u64) -> ImageReference {
    format!("reg.example/image:{number}").parse().unwrap()
}

/// Writes into the store until it is killed.
fn write_until_killed(directory: &Utf8Path, first: u64) {
    let store = ContentStore::open(directory).unwrap();
    for number in first.. {
        let blob = describe(number);
        let mut writer = store.writer(&blob, 0).unwrap();
        for piece in content(number).chunks(1000) {
            writer.append(piece).unwrap();
        }
        writer.commit().unwrap();
        store.name_image(&name(number), &blob).unwrap();
        println!("{DONE}{number}");
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_was_done_and_shows_nothing_that_was_not() {
    if let (Ok(directory), Ok(first)) = (std::env::var(DIRECTORY), std::env::var(FIRST)) {
        write_until_killed(Utf8Path::new(&directory), first.parse().unwrap());
    }
    let temporary = tempfile::tempdir().unwrap();
    let directory = Utf8PathBuf::from_path_buf(temporary.path().to_owned()).unwrap();
    let mut done: Vec<u64> = Vec::new();
    for round in 0..8 {
        let first = done.last().map_or(0, |last| last + 1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("a_killed_writer_loses_nothing_that_was_done_and_shows_nothing_that_was_not")
            .env(DIRECTORY, &directory)
            .env(FIRST, first.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wanted = round + 1;
        while wanted > 0 {
            let line = lines.next().expect("the writer goes on until it is killed").unwrap();
            if let Some((_, number)) = line.split_once(DONE) {
                done.push(number.parse().unwrap());
                wanted -= 1;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // It may have finished more than it reported.
        done.extend(lines.filter_map(|line| line.unwrap().split_once(DONE)?.1.parse::<u64>().ok()));

        let store = ContentStore::open(&directory).unwrap();
        assert_eq!(store.repairs(), [] as [String; 0], "round {round}");
        for number in &done {
            assert_eq!(
                store.blob_state(&describe(*number)).unwrap(),
                BlobState::Complete,
                "{number}"
            );
            assert_eq!(store.image(&name(*number)), Some(describe(*number)));
        }
        for file in std::fs::read_dir(directory.join("blobs/sha256")).unwrap() {
            let file = file.unwrap();
            let digest = digest_of(&std::fs::read(file.path()).unwrap());
            assert_eq!(
                digest.hex(),
                file.file_name().to_str().unwrap(),
                "a visible blob is whole"
            );
        }
    }
}
