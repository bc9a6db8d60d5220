//! A full disk, on a small file system: the registry refuses uploads with an instruction, serves pulls, damages
//! nothing, and recovers by itself.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::image_builder::digest_of;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::raw_http::{RawHttp, RawResponse};
use landfall_tests_interop::small_disk::SmallDisk;
use serde_json::json;

const MIB: usize = 1024 * 1024;
const OCI_IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn layer(number: u8) -> Vec<u8> {
    vec![number; 4 * MIB]
}

fn push_blob(http: &RawHttp, bytes: &[u8], announced: bool) -> RawResponse {
    let target = format!("/v2/a/blobs/uploads/?digest={}", digest_of(bytes));
    if announced {
        return http.send("POST", &target, &[], bytes.to_vec());
    }
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = bytes.chunks(MIB).map(|piece| Ok(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    http.send("POST", &target, &[], body)
}

fn push_image(http: &RawHttp, number: u8) -> Option<RawResponse> {
    let bytes = layer(number);
    let response = push_blob(http, &bytes, true);
    if response.status != 201 {
        return Some(response);
    }
    let config = json!({"mediaType": OCI_LAYER, "digest": digest_of(&bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": config, "layers": []}).to_string();
    let target = format!("/v2/a/manifests/v{number}");
    let response = http.send("PUT", &target, &[("content-type", OCI_IMAGE)], manifest);
    (response.status != 201).then_some(response)
}

fn blobs_on_disk(root: &Utf8Path) -> usize {
    fs_err::read_dir(root.join("blobs/sha256")).unwrap().count()
}

#[test]
fn a_full_disk_refuses_uploads_serves_pulls_and_recovers_by_itself() {
    let disk = SmallDisk::mount("size=48m");
    let root: Utf8PathBuf = disk.path().join("data");
    let mut registry = LandfallRegistry::start_with(None, None, Some(&root), &["--gc-every", "1"]);
    let http = RawHttp::new(registry.url(), None, None);
    let (refused, number) = (0..)
        .find_map(|number| push_image(&http, number).map(|response| (response, number)))
        .unwrap();
    assert!((8..12).contains(&number), "{number} images of 4 MiB fit on 48 MiB");
    let check_refused = |response: &RawResponse| {
        let error = response.json()["errors"][0].clone();
        assert_eq!((response.status, error["code"].as_str()), (507, Some("UNKNOWN")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("`landfall registry gc`"), "{message}");
    };
    check_refused(&refused);
    let before = blobs_on_disk(&root);
    for attempt in 0..8 {
        // Without a length, the registry notices the full disk only while it receives the bytes.
        check_refused(&push_blob(&http, &[b'x'; 9 * MIB], attempt % 2 == 0));
    }
    assert_eq!(blobs_on_disk(&root), before);
    assert_eq!(
        fs_err::read_dir(root.join("ingest")).unwrap().count(),
        0,
        "nothing is left of them"
    );
    for pulled in 0..number {
        assert_eq!(http.get(&format!("/v2/a/manifests/v{pulled}")).status, 200);
        let path = format!("/v2/a/blobs/{}", digest_of(&layer(pulled)));
        assert_eq!(http.get(&path).body, layer(pulled));
    }

    // Another program fills the rest to the last byte.
    let hog = disk.path().join("hog");
    let filled = fs_err::write(&hog, vec![0; 48 * MIB]);
    assert!(filled.is_err(), "the disk is full");
    check_refused(&push_blob(&http, b"one more byte", true));
    assert_eq!(http.get("/v2/a/manifests/v0").status, 200);
    registry.start_again();
    let http = RawHttp::new(registry.url(), None, None);
    assert_eq!(http.get("/v2/a/manifests/v0").status, 200, "it starts on a full disk");

    // Space becomes free without any signal to the registry.
    fs_err::remove_file(&hog).unwrap();
    check_refused(&push_image(&http, number).unwrap());
    for deleted in 0..3 {
        let digest = http
            .get(&format!("/v2/a/manifests/v{deleted}"))
            .header("docker-content-digest")
            .to_owned();
        let response = http.send("DELETE", &format!("/v2/a/manifests/{digest}"), &[], "");
        assert_eq!(response.status, 202);
    }
    drop(run_landfall(&["registry", "gc", "--root", root.as_str(), "--grace", "0"]).succeeded());
    assert_eq!(blobs_on_disk(&root), before - 6, "three manifests and three layers");
    assert!(push_image(&http, number).is_none(), "there is room again");
    drop(run_landfall(&["registry", "verify", "--root", root.as_str()]).succeeded());
}

#[test]
fn a_registry_on_a_file_system_that_cannot_be_written_is_served_read_only() {
    let disk = SmallDisk::mount("size=48m");
    let root: Utf8PathBuf = disk.path().join("data");
    let registry = LandfallRegistry::start_with(None, None, Some(&root), &[]);
    let http = RawHttp::new(registry.url(), None, None);
    assert!(push_image(&http, 1).is_none());
    drop(registry);
    // The second time there is no lock to share.
    for lock in [true, false] {
        if !lock {
            fs_err::remove_file(root.join("lock")).unwrap();
        }
        disk.remount("ro");
        let registry = LandfallRegistry::start_with(None, None, Some(&root), &["--read-only", "--gc-every", "1"]);
        let http = RawHttp::new(registry.url(), None, None);
        assert_eq!(http.get("/v2/a/manifests/v1").status, 200);
        let path = format!("/v2/a/blobs/{}", digest_of(&layer(1)));
        assert_eq!(http.get(&path).body, layer(1));
        assert_eq!(push_blob(&http, b"refused", true).status, 403);
        drop(registry);
        disk.remount("rw");
        assert_eq!(root.join("lock").exists(), lock, "nothing is written");
    }
}
