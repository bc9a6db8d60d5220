//! Blobs: every method of a push, reads and deletions.

use landfall_tests_interop::raw_http::{RawHttp, RawResponse};

use crate::checks::Checks;
use crate::content::{Hash, noise};
use crate::{REPOSITORY, REPOSITORY_2};

const CHUNK: usize = 1024;

/// A method of pushing a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PushMethod {
    PostOnly,
    PostPut,
    Stream,
    /// In chunks. Options: the `PUT` carries the last chunk; each chunk is first sent with a wrong range.
    Chunks {
        put_last: bool,
        out_of_order: bool,
    },
}

pub(crate) const PUSH_METHODS: [PushMethod; 7] = [
    PushMethod::PostOnly,
    PushMethod::PostPut,
    PushMethod::Stream,
    chunks(false, false),
    chunks(true, false),
    chunks(false, true),
    chunks(true, true),
];

const fn chunks(put_last: bool, out_of_order: bool) -> PushMethod {
    PushMethod::Chunks { put_last, out_of_order }
}

fn with_digest(location: &str, digest: &str) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    format!("{location}{joint}digest={digest}")
}

fn uploads(repository: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/")
}

fn begin(http: &RawHttp, checks: &mut Checks, repository: &str) -> String {
    let response = http.send("POST", &uploads(repository), &[("content-length", "0")], "");
    checks.status("POST begins an upload", &response, 202);
    checks.that(
        "POST gives a location",
        !response.header("location").is_empty(),
        &response.headers,
    );
    response.header("location").to_owned()
}

/// Pushes a blob and returns the last response.
pub(crate) fn push(
    http: &RawHttp,
    checks: &mut Checks,
    repository: &str,
    method: PushMethod,
    digest: &str,
    bytes: &[u8],
) -> RawResponse {
    let octets = ("content-type", "application/octet-stream");
    match method {
        PushMethod::PostOnly => http.send(
            "POST",
            &with_digest(&uploads(repository), digest),
            &[octets],
            bytes.to_vec(),
        ),
        PushMethod::PostPut => {
            let location = begin(http, checks, repository);
            http.send("PUT", &with_digest(&location, digest), &[octets], bytes.to_vec())
        }
        PushMethod::Stream => {
            let location = begin(http, checks, repository);
            let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
                bytes.chunks(100).map(|piece| Ok(piece.to_vec())).collect();
            let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
            let response = http.send("PATCH", &location, &[octets], body);
            checks.status("PATCH takes a stream", &response, 202);
            http.send("PUT", &with_digest(response.header("location"), digest), &[octets], "")
        }
        PushMethod::Chunks { put_last, out_of_order } => {
            push_chunks(http, checks, repository, (put_last, out_of_order), digest, bytes)
        }
    }
}

fn push_chunks(
    http: &RawHttp,
    checks: &mut Checks,
    repository: &str,
    (put_last, out_of_order): (bool, bool),
    digest: &str,
    bytes: &[u8],
) -> RawResponse {
    let mut location = begin(http, checks, repository);
    let chunk_at = |start: usize| (start, bytes.len().min(start + CHUNK));
    let send = |method: &str, location: &str, (start, end): (usize, usize)| {
        let last = end == bytes.len() && put_last;
        let (method, target) = match last {
            true => ("PUT", with_digest(location, digest)),
            false => (method, location.to_owned()),
        };
        let range = format!("{start}-{}", end - 1);
        http.send(
            method,
            &target,
            &[("content-range", &range)],
            bytes[start..end].to_vec(),
        )
    };
    let mut start = 0;
    while start < bytes.len() {
        // A single chunk has no wrong range.
        if out_of_order && bytes.len() > CHUNK {
            let wrong = if start + CHUNK < bytes.len() { start + CHUNK } else { 0 };
            let response = send("PATCH", &location, chunk_at(wrong));
            let what = format!("a chunk at {wrong} instead of {start}");
            let last = start.saturating_sub(1);
            checks.status(&what, &response, 416);
            checks.header(&what, &response, "range", &format!("0-{last}"));
            checks.header(&what, &response, "location", &location);
            let status = http.get(&location);
            checks.status("the status of an upload", &status, 204);
            checks.header("the status of an upload", &status, "range", &format!("0-{last}"));
            checks.header("the status of an upload", &status, "location", &location);
        }
        let (from, to) = chunk_at(start);
        let response = send("PATCH", &location, (from, to));
        if to == bytes.len() && put_last {
            return response;
        }
        checks.status("PATCH takes a chunk", &response, 202);
        checks.header("PATCH takes a chunk", &response, "range", &format!("0-{}", to - 1));
        location = response.header("location").to_owned();
        start = to;
    }
    http.send("PUT", &with_digest(&location, digest), &[], "")
}

/// Checks a blob that the registry holds.
pub(crate) fn check_present(http: &RawHttp, checks: &mut Checks, repository: &str, digest: &str, bytes: &[u8]) {
    let path = format!("/v2/{repository}/blobs/{digest}");
    for method in ["HEAD", "GET"] {
        let what = format!("{method} of a blob");
        let response = http.send(method, &path, &[], "");
        checks.status(&what, &response, 200);
        checks.header(&what, &response, "content-length", &bytes.len().to_string());
        checks.header(&what, &response, "docker-content-digest", digest);
        let expected = if method == "GET" { bytes } else { b"" };
        checks.that(format!("{what}: body"), response.body == expected, response.body.len());
    }
}

/// Deletes a blob, and checks that it is gone at once.
pub(crate) fn delete(http: &RawHttp, checks: &mut Checks, repository: &str, digest: &str) {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let response = http.send("DELETE", &path, &[], "");
    checks.that(
        "DELETE of a blob",
        [202, 404].contains(&response.status),
        response.status,
    );
    checks.status("HEAD of a deleted blob", &http.send("HEAD", &path, &[], ""), 404);
    checks.error("GET of a deleted blob", &http.get(&path), 404, "BLOB_UNKNOWN");
}

/// Runs all checks of blobs with one hash algorithm.
pub(crate) fn check_all(http: &RawHttp, checks: &mut Checks, hash: Hash) {
    let missing = hash.of(b"nobody pushed this");
    let path = format!("/v2/{REPOSITORY}/blobs/{missing}");
    checks.error(
        "GET of a blob that was not pushed",
        &http.get(&path),
        404,
        "BLOB_UNKNOWN",
    );
    for (number, method) in (0..).zip(PUSH_METHODS) {
        for length in [512, 3 * CHUNK - 5] {
            let bytes = noise(number, length);
            let digest = hash.of(&bytes);
            let response = push(http, checks, REPOSITORY, method, &digest, &bytes);
            let what = format!("push by {method:?} under {}", hash.name());
            checks.status(&what, &response, 201);
            checks.header(&what, &response, "docker-content-digest", &digest);
            let location = response.header("location").to_owned();
            checks.that(&what, http.get(&location).body == bytes, location);
            check_present(http, checks, REPOSITORY, &digest, &bytes);
            delete(http, checks, REPOSITORY, &digest);
        }
        let bytes = noise(number + 100, 3 * CHUNK - 5);
        let wrong = hash.of(b"other bytes");
        let response = push(http, checks, REPOSITORY, method, &wrong, &bytes);
        checks.error(
            format!("push by {method:?} of other bytes"),
            &response,
            400,
            "DIGEST_INVALID",
        );
    }
    for bytes in [b"".as_slice(), b"{}"] {
        let digest = hash.of(bytes);
        for method in PUSH_METHODS {
            let response = push(http, checks, REPOSITORY, method, &digest, bytes);
            checks.status(format!("push of {} bytes by {method:?}", bytes.len()), &response, 201);
        }
        check_present(http, checks, REPOSITORY, &digest, bytes);
        delete(http, checks, REPOSITORY, &digest);
    }
    check_mounts(http, checks, hash);
    check_ranges(http, checks, hash);
    check_cancel(http, checks, hash);
}

fn check_mounts(http: &RawHttp, checks: &mut Checks, hash: Hash) {
    for (number, from) in [(200, format!("&from={REPOSITORY_2}")), (201, String::new())] {
        let bytes = noise(number, 512);
        let digest = hash.of(&bytes);
        let mount = format!("{}?mount={digest}{from}", uploads(REPOSITORY));
        let response = http.send("POST", &mount, &[], "");
        checks.status("mount of a missing blob", &response, 202);
        let upload = response.header("location").to_owned();
        let response = push(http, checks, REPOSITORY_2, PushMethod::PostPut, &digest, &bytes);
        checks.status("push to the other repository", &response, 201);
        let response = http.send("POST", &mount, &[], "");
        checks.status(format!("mount{from}"), &response, 201);
        checks.header("mount", &response, "docker-content-digest", &digest);
        checks.that(
            "mount",
            http.get(response.header("location")).body == bytes,
            "other bytes",
        );
        check_present(http, checks, REPOSITORY, &digest, &bytes);
        delete(http, checks, REPOSITORY, &digest);
        check_present(http, checks, REPOSITORY_2, &digest, &bytes);
        delete(http, checks, REPOSITORY_2, &digest);
        let response = http.send("PUT", &with_digest(&upload, &digest), &[], bytes);
        checks.status("the upload that a failed mount begins", &response, 201);
        delete(http, checks, REPOSITORY, &digest);
    }
}

fn check_ranges(http: &RawHttp, checks: &mut Checks, hash: Hash) {
    let bytes = noise(300, 2048);
    let digest = hash.of(&bytes);
    let response = push(http, checks, REPOSITORY, PushMethod::PostOnly, &digest, &bytes);
    checks.status("push", &response, 201);
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    for (range, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=2000-5000", 2000, 2048),
    ] {
        let response = http.send("GET", &path, &[("range", range)], "");
        checks.status(range, &response, 206);
        checks.header(range, &response, "content-length", &(end - start).to_string());
        checks.header(
            range,
            &response,
            "content-range",
            &format!("bytes {start}-{}/2048", end - 1),
        );
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
    delete(http, checks, REPOSITORY, &digest);
}

fn check_cancel(http: &RawHttp, checks: &mut Checks, hash: Hash) {
    let location = begin(http, checks, REPOSITORY);
    checks.status("PATCH", &http.send("PATCH", &location, &[], "some"), 202);
    checks.status("DELETE of an upload", &http.send("DELETE", &location, &[], ""), 204);
    let digest = hash.of(b"some");
    for response in [
        http.get(&location),
        http.send("PATCH", &location, &[], "more"),
        http.send("PUT", &with_digest(&location, &digest), &[], ""),
        http.send("DELETE", &location, &[], ""),
    ] {
        checks.error("an upload that was cancelled", &response, 404, "BLOB_UPLOAD_UNKNOWN");
    }
    let location = begin(http, checks, REPOSITORY);
    checks.error(
        "a PUT without digest",
        &http.send("PUT", &location, &[], "x"),
        400,
        "DIGEST_INVALID",
    );
    checks.error(
        "a PUT with half a digest",
        &http.send("PUT", &with_digest(&location, "sha256:short"), &[], "x"),
        400,
        "DIGEST_INVALID",
    );
}
