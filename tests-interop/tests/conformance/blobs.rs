//! Requests for blobs that the conformance suite does not make: conditional ranges, and the codes of refused uploads.

use landfall_tests_interop::raw_http::{RawHttp, RawResponse};

use crate::REPOSITORY;
use crate::checks::{Checks, sha256};

fn with_digest(location: &str, digest: &str) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    format!("{location}{joint}digest={digest}")
}

fn begin(http: &RawHttp, checks: &mut Checks) -> String {
    let target = format!("/v2/{REPOSITORY}/blobs/uploads/");
    let response = http.send("POST", &target, &[("content-length", "0")], "");
    checks.status("POST begins an upload", &response, 202);
    response.header("location").to_owned()
}

/// Pushes a blob in one request and returns the response.
fn push(http: &RawHttp, digest: &str, bytes: &[u8]) -> RawResponse {
    let target = with_digest(&format!("/v2/{REPOSITORY}/blobs/uploads/"), digest);
    let octets = ("content-type", "application/octet-stream");
    http.send("POST", &target, &[octets], bytes.to_vec())
}

/// Runs all checks of blobs.
pub(crate) fn check_all(http: &RawHttp, checks: &mut Checks) {
    let missing = sha256(b"nobody pushed this");
    let path = format!("/v2/{REPOSITORY}/blobs/{missing}");
    checks.error("GET of a missing blob", &http.get(&path), 404, "BLOB_UNKNOWN");
    check_digests(http, checks);
    check_conditions(http, checks);
    check_cancel(http, checks);
}

fn check_digests(http: &RawHttp, checks: &mut Checks) {
    let response = push(http, &sha256(b"other bytes"), b"some bytes");
    checks.error("POST of other bytes", &response, 400, "DIGEST_INVALID");
    for (what, digest) in [
        ("other bytes", Some(sha256(b"other bytes"))),
        ("half a digest", Some("sha256:short".to_owned())),
        ("no digest", None),
    ] {
        let location = begin(http, checks);
        let target = digest.map_or_else(|| location.clone(), |digest| with_digest(&location, &digest));
        let response = http.send("PUT", &target, &[], "some bytes");
        checks.error(format!("PUT with {what}"), &response, 400, "DIGEST_INVALID");
    }
}

fn check_conditions(http: &RawHttp, checks: &mut Checks) {
    let bytes: Vec<u8> = (0..2048_u32).map(|number| number.to_le_bytes()[0]).collect();
    let digest = sha256(&bytes);
    checks.status("push", &push(http, &digest, &bytes), 201);
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    for (range, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=2000-5000", 2000, 2048),
    ] {
        let response = http.send("GET", &path, &[("range", range)], "");
        checks.status(range, &response, 206);
        let length = (end - start).to_string();
        checks.header(range, &response, "content-length", &length);
        let content_range = format!("bytes {start}-{}/2048", end - 1);
        checks.header(range, &response, "content-range", &content_range);
        checks.that(range, response.body == bytes[start..end], response.body.len());
    }
    for range in ["bytes=500-0", "bytes=5000-10000"] {
        let response = http.send("GET", &path, &[("range", range)], "");
        checks.status(range, &response, 416);
        checks.header(range, &response, "content-range", "bytes */2048");
    }
    let tag = format!("\"{digest}\"");
    for (name, value, status) in [
        ("if-none-match", tag.as_str(), 304),
        ("if-none-match", "\"other\"", 206),
        ("if-range", tag.as_str(), 206),
        ("if-range", "\"other\"", 200),
    ] {
        let response = http.send("GET", &path, &[(name, value), ("range", "bytes=0-1")], "");
        checks.status(format!("{name}: {value}"), &response, status);
    }
    checks.status("DELETE", &http.send("DELETE", &path, &[], ""), 202);
    checks.error("GET of a deleted blob", &http.get(&path), 404, "BLOB_UNKNOWN");
}

fn check_cancel(http: &RawHttp, checks: &mut Checks) {
    let location = begin(http, checks);
    checks.status("PATCH", &http.send("PATCH", &location, &[], "some"), 202);
    checks.status("DELETE of an upload", &http.send("DELETE", &location, &[], ""), 204);
    let digest = sha256(b"some");
    for response in [
        http.get(&location),
        http.send("PATCH", &location, &[], "more"),
        http.send("PUT", &with_digest(&location, &digest), &[], ""),
        http.send("DELETE", &location, &[], ""),
    ] {
        checks.error("an upload that was cancelled", &response, 404, "BLOB_UPLOAD_UNKNOWN");
    }
}
