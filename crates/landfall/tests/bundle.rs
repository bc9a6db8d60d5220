//! `landfall bundle`, `push --bundle` and `inventory`: from the desk to a registry without a network.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::path::Path;
use std::process::Output;

use common::{run, shown};
use landfall_testkit::fake_registry::{FakeRegistry, FakeRegistryOptions};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, gzip, multi_platform, oci_archive};

/// Returns bytes that do not compress.
fn mk_noise(length: usize, seed: u32) -> Vec<u8> {
    (0..u32::try_from(length / 4).expect("a small length"))
        .flat_map(|number| {
            (number ^ seed)
                .wrapping_mul(0x9e37_79b9)
                .rotate_left(13)
                .wrapping_mul(seed | 1)
                .to_le_bytes()
        })
        .collect()
}

/// Makes an image; all of them have a common base layer.
fn mk_image(name: &str) -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("base", &mk_noise(300_000, 7))])
        .plain_layer(&[("name", name.as_bytes())])
        .build()
}

struct Desk {
    directory: tempfile::TempDir,
    origin: FakeRegistry,
}

fn mk_desk() -> Desk {
    let origin = FakeRegistry::start();
    origin.add_image("shop/till", "1.0", &mk_image("till"));
    origin.add_image("shop/scale", "1.0", &mk_image("scale"));
    let part = |architecture: &str| {
        FixtureBuilder::new()
            .platform("linux", architecture)
            .plain_layer(&[("data", &mk_noise(100_000, u32::from(architecture.as_bytes()[1])))])
            .build()
    };
    origin.add_image("shop/multi", "1.0", &multi_platform(&[part("amd64"), part("arm64")]));
    Desk {
        directory: tempfile::tempdir().expect("a temporary directory"),
        origin,
    }
}

impl Desk {
    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn image(&self, name: &str) -> String {
        format!("{}/shop/{name}:1.0", self.origin.host())
    }

    /// Runs `bundle create` for these images.
    fn create(&self, file: &str, images: &[&str], more: &[&str]) -> Output {
        let (file, host) = (self.path(file), self.origin.host().to_string());
        let images: Vec<String> = images.iter().map(|name| self.image(name)).collect();
        let mut arguments = vec!["bundle", "create", &file, "--insecure", &host, "--progress", "none"];
        for image in &images {
            arguments.extend(["--image", image]);
        }
        arguments.extend(more);
        run(&arguments)
    }

    /// Returns the output without what differs from run to run.
    fn show(&self, output: &Output) -> String {
        let directory = self.directory.path().display().to_string();
        let text = shown(output)
            .replace(self.origin.host().as_str(), "ORIGIN")
            .replace(&directory, "DIR");
        let mut parts = text.split("sha256:").map(str::to_owned);
        let mut short = parts.next().unwrap_or_default();
        for part in parts {
            short.push_str("sha256:…");
            short.push_str(part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
        }
        short
    }
}

/// Returns the arguments that load a bundle into a directory.
fn load_arguments<'a>(file: &'a str, root: &'a str) -> [&'a str; 9] {
    [
        "bundle",
        "load",
        file,
        "--root",
        root,
        "--progress",
        "none",
        "-o",
        "json",
    ]
}

fn assert_done(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", shown(output));
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.code().is_some_and(|code| code < 2), "{}", shown(output));
    serde_json::from_slice(&output.stdout).expect("stdout is JSON")
}

#[test]
fn a_bundle_is_made_of_images_and_pushed_to_a_registry_without_their_origin() {
    let desk = mk_desk();
    let created = desk.create("site.tar.zst", &["till", "scale", "multi"], &["-o", "json"]);
    let report = json(&created);
    assert_eq!(report["images"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        report["images"][0]["platforms"],
        serde_json::json!(["linux/amd64", "linux/arm64"])
    );
    let file = desk.path("site.tar.zst");
    let size = std::fs::metadata(&file).expect("the bundle").len();
    assert_eq!(report["bytes"], size);
    assert!(!Path::new(&format!("{file}.partial")).exists());

    // The origin is gone; all is read out of the file.
    let requests = desk.origin.requests().len();
    let shelf = FakeRegistry::start_with(FakeRegistryOptions {
        repositories_apart: true,
        ..FakeRegistryOptions::default()
    });
    let to = format!("{}/project", shelf.host());
    let shelf_host = shelf.host().to_string();
    let push = [
        "push",
        "--bundle",
        &file,
        "--to",
        &to,
        "--insecure",
        &shelf_host,
        "--progress",
        "none",
        "-o",
        "json",
    ];
    let pushed = json(&run(&push));
    assert_eq!(pushed["summary"]["copied"], 3, "{pushed:#}");
    assert_eq!(desk.origin.requests().len(), requests);
    let again = json(&run(&push));
    assert_eq!(again["summary"]["unchanged"], 3);
}

#[test]
fn a_dry_run_tells_the_exact_size_and_writes_nothing() {
    let desk = mk_desk();
    let planned = json(&desk.create("site.tar.zst", &["till", "multi"], &["--dry-run", "-o", "json"]));
    assert_eq!(planned["dryRun"], true);
    assert_eq!(planned["room"]["neededBytes"], planned["bytes"]);
    assert!(planned["room"]["freeBytes"].as_u64() > Some(0));
    assert_eq!(
        std::fs::read_dir(desk.directory.path()).expect("the directory").count(),
        0
    );
    let made = json(&desk.create("site.tar.zst", &["till", "multi"], &["-o", "json"]));
    assert_eq!((&made["bytes"], &made["id"]), (&planned["bytes"], &planned["id"]));
}

#[test]
fn an_image_that_fails_is_named_and_no_bundle_is_made() {
    let desk = mk_desk();
    let output = desk.create("site.tar.zst", &["till", "nothing"], &[]);
    let text = desk.show(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("failed: `ORIGIN/shop/nothing:1.0`: "), "{text}");
    assert!(text.contains("1 of 2 images failed: no bundle was made"), "{text}");
    assert_eq!(
        std::fs::read_dir(desk.directory.path()).expect("the directory").count(),
        0
    );
}

#[test]
fn one_platform_is_put_in_and_the_index_stays() {
    let desk = mk_desk();
    let whole = json(&desk.create("whole.tar.zst", &["multi"], &["-o", "json"]));
    let part = json(&desk.create("part.tar.zst", &["multi"], &["--platform", "linux/arm64", "-o", "json"]));
    assert_eq!(part["images"][0]["digest"], whole["images"][0]["digest"]);
    assert_eq!(part["images"][0]["platforms"], serde_json::json!(["linux/arm64"]));
    assert_eq!(part["images"][0]["leftOut"], serde_json::json!(["linux/amd64"]));
    assert!(part["contentBytes"].as_u64() < whole["contentBytes"].as_u64().map(|bytes| bytes - 90_000));
}

#[test]
fn what_is_damaged_is_named_listed_and_repaired() {
    let desk = mk_desk();
    assert_done(&desk.create("site.tar.zst", &["till", "scale"], &[]));
    let file = desk.path("site.tar.zst");
    let good = std::fs::read(&file).expect("the bundle");
    let mut damaged = good.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(&file, &damaged).expect("the damage");
    let list = desk.path("damaged.txt");
    let verify = ["bundle", "verify", &file, "--repair-list", &list];
    let output = run(&verify);
    let text = desk.show(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    // The size depends on the digits of the origin's port.
    let (text, _size) = text.rsplit_once("; ").expect("a size");
    insta::assert_snapshot!(text, @r"
    status 1
    --- stdout
    damaged: blob `sha256:…`
      needed by: ORIGIN/shop/scale:1.0
      needed by: ORIGIN/shop/till:1.0
    1 part damaged
    ");
    // The head is enough for a decision about trust, and it is whole.
    assert_done(&run(&["bundle", "verify", &file, "--head"]));
    assert_done(&desk.create("patch.tar.zst", &["till", "scale"], &["--only-blobs", &list]));
    let repair = run(&["bundle", "repair", &file, "--from", &desk.path("patch.tar.zst")]);
    assert_done(&repair);
    assert!(std::fs::read(&file).expect("the bundle") == good);
}

#[test]
fn a_bundle_for_a_site_leaves_out_what_it_has_and_is_refused_elsewhere() {
    let desk = mk_desk();
    assert_done(&desk.create("may.tar.zst", &["till"], &[]));
    let inventory = desk.path("shop7.json");
    let may = desk.path("may.tar.zst");
    for more in [&[][..], &["--short"]] {
        let export = [
            "inventory",
            "export",
            "--bundle",
            &may,
            "--site",
            "shop7",
            "--to",
            &inventory,
        ];
        assert_done(&run(&[&export[..], more].concat()));
        let june = json(&desk.create("june.tar.zst", &["till", "scale"], &["--for", &inventory, "-o", "json"]));
        assert_eq!(june["needs"].as_array().map(Vec::len), Some(1), "{june:#}");
        assert!(june["bytes"].as_u64() < Some(20_000), "{june:#}");
    }
    let shelf = FakeRegistry::start();
    let shelf_host = shelf.host().to_string();
    let push = |file: &str| {
        let file = desk.path(file);
        let arguments = [
            "push",
            "--bundle",
            &file,
            "--to",
            &shelf_host,
            "--insecure",
            &shelf_host,
            "--progress",
            "none",
        ];
        let mut command = common::landfall(&arguments);
        command
            .current_dir(desk.directory.path())
            .output()
            .expect("the program starts")
    };
    let output = push("june.tar.zst");
    let text = desk.show(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    insta::assert_snapshot!(text, @r"
    status 2
    --- stderr
    error: nothing was written, because the bundle counts on blob `sha256:…` of `ORIGIN/shop/scale:1.0` (301568 bytes), which is not there
      hint: bring a bundle with these blobs: `needs.json` lists them
    ");
    assert!(desk.directory.path().join("needs.json").exists());
    assert!(
        shelf
            .requests()
            .iter()
            .all(|request| request.method != "PUT" && request.method != "POST")
    );
    // With the base at the site it goes in.
    assert_done(&push("may.tar.zst"));
}

#[test]
fn a_copy_in_pieces_is_the_same_bundle() {
    let desk = mk_desk();
    assert_done(&desk.create("site.tar.zst", &["till", "multi"], &[]));
    let (file, stick) = (desk.path("site.tar.zst"), desk.path("stick"));
    std::fs::create_dir(&stick).expect("a directory");
    let copied = json(&run(&[
        "bundle",
        "copy",
        &file,
        &stick,
        "--split",
        "100KB",
        "--progress",
        "none",
        "-o",
        "json",
    ]));
    assert!(copied["pieces"].as_u64() > Some(2), "{copied:#}");
    let piece = format!("{stick}/site.tar.zst_part01");
    let diff = run(&["bundle", "diff", &file, &piece]);
    assert_done(&diff);
    std::fs::remove_file(&piece).expect("a piece");
    let output = run(&["bundle", "show", &format!("{stick}/site.tar.zst_part00")]);
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
    assert!(shown(&output).contains("site.tar.zst_part01"), "{}", shown(&output));
}

#[test]
fn images_are_loaded_into_a_store_that_then_leaves_them_out_of_the_next_bundle() {
    let desk = mk_desk();
    assert_done(&desk.create("may.tar.zst", &["till", "multi"], &[]));
    let (may, root, inventory) = (desk.path("may.tar.zst"), desk.path("state"), desk.path("shop.json"));
    let load = load_arguments(&may, &root);
    assert_eq!(json(&run(&load))["summary"]["copied"], 2);
    assert_eq!(json(&run(&load))["summary"]["unchanged"], 2);
    assert_done(&run(&["inventory", "export", "--root", &root, "--to", &inventory]));
    let june = json(&desk.create("june.tar.zst", &["till", "scale"], &["--for", &inventory, "-o", "json"]));
    assert_eq!(june["needs"].as_array().map(Vec::len), Some(1), "{june:#}");
    let june = desk.path("june.tar.zst");
    let loaded = run(&load_arguments(&june, &root));
    assert_eq!(json(&loaded)["summary"]["copied"], 1, "{}", shown(&loaded));
    // An image without a signature is refused where a key is named.
    let (key, public) = (desk.path("key.pem"), desk.path("key.pub"));
    std::fs::write(&public, PUBLIC_KEY).expect("a key");
    let refused = run(&["bundle", "load", &june, "--root", &root, "--image-key", &public]);
    assert_eq!(refused.status.code(), Some(2), "{}", shown(&refused));
    assert!(
        shown(&refused).contains("the image carries no signature"),
        "{}",
        shown(&refused)
    );
    let unsigned = run(&["bundle", "verify", &june, "--public-key", &public]);
    assert_eq!(unsigned.status.code(), Some(2), "{}", shown(&unsigned));
    assert!(
        shown(&unsigned).contains("hint: make the bundle with `--key`"),
        "{}",
        shown(&unsigned)
    );
    assert!(!Path::new(&key).exists());
}

#[test]
fn an_index_of_which_other_platforms_were_left_out_is_loaded_as_it_is() {
    let desk = mk_desk();
    let platform = format!("linux/{}", std::env::consts::ARCH);
    assert_done(&desk.create("site.tar.zst", &["multi"], &["--platform", &platform]));
    let (file, root) = (desk.path("site.tar.zst"), desk.path("state"));
    let shown_bundle = json(&run(&["bundle", "show", &file, "-o", "json"]));
    let load = load_arguments(&file, &root);
    let loaded = json(&run(&load));
    assert_eq!(loaded["summary"]["copied"], 1, "{loaded:#}");
    assert_eq!(loaded["images"][0]["digest"], shown_bundle["images"][0]["digest"]);
    assert_eq!(loaded["images"][0]["lacking"].as_array().map(Vec::len), Some(1));
}

#[test]
fn a_compressed_archive_of_another_tool_is_loaded_without_a_copy_of_it() {
    let desk = mk_desk();
    let archive = gzip(&oci_archive(&[("reg.example/shop/till:1", &mk_image("till"))]));
    let (file, root) = (desk.path("images.tar.gz"), desk.path("state"));
    std::fs::write(&file, archive).expect("an archive");
    let load = load_arguments(&file, &root);
    let mut command = common::landfall(&load);
    // A copy would be made there.
    command.env("TMPDIR", desk.path("nowhere"));
    let loaded = json(&command.output().expect("the program starts"));
    assert_eq!(loaded["summary"]["copied"], 1, "{loaded:#}");
    let listed = run(&["inventory", "export", "--root", &root]);
    let inventory = json(&listed);
    assert_eq!(inventory["blobs"].as_array().map(Vec::len), Some(4));
}

/// Public half of a P-256 key.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwr
kBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==
-----END PUBLIC KEY-----
";

#[test]
fn a_receipt_is_shown_verified_and_refused_after_a_change() {
    use landfall_oci::bundle::signature::{PrivateKey, sign_receipt};

    let desk = mk_desk();
    assert_done(&desk.create("may.tar.zst", &["till"], &[]));
    let shown_bundle = json(&run(&["bundle", "show", &desk.path("may.tar.zst"), "-o", "json"]));
    let export = [
        "inventory",
        "export",
        "--site",
        "till-7",
        "--bundle",
        &desk.path("may.tar.zst"),
    ];
    let inventory = json(&run(&export));
    let image = &shown_bundle["images"][0]["name"];
    let receipt = serde_json::json!({
        "kind": "BundleReceipt", "site": "till-7", "bundle": shown_bundle["id"], "series": "shops", "sequence": 7,
        "present": [image], "missing": [], "bad": [], "inventory": inventory,
    });
    let text = serde_json::to_string_pretty(&receipt).expect("JSON");
    let (key, _) = PrivateKey::generate().expect("a key");
    let (other, _) = PrivateKey::generate().expect("a key");
    let write = |name: &str, text: &str| {
        std::fs::write(desk.path(name), text).expect("a file in our own directory");
        desk.path(name)
    };
    let public = write("host-key.pub", &key.public_key().to_pem());
    let foreign = write("other.pub", &other.public_key().to_pem());
    let file = write("may.tar.zst.receipt.json", &text);
    let show = |arguments: &[&str]| run(&[&["bundle", "receipt"], arguments].concat());
    let unsigned = show(&[&file, "--public-key", &public]);
    insta::assert_snapshot!(desk.show(&unsigned), @r"
    status 2
    --- stderr
    error: `DIR/may.tar.zst.receipt.json` is refused
      because: the receipt is not signed: the file with its signature is missing
      hint: bring the file with the ending `.sig`, too: the host writes it beside the receipt, and serves it at `/api/v1/receipts/BUNDLE/signature`
    ");
    let list = sign_receipt(&key, text.as_bytes()).expect("a signature");
    write("may.tar.zst.receipt.sig", &list);
    let id = key.public_key().id().to_string();
    // A bundle names the receipt beside it.
    let plain = show(&[&desk.path("may.tar.zst")]);
    insta::assert_snapshot!(desk.show(&plain).replace(&id, "KEY"), @r"
    status 0
    --- stdout
    site:     till-7
    bundle:   sha256:…
    series:   shops, number 7
    signed:   by KEY, not verified
    images:   1 there, 0 missing, 0 damaged in the bundle
    site has: 4 blobs
    ");
    let report = json(&show(&[
        &file,
        "--public-key",
        &foreign,
        "--public-key",
        &public,
        "-o",
        "json",
    ]));
    assert_eq!(
        (&report["trustedKey"], &report["signedBy"][0]),
        (&id.clone().into(), &id.into())
    );
    let wrong = desk.show(&show(&[&file, "--public-key", &foreign]));
    assert!(wrong.contains("is signed by another host"), "{wrong}");

    let for_site = |more: &[&str]| {
        let arguments = ["--for", &file, "-o", "json"];
        desk.create("june.tar.zst", &["till", "scale"], &[&arguments[..], more].concat())
    };
    let june = json(&for_site(&["--public-key", &public]));
    assert_eq!(june["needs"].as_array().map(Vec::len), Some(1), "{june:#}");

    let bad = receipt
        .to_string()
        .replace("\"missing\":[]", &format!("\"missing\":[{image}]"));
    write("may.tar.zst.receipt.json", &bad);
    for output in [
        show(&[&file, "--public-key", &public]),
        for_site(&["--public-key", &public]),
    ] {
        let text = desk.show(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("it was changed"), "{text}");
    }
    // Without a key nobody can tell; what it says of the site is shown.
    assert_eq!(show(&[&file]).status.code(), Some(1));
    let none = desk.show(&show(&[&desk.path("may.tar.zst.receipt.sig")]));
    assert!(none.contains("it is no inventory and no receipt"), "{none}");
}

#[test]
fn an_upload_needs_an_address_a_token_and_a_host_that_answers() {
    let desk = mk_desk();
    assert_done(&desk.create("may.tar.zst", &["till"], &[]));
    let (file, token) = (desk.path("may.tar.zst"), desk.path("upload-token"));
    std::fs::write(&token, "\n").expect("a file in our own directory");
    let upload = |to: &str| desk.show(&run(&["bundle", "upload", &file, "--to", to, "--token-file", &token]));
    for (to, message) in [
        ("till-7:5080", "write it as `http://HOST:5080`"),
        ("http://user:secret@till-7", "write it as `http://HOST:5080`"),
        ("http://127.0.0.1:1", "`DIR/upload-token` holds no token"),
    ] {
        let text = upload(to);
        assert!(text.contains(message), "{to}: {text}");
    }
}
