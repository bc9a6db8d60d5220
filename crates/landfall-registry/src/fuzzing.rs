//! What a fuzzer does to the parsers of a registry's input: one function for each, which panics when a law is broken.
//!
//! The programs in `fuzz/` call these under libFuzzer; the tests below call them on the seeds and on thousands of mutations
//! of them with every `cargo test`, so that neither can rot.

mod laws;
mod names;

use landfall_core::oci_types::{ManifestContent, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Repository, Tag};

use crate::fast_path::request::check_head;
use crate::fuzzing::laws::{check_path, check_range, check_record};
use crate::fuzzing::names::{check_digest, check_repository, check_tag};

/// A target's name, and what is done with each input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. `fuzz/fuzz_targets/<name>.rs` and `fuzz/seeds/<name>/` go with each.
pub const TARGETS: &[Target] = &[
    ("manifest", manifest),
    ("name", name),
    ("path", path),
    ("request", request),
    ("range", range),
    ("record", record),
];

/// A manifest or an index, as it is pushed: what was understood is understood again when it is written.
pub fn manifest(data: &[u8]) {
    let Ok(content) = parse_manifest(data) else {
        return;
    };
    let written = match &content {
        ManifestContent::Image(manifest) => serde_json::to_vec(manifest),
        ManifestContent::Index(index) => serde_json::to_vec(index),
    };
    let written = written.expect("strings and numbers are JSON");
    assert_eq!(parse_manifest(&written).ok().as_ref(), Some(&content));
    for child in content.children().chain(content.subject()) {
        check_digest(&child.digest);
    }
}

/// Repositories, tags, digests and whole references: what is accepted has the grammar's form and means itself.
pub fn name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(repository) = text.parse::<Repository>() {
        assert_eq!(repository.as_str(), text);
        check_repository(&repository);
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert_eq!(tag.as_str(), text);
        check_tag(&tag);
    }
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
        check_digest(&digest);
    }
    if let Ok(reference) = text.parse::<ImageReference>() {
        check_repository(&reference.repository);
        let canonical = reference.canonical();
        assert_eq!(canonical.to_string().parse::<ImageReference>().as_ref(), Ok(&canonical));
    }
}

/// The path of a request, which becomes a repository's directory: what is accepted leads nowhere else.
pub fn path(data: &[u8]) {
    if let Ok(path) = std::str::from_utf8(data) {
        check_path(path);
    }
}

/// The first bytes of a connection.
pub fn request(data: &[u8]) {
    check_head(data);
}

/// The size of a blob, a line break, and the `Range` of a download or the `Content-Range` of an upload.
pub fn range(data: &[u8]) {
    let Some((size, header)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    if let Ok(size) = size.parse() {
        check_range(size, header);
    }
}

/// A repository's record, as a crash or a failing disk left it.
pub fn record(data: &[u8]) {
    check_record(data);
}

#[cfg(test)]
mod tests;
