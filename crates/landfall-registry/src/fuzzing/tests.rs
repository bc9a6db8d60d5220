//! Runs the targets without a fuzzer: on every seed, and on mutations of them.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{TestCaseError, TestRunner};

use super::*;

/// Mutations that are tried per target.
const CASES: u32 = 2000;

fn fuzz_directory() -> Utf8PathBuf {
    Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Loads the files of a directory, by name without extension.
fn files(directory: &Utf8Path) -> BTreeMap<String, Vec<u8>> {
    let read = |entry: std::io::Result<fs_err::DirEntry>| {
        let path = Utf8PathBuf::try_from(entry.unwrap().path()).unwrap();
        (path.file_stem().unwrap().to_owned(), fs_err::read(&path).unwrap())
    };
    fs_err::read_dir(directory).unwrap().map(read).collect()
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    files(&fuzz_directory().join("seeds").join(target))
        .into_values()
        .collect()
}

#[test]
fn each_target_has_a_program_that_calls_it() {
    let programs = TARGETS.iter().map(|(name, _)| {
        let text = format!(
            "#![no_main]\n\nlibfuzzer_sys::fuzz_target!(|data: &[u8]| landfall_registry::fuzzing::{name}(data));\n"
        );
        ((*name).to_owned(), text.into_bytes())
    });
    assert_eq!(files(&fuzz_directory().join("fuzz_targets")), programs.collect());
}

#[test]
fn the_seeds_of_archives_have_an_image_each() {
    for seed in seeds("archive") {
        assert_eq!(archives::open(&seed).map(|images| images.len()).ok(), Some(1));
    }
}

/// A change to an input.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
    Truncate(Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    // Words and bytes that have a meaning in these grammars.
    let word = prop::sample::select(vec![
        "%2f",
        "%+f",
        "%25",
        "..",
        "/",
        "//",
        "/blobs",
        "/uploads/",
        "_",
        "__",
        "-",
        ":",
        "@",
        "sha256:",
        "+1",
        "0",
        "18446744073709551615",
        ",",
        "\r\n",
        "\n",
        " ",
        "\0",
        "ä",
        "null",
        "{}",
        "[]",
        "\"",
        "\"digest\":\"sha256:0\"",
    ]);
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (any::<Index>(), word).prop_map(|(at, word)| Mutation::Insert(at, word.as_bytes().to_vec())),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (any::<Index>(), 1..16usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (any::<Index>(), 1..64usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
        any::<Index>().prop_map(Mutation::Truncate),
    ]
}

fn mutate(data: &mut Vec<u8>, mutation: &Mutation) {
    let place = |at: &Index| at.index(data.len() + 1);
    match mutation {
        Mutation::Replace(at, byte) => {
            let at = place(at);
            if let Some(found) = data.get_mut(at) {
                *found = *byte;
            }
        }
        Mutation::Insert(at, bytes) => {
            let at = place(at);
            data.splice(at..at, bytes.iter().copied());
        }
        Mutation::Remove(at, length) => {
            let at = place(at);
            data.drain(at..data.len().min(at + length));
        }
        Mutation::Repeat(at, length) => {
            let at = place(at);
            let again = data[at..data.len().min(at + length)].to_vec();
            data.splice(at..at, again);
        }
        Mutation::Truncate(at) => {
            let at = place(at);
            data.truncate(at);
        }
    }
}

#[test]
fn no_seed_and_no_mutation_of_one_breaks_a_law() {
    for (name, target) in TARGETS {
        let seeds = seeds(name);
        assert!(seeds.len() >= 3, "`{name}` has few seeds");
        for seed in &seeds {
            target(seed);
        }
        let input = (prop::sample::select(seeds), prop::collection::vec(mutation(), 1..8));
        let mut runner = TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(CASES)
        });
        let tried = runner.run(&input, |(mut data, mutations)| {
            for mutation in &mutations {
                mutate(&mut data, mutation);
            }
            let shown = String::from_utf8_lossy(&data).into_owned();
            std::panic::catch_unwind(|| target(&data))
                .map_err(|_panic| TestCaseError::fail(format!("`{name}` with {shown:?}")))
        });
        if let Err(error) = tried {
            panic!("{error}");
        }
    }
}
