//! Properties of the parsers of paths, ranges and records.

use crate::api::range::{ByteRange, parse_content_range, parse_range};
use crate::fuzzing::names::{check_digest, check_repository};
use crate::repository::record::{parse_record, render_changes};
use landfall_core::registry_path::{ManifestSelector, Route};

/// Checks that a route written as a path parses as the same route, and that its repository is valid.
pub(crate) fn check_path(path: &str) {
    let Ok(route) = Route::parse(path) else {
        return;
    };
    let written = match &route {
        Route::Ping => "/v2/".to_owned(),
        Route::Catalog => "/v2/_catalog".to_owned(),
        Route::Tags { name } => format!("/v2/{name}/tags/list"),
        // The selector is looked up in a record and need not be a tag.
        Route::Manifest { name, selector } => format!("/v2/{name}/manifests/{}", selector.replace('%', "%25")),
        Route::Blob { name, digest } => format!("/v2/{name}/blobs/{digest}"),
        Route::Uploads { name } => format!("/v2/{name}/blobs/uploads/"),
        Route::Upload { name, id } => format!("/v2/{name}/blobs/uploads/{}", id.replace('%', "%25")),
        Route::Referrers { name, digest } => format!("/v2/{name}/referrers/{digest}"),
    };
    assert_eq!(
        Route::parse(&written).ok().as_ref(),
        Some(&route),
        "`{path}` as `{written}`"
    );
    match path.split_once('%') {
        // `/v2` and `…/uploads` are also valid without their last slash.
        None => assert_eq!(path.trim_end_matches('/'), written.trim_end_matches('/')),
        Some((_, escaped)) => {
            let digits = escaped.as_bytes().get(..2);
            let is_hex = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
            assert!(is_hex, "`{path}` has a `%` that means nothing");
        }
    }
    if let Route::Manifest { name, selector } = &route
        && let Ok(selector) = selector.parse::<ManifestSelector>()
    {
        // The path that the mirror asks for: a URL gives no part of it a meaning.
        let upstream = format!("/v2/{name}/manifests/{selector}");
        let uri: http::Uri = upstream.parse().expect("names, tags and digests are a path");
        assert!(
            uri.path() == upstream && uri.query().is_none(),
            "`{path}` leads to `{upstream}`"
        );
        let has_meaning = |part: &str| matches!(part, "" | "." | "..");
        assert!(!upstream[1..].split('/').any(has_meaning) && !upstream.contains(['%', '\\', '#']));
    }
    match &route {
        Route::Ping | Route::Catalog => {}
        Route::Tags { name } | Route::Manifest { name, .. } | Route::Uploads { name } | Route::Upload { name, .. } => {
            check_repository(name);
        }
        Route::Blob { name, digest } | Route::Referrers { name, digest } => {
            check_repository(name);
            check_digest(digest);
        }
    }
}

/// Checks that a range lies within the blob, that a chunk's end is a number, and that both equal their canonical
/// header.
pub(crate) fn check_range(size: u64, header: &str) {
    if let ByteRange::Part { offset, length } = parse_range(Some(header), size) {
        let end = offset.checked_add(length);
        assert!(length > 0 && end.is_some_and(|end| end <= size), "`{header}` of {size}");
        let last = offset + length - 1;
        let same = parse_range(Some(&format!("bytes={offset}-{last}")), size);
        assert_eq!(same, ByteRange::Part { offset, length }, "`{header}` of {size}");
    }
    if let Some((first, length)) = parse_content_range(header) {
        assert!(length > 0 && first.checked_add(length - 1).is_some(), "`{header}`");
        let last = first + (length - 1);
        assert_eq!(parse_content_range(&format!("{first}-{last}")), Some((first, length)));
    }
}

/// Checks that the accepted part of a record parses as itself, and so does its compacted form.
pub(crate) fn check_record(text: &[u8]) {
    let parsed = parse_record(text);
    let length = usize::try_from(parsed.length).expect("it is a part of what is in memory");
    assert!(length <= text.len());
    assert_eq!(parse_record(&text[..length]), parsed);
    let mut again = parse_record(&render_changes(&parsed.record.to_changes()));
    assert!(again.damaged.is_empty());
    again.record.changes = parsed.record.changes;
    assert_eq!(again.record, parsed.record);
}
