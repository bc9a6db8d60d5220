//! Blobs: every way to push, read and delete one.

use landfall_tests_interop::wire::{Reply, Wire};

use crate::checks::Checks;
use crate::content::{Hash, noise};
use crate::{REPOSITORY, REPOSITORY_2};

const CHUNK: usize = 1024;

/// A way to push a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    PostOnly,
    PostPut,
    Stream,
    /// In chunks. Options: the `PUT` carries the last chunk; each chunk is first sent with a wrong range.
    Chunks {
        put_last: bool,
        out_of_order: bool,
    },
}

pub(crate) const WAYS: [Way; 7] = [
    Way::PostOnly,
    Way::PostPut,
    Way::Stream,
    chunks(false, false),
    chunks(true, false),
    chunks(false, true),
    chunks(true, true),
];

const fn chunks(put_last: bool, out_of_order: bool) -> Way {
    Way::Chunks { put_last, out_of_order }
}

fn with_digest(location: &str, digest: &str) -> String {
    let joint = if location.contains('?') { '&' } else { '?' };
    format!("{location}{joint}digest={digest}")
}

fn uploads(repository: &str) -> String {
    format!("/v2/{repository}/blobs/uploads/")
}

fn begin(wire: &Wire, checks: &mut Checks, repository: &str) -> String {
    let reply = wire.send("POST", &uploads(repository), &[("content-length", "0")], "");
    checks.status("POST begins an upload", &reply, 202);
    checks.that(
        "POST gives a location",
        !reply.header("location").is_empty(),
        &reply.headers,
    );
    reply.header("location").to_owned()
}

/// Pushes a blob and returns the last response.
pub(crate) fn push(wire: &Wire, checks: &mut Checks, repository: &str, way: Way, digest: &str, bytes: &[u8]) -> Reply {
    let octets = ("content-type", "application/octet-stream");
    match way {
        Way::PostOnly => wire.send(
            "POST",
            &with_digest(&uploads(repository), digest),
            &[octets],
            bytes.to_vec(),
        ),
        Way::PostPut => {
            let location = begin(wire, checks, repository);
            wire.send("PUT", &with_digest(&location, digest), &[octets], bytes.to_vec())
        }
        Way::Stream => {
            let location = begin(wire, checks, repository);
            let pieces: Vec<Result<Vec<u8>, std::io::Error>> =
                bytes.chunks(100).map(|piece| Ok(piece.to_vec())).collect();
            let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
            let reply = wire.send("PATCH", &location, &[octets], body);
            checks.status("PATCH takes a stream", &reply, 202);
            wire.send("PUT", &with_digest(reply.header("location"), digest), &[octets], "")
        }
        Way::Chunks { put_last, out_of_order } => {
            push_chunks(wire, checks, repository, (put_last, out_of_order), digest, bytes)
        }
    }
}

fn push_chunks(
    wire: &Wire,
    checks: &mut Checks,
    repository: &str,
    (put_last, out_of_order): (bool, bool),
    digest: &str,
    bytes: &[u8],
) -> Reply {
    let mut location = begin(wire, checks, repository);
    let chunk_at = |start: usize| (start, bytes.len().min(start + CHUNK));
    let send = |method: &str, location: &str, (start, end): (usize, usize)| {
        let last = end == bytes.len() && put_last;
        let (method, target) = match last {
            true => ("PUT", with_digest(location, digest)),
            false => (method, location.to_owned()),
        };
        let range = format!("{start}-{}", end - 1);
        wire.send(
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
            let reply = send("PATCH", &location, chunk_at(wrong));
            let what = format!("a chunk at {wrong} instead of {start}");
            let last = start.saturating_sub(1);
            checks.status(&what, &reply, 416);
            checks.header(&what, &reply, "range", &format!("0-{last}"));
            checks.header(&what, &reply, "location", &location);
            let status = wire.get(&location);
            checks.status("the status of an upload", &status, 204);
            checks.header("the status of an upload", &status, "range", &format!("0-{last}"));
            checks.header("the status of an upload", &status, "location", &location);
        }
        let (from, to) = chunk_at(start);
        let reply = send("PATCH", &location, (from, to));
        if to == bytes.len() && put_last {
            return reply;
        }
        checks.status("PATCH takes a chunk", &reply, 202);
        checks.header("PATCH takes a chunk", &reply, "range", &format!("0-{}", to - 1));
        location = reply.header("location").to_owned();
        start = to;
    }
    wire.send("PUT", &with_digest(&location, digest), &[], "")
}

/// Checks a blob that the registry holds.
pub(crate) fn check_present(wire: &Wire, checks: &mut Checks, repository: &str, digest: &str, bytes: &[u8]) {
    let path = format!("/v2/{repository}/blobs/{digest}");
    for method in ["HEAD", "GET"] {
        let what = format!("{method} of a blob");
        let reply = wire.send(method, &path, &[], "");
        checks.status(&what, &reply, 200);
        checks.header(&what, &reply, "content-length", &bytes.len().to_string());
        checks.header(&what, &reply, "docker-content-digest", digest);
        let expected = if method == "GET" { bytes } else { b"" };
        checks.that(format!("{what}: body"), reply.body == expected, reply.body.len());
    }
}

/// Deletes a blob, and checks that it is gone at once.
pub(crate) fn delete(wire: &Wire, checks: &mut Checks, repository: &str, digest: &str) {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let reply = wire.send("DELETE", &path, &[], "");
    checks.that("DELETE of a blob", [202, 404].contains(&reply.status), reply.status);
    checks.status("HEAD of a deleted blob", &wire.send("HEAD", &path, &[], ""), 404);
    checks.error("GET of a deleted blob", &wire.get(&path), 404, "BLOB_UNKNOWN");
}

/// Runs all checks of blobs with one hash algorithm.
pub(crate) fn check_all(wire: &Wire, checks: &mut Checks, hash: Hash) {
    let missing = hash.of(b"nobody pushed this");
    let path = format!("/v2/{REPOSITORY}/blobs/{missing}");
    checks.error(
        "GET of a blob that was not pushed",
        &wire.get(&path),
        404,
        "BLOB_UNKNOWN",
    );
    for (number, way) in (0..).zip(WAYS) {
        for length in [512, 3 * CHUNK - 5] {
            let bytes = noise(number, length);
            let digest = hash.of(&bytes);
            let reply = push(wire, checks, REPOSITORY, way, &digest, &bytes);
            let what = format!("push by {way:?} under {}", hash.name());
            checks.status(&what, &reply, 201);
            checks.header(&what, &reply, "docker-content-digest", &digest);
            let location = reply.header("location").to_owned();
            checks.that(&what, wire.get(&location).body == bytes, location);
            check_present(wire, checks, REPOSITORY, &digest, &bytes);
            delete(wire, checks, REPOSITORY, &digest);
        }
        let bytes = noise(number + 100, 3 * CHUNK - 5);
        let wrong = hash.of(b"other bytes");
        let reply = push(wire, checks, REPOSITORY, way, &wrong, &bytes);
        checks.error(format!("push by {way:?} of other bytes"), &reply, 400, "DIGEST_INVALID");
    }
    for bytes in [b"".as_slice(), b"{}"] {
        let digest = hash.of(bytes);
        for way in WAYS {
            let reply = push(wire, checks, REPOSITORY, way, &digest, bytes);
            checks.status(format!("push of {} bytes by {way:?}", bytes.len()), &reply, 201);
        }
        check_present(wire, checks, REPOSITORY, &digest, bytes);
        delete(wire, checks, REPOSITORY, &digest);
    }
    check_mounts(wire, checks, hash);
    check_ranges(wire, checks, hash);
    check_cancel(wire, checks, hash);
}

fn check_mounts(wire: &Wire, checks: &mut Checks, hash: Hash) {
    for (number, from) in [(200, format!("&from={REPOSITORY_2}")), (201, String::new())] {
        let bytes = noise(number, 512);
        let digest = hash.of(&bytes);
        let mount = format!("{}?mount={digest}{from}", uploads(REPOSITORY));
        let reply = wire.send("POST", &mount, &[], "");
        checks.status("mount of a missing blob", &reply, 202);
        let upload = reply.header("location").to_owned();
        let reply = push(wire, checks, REPOSITORY_2, Way::PostPut, &digest, &bytes);
        checks.status("push to the other repository", &reply, 201);
        let reply = wire.send("POST", &mount, &[], "");
        checks.status(format!("mount{from}"), &reply, 201);
        checks.header("mount", &reply, "docker-content-digest", &digest);
        checks.that("mount", wire.get(reply.header("location")).body == bytes, "other bytes");
        check_present(wire, checks, REPOSITORY, &digest, &bytes);
        delete(wire, checks, REPOSITORY, &digest);
        check_present(wire, checks, REPOSITORY_2, &digest, &bytes);
        delete(wire, checks, REPOSITORY_2, &digest);
        let reply = wire.send("PUT", &with_digest(&upload, &digest), &[], bytes);
        checks.status("the upload that a failed mount begins", &reply, 201);
        delete(wire, checks, REPOSITORY, &digest);
    }
}

fn check_ranges(wire: &Wire, checks: &mut Checks, hash: Hash) {
    let bytes = noise(300, 2048);
    let digest = hash.of(&bytes);
    let reply = push(wire, checks, REPOSITORY, Way::PostOnly, &digest, &bytes);
    checks.status("push", &reply, 201);
    let path = format!("/v2/{REPOSITORY}/blobs/{digest}");
    for (range, start, end) in [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=2000-5000", 2000, 2048),
    ] {
        let reply = wire.send("GET", &path, &[("range", range)], "");
        checks.status(range, &reply, 206);
        checks.header(range, &reply, "content-length", &(end - start).to_string());
        checks.header(
            range,
            &reply,
            "content-range",
            &format!("bytes {start}-{}/2048", end - 1),
        );
        checks.that(range, reply.body == bytes[start..end], reply.body.len());
    }
    for range in ["bytes=500-0", "bytes=5000-10000"] {
        let reply = wire.send("GET", &path, &[("range", range)], "");
        checks.status(range, &reply, 416);
        checks.header(range, &reply, "content-range", "bytes */2048");
    }
    let tag = format!("\"{digest}\"");
    for (name, value, status) in [
        ("if-none-match", tag.as_str(), 304),
        ("if-none-match", "\"other\"", 206),
        ("if-range", tag.as_str(), 206),
        ("if-range", "\"other\"", 200),
    ] {
        let reply = wire.send("GET", &path, &[(name, value), ("range", "bytes=0-1")], "");
        checks.status(format!("{name}: {value}"), &reply, status);
    }
    delete(wire, checks, REPOSITORY, &digest);
}

fn check_cancel(wire: &Wire, checks: &mut Checks, hash: Hash) {
    let location = begin(wire, checks, REPOSITORY);
    checks.status("PATCH", &wire.send("PATCH", &location, &[], "some"), 202);
    checks.status("DELETE of an upload", &wire.send("DELETE", &location, &[], ""), 204);
    let digest = hash.of(b"some");
    for reply in [
        wire.get(&location),
        wire.send("PATCH", &location, &[], "more"),
        wire.send("PUT", &with_digest(&location, &digest), &[], ""),
        wire.send("DELETE", &location, &[], ""),
    ] {
        checks.error("an upload that was cancelled", &reply, 404, "BLOB_UPLOAD_UNKNOWN");
    }
    let location = begin(wire, checks, REPOSITORY);
    checks.error(
        "a PUT without digest",
        &wire.send("PUT", &location, &[], "x"),
        400,
        "DIGEST_INVALID",
    );
    checks.error(
        "a PUT with half a digest",
        &wire.send("PUT", &with_digest(&location, "sha256:short"), &[], "x"),
        400,
        "DIGEST_INVALID",
    );
}
