//! SIGKILL of a registry under parallel pushes, repeatedly. All acknowledged content is there unchanged after
//! the next start, no listed content is truncated, and interrupted uploads leave nothing behind.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use camino::Utf8Path;
use landfall_testkit::image_builder::digest_of;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::poll::wait_for;
use landfall_tests_interop::raw_http::RawHttp;
use serde_json::json;

/// Number of kills.
const KILLS: u64 = 200;
/// Number of clients that push in parallel.
const CLIENTS: u64 = 4;
/// Upper limit of the random number of acknowledgements before a kill.
const PUSHED_MAX: u64 = 16;
/// Upper limit of the random delay between them and the kill, in microseconds.
const MORE_MAX: u64 = 4000;

const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Acknowledged content: paths below `/v2/`, each with the digest of the content there.
type Acknowledged = Mutex<BTreeMap<String, String>>;

/// Returns numbers that are the same in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Pushes one image, and records each acknowledgement. Returns early if the registry ends.
fn push_image(http: &RawHttp, repository: &str, number: u64, acknowledged: &Acknowledged) -> Option<()> {
    let note = |path: String, digest: &str| acknowledged.lock().unwrap().insert(path, digest.to_owned());
    let layer = format!("{repository} {number} ").repeat(1 + usize::try_from(number % 7).unwrap() * 900);
    let config =
        json!({"architecture": "amd64", "os": "linux", "number": number, "repository": repository}).to_string();
    let mut parts = Vec::new();
    for (media_type, bytes) in [(OCI_LAYER, layer), (OCI_CONFIG, config)] {
        let blob = digest_of(bytes.as_bytes()).to_string();
        parts.push(json!({"mediaType": media_type, "digest": blob, "size": bytes.len()}));
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let response = if number.is_multiple_of(2) {
            http.try_send("POST", &format!("{uploads}?digest={blob}"), &[], bytes)
                .ok()?
        } else {
            let begun = http.try_send("POST", &uploads, &[], "").ok()?;
            let location = begun.header("location").to_owned();
            let half = bytes.len() / 2;
            let first = bytes.as_bytes()[..half].to_vec();
            drop(http.try_send("PATCH", &location, &[], first).ok()?);
            let rest = bytes.as_bytes()[half..].to_vec();
            http.try_send("PUT", &format!("{location}?digest={blob}"), &[], rest)
                .ok()?
        };
        assert_eq!(response.status, 201, "{}", String::from_utf8_lossy(&response.body));
        note(format!("{repository}/blobs/{blob}"), &blob);
    }
    let manifest =
        json!({"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": parts[1], "layers": [parts[0]]}).to_string();
    let root = digest_of(manifest.as_bytes()).to_string();
    let target = format!("/v2/{repository}/manifests/v{number}");
    let response = http
        .try_send("PUT", &target, &[("content-type", OCI_IMAGE)], manifest)
        .ok()?;
    assert_eq!(response.status, 201, "{}", String::from_utf8_lossy(&response.body));
    note(format!("{repository}/manifests/v{number}"), &root);
    note(format!("{repository}/manifests/{root}"), &root);
    Some(())
}

#[test]
fn what_was_acknowledged_survives_two_hundred_kills() {
    // Memory survives a SIGKILL like a disk, and does not wait for other writers of the machine.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let root = Utf8Path::from_path(directory.path()).unwrap();
    let mut registry = LandfallRegistry::start_with(None, None, Some(root), &["--complete-images"]);
    let acknowledged = Acknowledged::default();
    let mut random = 0x1dea_5eed_u64;
    let mut numbers = 0;
    for kill in 0..KILLS {
        let over = AtomicBool::new(false);
        let wanted = acknowledged.lock().unwrap().len() + usize::try_from(next(&mut random) % PUSHED_MAX).unwrap();
        let more = Duration::from_micros(next(&mut random) % MORE_MAX);
        let (url, first) = (registry.url().to_owned(), numbers);
        numbers += 1000;
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (url, over, acknowledged) = (&url, &over, &acknowledged);
                scope.spawn(move || {
                    let http = RawHttp::new(url, None, None);
                    // Two clients share a repository.
                    let repository = format!("crash/{}", client / 2);
                    let mut number = first + client * 250;
                    while !over.load(Ordering::Relaxed)
                        && push_image(&http, &repository, number, acknowledged).is_some()
                    {
                        number += 1;
                    }
                });
            }
            wait_for("acknowledged pushes", || {
                (acknowledged.lock().unwrap().len() >= wanted).then_some(())
            });
            thread::sleep(more);
            registry.kill();
            over.store(true, Ordering::Relaxed);
        });
        registry.start_again();
        // Checking everything after each kill would take most of the time.
        if kill % 20 == 19 {
            check_all(&registry, &acknowledged.lock().unwrap());
        }
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(
        acknowledged.len() > 200,
        "only {} things were pushed",
        acknowledged.len()
    );
    check_all(&registry, &acknowledged);
    let verified = run_landfall(&["registry", "verify", "--root", root.as_str(), "-o", "json"]).succeeded();
    let verified: serde_json::Value = serde_json::from_str(&verified.stdout()).unwrap();
    assert_eq!((&verified["damaged"], &verified["missing"]), (&json!([]), &json!([])));
    let left: Vec<_> = fs_err::read_dir(root.join("ingest")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Checks that all acknowledged content is served and that all listed content can be read.
fn check_all(registry: &LandfallRegistry, acknowledged: &BTreeMap<String, String>) {
    let http = RawHttp::new(registry.url(), None, None);
    for (path, expected) in acknowledged {
        let response = http.get(&format!("/v2/{path}"));
        assert_eq!(
            response.status,
            200,
            "{path}: {}",
            String::from_utf8_lossy(&response.body)
        );
        assert_eq!(digest_of(&response.body).as_str(), *expected, "{path}");
    }
    for repository in ["crash/0", "crash/1"] {
        let tags = http.get(&format!("/v2/{repository}/tags/list"));
        for tag in tags.json()["tags"].as_array().into_iter().flatten() {
            let tag = tag.as_str().unwrap();
            assert_eq!(
                http.get(&format!("/v2/{repository}/manifests/{tag}")).status,
                200,
                "{tag}"
            );
        }
    }
}
