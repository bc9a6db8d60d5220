//! Uploads and receipts by the lines of the guide: curl sends a bundle over TLS, openssl verifies the receipt, and
//! `landfall bundle upload` does the same as curl.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::process::Command;

use camino::Utf8Path;
use landfall_core::bundle::adoption::BundlePhase;
use landfall_tests_interop::agent::binary;
use landfall_tests_interop::bundle::BundleDesk;
use landfall_tests_interop::program::{Finished, run};
use landfall_tests_interop::upload_host::UploadHost;

const HEADING: &str = "### Over the network";
/// Address of the host in the guide.
const ADDRESS: &str = "https://till-7:5080";

/// Returns the blocks of shell lines of the section.
fn blocks_of_the_guide() -> Vec<String> {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide.md");
    let guide = fs_err::read_to_string(path).unwrap();
    let (_, section) = guide.split_once(HEADING).expect("the guide has the section");
    let section = section.split("\n### ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .map(|block| block.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

/// Runs lines of the guide in the directory of the desk, for this host.
fn run_lines(desk: &BundleDesk, host: &UploadHost, lines: &str) -> Finished {
    let mut command = Command::new("bash");
    let path = std::env::var("PATH").unwrap_or_default();
    let own = binary().parent().unwrap();
    command
        .args([
            "-euc",
            &format!("set -o pipefail\n{}", lines.replace(ADDRESS, &host.secure_url())),
        ])
        .env("PATH", format!("{own}:{path}"))
        .current_dir(desk.directory());
    run(command)
}

/// Returns lines of the guide, in which the status is that of this host. Its agent may still be at work, which is an
/// exit status of 1.
fn on_host(host: &UploadHost, lines: &str) -> String {
    let here = format!("landfall status --state-dir {}", host.state_dir());
    let lines = lines.lines().map(|line| match line.strip_prefix("landfall status") {
        Some(rest) if rest.starts_with(" |") => format!("({here} || true){rest}\n"),
        Some(rest) => format!("landfall status{} || true\n", rest.split("  ").next().unwrap_or(rest)),
        None => format!("{line}\n"),
    });
    lines.collect()
}

fn mk_host(desk: &BundleDesk) -> UploadHost {
    let mut host = UploadHost::new();
    host.start();
    fs_err::copy(host.token_file(), desk.path("upload-token")).unwrap();
    fs_err::copy(host.authority_file(), desk.path("till-7.crt")).unwrap();
    host
}

#[test]
fn the_lines_of_the_guide_upload_a_bundle_and_verify_its_receipt() {
    let blocks = blocks_of_the_guide();
    let find = |part: &str| {
        let block = blocks.iter().find(|block| block.contains(part));
        block.unwrap_or_else(|| panic!("no block with `{part}`")).as_str()
    };
    let desk = BundleDesk::new();
    let original = desk.bundle("site.tar.zst", &[]);
    let bytes = fs_err::read(&original).unwrap();

    let by_curl = mk_host(&desk);
    drop(run_lines(&desk, &by_curl, find("curl -sS --fail-with-body")).succeeded());
    assert!(fs_err::read(by_curl.content().join("site.tar.zst")).unwrap() == bytes);
    let bundle = by_curl.wait_for_bundle("the receipt", |bundle| bundle.phase == BundlePhase::Receipt);
    assert_eq!(bundle.adopted, bundle.images);
    let verified = run_lines(&desk, &by_curl, find("openssl pkeyutl")).succeeded();
    assert!(
        verified.stdout().contains("Signature Verified Successfully"),
        "{verified}"
    );
    assert!(verified.stdout().contains(", verified"), "{verified}");
    // The desk leaves out what the site has, and takes no changed receipt.
    let delta = run(desk.create(
        &desk.path("june.tar.zst"),
        &[
            "--for",
            desk.path("receipt.json").as_str(),
            "--public-key",
            desk.path("host-key.pub").as_str(),
        ],
    ));
    let june = fs_err::metadata(desk.path("june.tar.zst")).unwrap_or_else(|_| panic!("{delta}"));
    assert!(june.len() < bytes.len() as u64 / 10, "{} bytes", june.len());
    let receipt = fs_err::read_to_string(desk.path("receipt.json")).unwrap();
    fs_err::write(desk.path("receipt.json"), receipt.replacen("sha256:", "sha256:0", 1)).unwrap();
    let openssl = find("openssl pkeyutl")
        .lines()
        .find(|line| line.contains("openssl pkeyutl"))
        .unwrap();
    let changed = run_lines(&desk, &by_curl, openssl);
    assert_ne!(changed.code(), Some(0), "{changed}");
    let again = run_lines(&desk, &by_curl, &on_host(&by_curl, find("landfall bundle upload"))).succeeded();
    assert!(again.stdout().contains("complete"), "{again}");

    let by_landfall = mk_host(&desk);
    let uploaded = run_lines(
        &desk,
        &by_landfall,
        &on_host(&by_landfall, find("landfall bundle upload")),
    )
    .succeeded();
    assert!(uploaded.stdout().contains("\nStatus API    https://"), "{uploaded}");
    assert!(fs_err::read(by_landfall.content().join("site.tar.zst")).unwrap() == bytes);
}

#[test]
fn two_clients_at_once_upload_one_file() {
    let desk = BundleDesk::new();
    let original = desk.bundle("site.tar.zst", &[]);
    let host = mk_host(&desk);
    let line = format!(
        "landfall bundle upload site.tar.zst --to {ADDRESS} --ca till-7.crt --token-file upload-token --range-size 65536 -o json"
    );
    let both = run_lines(&desk, &host, &format!("{line} >one.json & {line} >two.json; wait $!")).succeeded();
    let sent = |name: &str| -> u64 {
        let report = fs_err::read(desk.path(name)).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        report["files"][0]["bytesSent"].as_u64().unwrap()
    };
    let size = fs_err::metadata(&original).unwrap().len();
    assert!(sent("one.json") + sent("two.json") <= size, "{both}");
    assert!(fs_err::read(host.content().join("site.tar.zst")).unwrap() == fs_err::read(&original).unwrap());
}

#[test]
fn another_file_of_the_same_name_is_not_mixed_in() {
    let desk = BundleDesk::new();
    let original = desk.bundle("site.tar.zst", &[]);
    let host = mk_host(&desk);
    let upload =
        format!("landfall bundle upload site.tar.zst --to {ADDRESS} --ca till-7.crt --token-file upload-token");
    let planned = run_lines(&desk, &host, &format!("{upload} --dry-run -o json")).succeeded();
    assert!(planned.stdout().contains("\"planned\""), "{planned}");
    assert!(host.uploads().is_empty());
    drop(run_lines(&desk, &host, &upload).succeeded());
    let _older = host.wait_for_bundle("the receipt", |bundle| bundle.phase == BundlePhase::Receipt);
    // The next month's bundle has the same name.
    drop(run(desk.create(&original, &["--series", "shop", "--sequence", "2"])).succeeded());
    let refused = run_lines(&desk, &host, &upload);
    assert_eq!(refused.code(), Some(2), "{refused}");
    assert!(
        refused.stderr().contains("is in the directory of bundles already"),
        "{refused}"
    );
    assert!(refused.stderr().contains("--replace"), "{refused}");
    drop(run_lines(&desk, &host, &format!("{upload} --replace")).succeeded());
    let target = host.content().join("site.tar.zst");
    assert!(fs_err::read(&target).unwrap() == fs_err::read(&original).unwrap());
    let newer = host.wait_for_bundle("the second receipt", |bundle| {
        bundle.phase == BundlePhase::Receipt && bundle.sequence == Some(2)
    });
    assert_eq!(newer.path, target.to_string());
    let wrong = run_lines(&desk, &host, &format!("echo wrong >upload-token; {upload}"));
    assert_eq!(wrong.code(), Some(2), "{wrong}");
    assert!(
        wrong.stderr().contains("uploads need the token of this host"),
        "{wrong}"
    );
}
