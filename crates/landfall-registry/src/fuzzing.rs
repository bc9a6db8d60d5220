//! Fuzz targets for the parsers of a registry's input. Each is a function that panics if a property does not hold.
//!
//! The programs in `fuzz/` call these under libFuzzer. The tests below call them with every `cargo test`, on the seeds
//! and on thousands of mutations, so that both stay usable.

mod laws;
mod names;
mod signed;

use landfall_core::oci_types::{ManifestContent, is_manifest_like_type, is_media_type, parse_manifest};
use landfall_core::reference::{Digest, ImageReference, Repository, Tag};
use landfall_net::serve::host::is_host;

use crate::api::reply::manifest_content_type;
use crate::fast_path::request::check_head;
use crate::fuzzing::laws::{check_path, check_range, check_record};
use crate::fuzzing::names::{check_digest, check_repository, check_tag};
use crate::fuzzing::signed::{check_cosign, check_signatures};

/// A target's name and function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Each has a `fuzz/fuzz_targets/<name>.rs` and a `fuzz/seeds/<name>/`.
pub const TARGETS: &[Target] = &[
    ("manifest", manifest),
    ("name", name),
    ("path", path),
    ("request", request),
    ("range", range),
    ("record", record),
    ("header", header),
    ("tar", tar),
    ("signatures", signatures),
    ("cosign", cosign),
];

/// Checks a pushed manifest or index: its rendered form parses as the same content.
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

/// Checks repositories, tags, digests and whole references: an accepted name follows the grammar and displays as
/// itself.
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

/// Checks the path of a request. A repository's name becomes a directory, so an accepted path must not lead elsewhere.
pub fn path(data: &[u8]) {
    if let Ok(path) = std::str::from_utf8(data) {
        check_path(path);
    }
}

/// Checks the first bytes of a connection.
pub fn request(data: &[u8]) {
    check_head(data);
}

/// Checks the size of a blob, a line break, and the `Range` of a download or the `Content-Range` of an upload.
pub fn range(data: &[u8]) {
    let Some((size, header)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else {
        return;
    };
    if let Ok(size) = size.parse() {
        check_range(size, header);
    }
}

/// Checks a `Host` and a media type: an accepted one is a header as it is, and names one host or one type.
pub fn header(data: &[u8]) {
    if is_host(data) {
        let value = http::HeaderValue::from_bytes(data).expect("a host is visible ASCII");
        let authority: http::uri::Authority = value.to_str().ok().and_then(|text| text.parse().ok()).expect("a host");
        assert!(!authority.host().is_empty() && !authority.as_str().contains('@'));
    }
    let text = String::from_utf8_lossy(data);
    if is_manifest_like_type(&text) {
        assert!(is_media_type(&text) && text.starts_with("application/") && text.is_ascii());
    }
    let served = manifest_content_type(&text);
    assert!(
        served
            .to_str()
            .is_ok_and(|served| served == text || served == "application/octet-stream")
    );
}

/// Checks a repository's record, as a crash or a failing disk may leave it.
pub fn record(data: &[u8]) {
    check_record(data);
}

/// Checks a tar: whatever its headers announce, entries and their names are bounded by the input.
pub fn tar(data: &[u8]) {
    let Ok(summary) = landfall_oci::tar_reader::summarize(data) else {
        return;
    };
    assert!(summary.entries * 512 <= data.len());
    assert!(summary.names <= data.len());
}

/// Checks the signatures of a bundle, a key document or a key.
pub fn signatures(data: &[u8]) {
    check_signatures(data);
}

/// Checks the documents of cosign's signatures of images.
pub fn cosign(data: &[u8]) {
    check_cosign(data);
}

#[cfg(test)]
mod tests;
