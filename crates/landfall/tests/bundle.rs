//! `landfall bundle`, `push --bundle` and `inventory`: from the desk to a registry without a network.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::path::Path;
use std::process::Output;

use common::{landfall, run, shown};
use landfall_core::bundle::trust::parse_key_document;
use landfall_core::report::Inventory;
use landfall_oci::bundle::signature::{HostKeys, PublicKey};
use landfall_testkit::fake_registry::{FakeRegistry, FakeRegistryOptions};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, gzip, multi_platform, oci_archive, zstd_frame};
use qrcode::{EcLevel, QrCode};

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
fn a_narrowed_index_is_read_everywhere_and_its_old_digest_and_signatures_are_named() {
    let desk = mk_desk();
    let whole = json(&desk.create("whole.tar.zst", &["multi"], &["-o", "json"]));
    let old = whole["images"][0]["digest"].as_str().expect("a digest");
    // A classic signature of cosign: a tag that names the digest.
    let tag = format!("{}.sig", old.replace(':', "-"));
    desk.origin.add_image("shop/multi", &tag, &mk_image("signature"));
    let narrowed = ["--platform", "linux/arm64", "--narrow", "rewrite"];
    let with = |more: &[&'static str]| [&narrowed[..], more].concat();
    let planned = desk.create("part.tar.zst", &["multi", "till"], &with(&["--dry-run", "-o", "json"]));
    let made = desk.create("part.tar.zst", &["multi", "till"], &with(&["-o", "json"]));
    assert!(
        !String::from_utf8_lossy(&made.stderr).contains("distribution 2.x"),
        "{}",
        shown(&made)
    );
    let (planned, made) = (json(&planned), json(&made));
    assert_eq!(planned["rewritten"], made["rewritten"]);
    let rewritten = &made["rewritten"][0];
    assert_eq!(made["rewritten"].as_array().map(Vec::len), Some(1), "{made:#}");
    assert_eq!(
        (&rewritten["name"], &rewritten["from"], &rewritten["lost"]),
        (&desk.image("multi").into(), &old.into(), &serde_json::json!([tag]))
    );
    let new = rewritten["to"].as_str().expect("a digest");
    let image = made["images"].as_array().expect("images").iter();
    let image = image
        .clone()
        .find(|image| image["name"] == desk.image("multi"))
        .expect("the image");
    assert_eq!(
        (
            &image["digest"],
            &image["platforms"],
            &image["leftOut"],
            &image["referrers"]
        ),
        (
            &new.into(),
            &serde_json::json!(["linux/arm64"]),
            &serde_json::json!([]),
            &0.into()
        )
    );
    // The same input gives the same bytes.
    assert_done(&desk.create("again.tar.zst", &["multi", "till"], &with(&[])));
    let read = |name: &str| std::fs::read(desk.path(name)).expect("a bundle");
    assert!(read("part.tar.zst") == read("again.tar.zst"));

    let (file, root) = (desk.path("part.tar.zst"), desk.path("store"));
    assert_done(&run(&["bundle", "verify", &file]));
    // A registry that takes an index only with all of its entries.
    let strict = FakeRegistry::start();
    let push = |file: &str| {
        let to = strict.host().to_string();
        run(&[
            "push",
            "--bundle",
            file,
            "--to",
            &to,
            "--insecure",
            &to,
            "--progress",
            "none",
        ])
    };
    assert_done(&push(&file));
    let repository = format!("{}/shop/multi", desk.origin.host().to_string().replace(':', "_"));
    let pushed = strict.manifest(&repository, "1.0").expect("the image keeps its tag");
    assert_eq!(landfall_testkit::image_builder::digest_of(&pushed).as_str(), new);
    let loaded = json(&run(&load_arguments(&file, &root)));
    assert_eq!(loaded["summary"]["copied"], 2, "{loaded:#}");

    // The index as it is says what refuses it, and the way out.
    let kept = desk.create("kept.tar.zst", &["multi"], &["--platform", "linux/arm64", "--dry-run"]);
    let talk = String::from_utf8_lossy(&kept.stderr).into_owned();
    assert!(
        talk.contains("distribution 2.x") && talk.contains("`--narrow rewrite`"),
        "{talk}"
    );
    assert_done(&desk.create("kept.tar.zst", &["multi"], &["--platform", "linux/arm64"]));
    let refused = push(&desk.path("kept.tar.zst"));
    assert_eq!(refused.status.code(), Some(1), "{}", shown(&refused));
    assert!(
        shown(&refused).contains("from a bundle made with `--narrow rewrite`"),
        "{}",
        shown(&refused)
    );
}

#[test]
fn an_image_named_by_its_digest_keeps_its_index() {
    let desk = mk_desk();
    let whole = json(&desk.create("whole.tar.zst", &["multi"], &["-o", "json"]));
    let digest = whole["images"][0]["digest"].as_str().expect("a digest");
    let pinned = format!("{}@{digest}", desk.image("multi").replace(":1.0", ""));
    let more = [
        "--platform",
        "linux/arm64",
        "--narrow",
        "rewrite",
        "--image",
        &pinned,
        "-o",
        "json",
    ];
    let made = desk.create("part.tar.zst", &[], &more);
    let talk = String::from_utf8_lossy(&made.stderr).into_owned();
    let report = json(&made);
    assert_eq!(
        (&report["images"][0]["digest"], &report["rewritten"]),
        (&digest.into(), &serde_json::json!([]))
    );
    assert!(talk.contains("their names have the digest of the index"), "{talk}");
}

#[test]
fn a_photographed_inventory_makes_a_delta_whose_needs_are_whole_digests() {
    let desk = mk_desk();
    let (file, root) = (desk.path("site.tar.zst"), desk.path("site"));
    assert_done(&desk.create("site.tar.zst", &["till"], &[]));
    assert_done(&run(&load_arguments(&file, &root)));
    let export = |more: &[&str]| {
        let common = ["inventory", "export", "--root", &root, "--site", "shop7"];
        run(&[&common[..], more].concat())
    };
    let whole = export(&[]);
    let whole = Inventory::parse(&whole.stdout).expect("an inventory");
    // Drawn for a terminal and as an image; both say the same.
    let drawn = String::from_utf8(export(&["--qr"]).stdout).expect("text");
    let code = QrCode::with_error_correction_level(whole.qr_text().expect("a text"), EcLevel::L).expect("a code");
    let lines: Vec<&str> = drawn.lines().collect();
    assert_eq!(lines.len(), (code.width() + 8).div_ceil(2), "{drawn}");
    assert!(
        lines.iter().all(|line| line.chars().count() == code.width() + 8),
        "{drawn}"
    );
    let image = desk.path("shop7.svg");
    assert_done(&export(&["--qr", "--to", &image]));
    let image = std::fs::read_to_string(image).expect("an image");
    assert!(image.contains("<svg") && image.contains("<path"), "{image}");

    // The text that a camera reads.
    let photographed = desk.path("shop7.txt");
    std::fs::write(&photographed, whole.qr_text().expect("a text")).expect("a file");
    let report = json(&desk.create(
        "delta.tar.zst",
        &["till", "scale"],
        &["--for", &photographed, "-o", "json"],
    ));
    assert_eq!(
        report["needs"].as_array().map(Vec::len),
        Some(1),
        "the base that both share: {report:#}"
    );
    let need = report["needs"][0]["digest"].as_str().expect("a digest");
    assert_eq!(need.len(), "sha256:".len() + 64);
    // A blob that the site only seemed to have is refused before anything is written.
    let shelf = FakeRegistry::start();
    let host = shelf.host().to_string();
    let delta = desk.path("delta.tar.zst");
    // Nor is an archive beside it sent while it is read.
    let foreign = desk.path("foreign.tar.gz");
    let tar = oci_archive(&[("quay.io/shop/other:1", &mk_image("other"))]);
    std::fs::write(&foreign, gzip(&tar)).expect("a file");
    let push = ["push", "--to", &host, "--insecure", &host, "--progress", "none"];
    for bundles in [&[&delta][..], &[&foreign, &delta]] {
        let bundles = bundles.iter().flat_map(|file| ["--bundle", file.as_str()]);
        let arguments: Vec<&str> = push.into_iter().chain(bundles).collect();
        let mut command = landfall(&arguments);
        let refused = command.current_dir(desk.directory.path()).output();
        let refused = refused.expect("the program starts");
        let text = shown(&refused);
        assert_eq!(refused.status.code(), Some(2), "{text}");
        assert!(text.contains(&format!("the bundle counts on blob `{need}`")), "{text}");
        let requests = shelf.requests();
        let writes = |method: &str| matches!(method, "PUT" | "POST" | "PATCH");
        assert!(requests.iter().all(|request| !writes(&request.method)), "{requests:?}");
    }
    // The site itself takes it.
    assert_done(&run(&load_arguments(&delta, &root)));
}

#[test]
fn verify_compares_the_sha256_that_a_description_of_the_pieces_states() {
    let desk = mk_desk();
    assert_done(&desk.create("site.tar.zst", &["till"], &[]));
    let bytes = std::fs::read(desk.path("site.tar.zst")).expect("the bundle");
    let (first, second) = bytes.split_at(bytes.len() / 2 + 1);
    let digest = landfall_testkit::image_builder::digest_of(&bytes);
    let describe = |sha256: &str| {
        let text = serde_json::json!({"sha256Sum": sha256, "bytes": bytes.len(), "count": 2}).to_string();
        std::fs::write(desk.path("zarf.tar.zst.part000"), text).expect("a file");
    };
    for (name, piece) in [("zarf.tar.zst.part001", first), ("zarf.tar.zst.part002", second)] {
        std::fs::write(desk.path(name), piece).expect("a file");
    }
    let piece = desk.path("zarf.tar.zst.part002");
    describe(digest.hex());
    assert_done(&run(&["bundle", "verify", &piece]));
    describe(&"0".repeat(64));
    assert_done(&run(&["bundle", "verify", &piece, "--head"]));
    let refused = run(&["bundle", "verify", &piece]);
    let text = shown(&refused);
    assert_eq!(refused.status.code(), Some(2), "{text}");
    assert!(
        text.contains("`zarf.tar.zst.part000` states the SHA-256") && text.contains("hint: copy this set again"),
        "{text}"
    );
}

#[test]
fn a_compressed_archive_of_another_program_is_pushed_without_a_copy() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (till, scale) = (mk_image("till"), mk_image("scale"));
    let images = [("quay.io/shop/till:1.0", &till), ("quay.io/shop/scale:1.0", &scale)];
    let tar = oci_archive(&images);
    let archives = [("one-frame.tar.zst", zstd_frame(&tar)), ("archive.tar.gz", gzip(&tar))];
    let profile = "metadata: {name: shop}\nspec:\n  template:\n    packs:\n      - name: shop\n        layer: addon\n        \
                   values: |\n          pack: {content: {images: [{image: \"quay.io/shop/till:1.0\"}]}}\n";
    std::fs::write(path("profile.yaml"), profile).expect("a file");
    for (name, bytes) in archives {
        let file = path(name);
        std::fs::write(&file, bytes).expect("a file");
        let shelf = FakeRegistry::start_with(FakeRegistryOptions {
            repositories_apart: true,
            ..FakeRegistryOptions::default()
        });
        let host = shelf.host().to_string();
        let user_data =
            format!("#cloud-config\nstylus: {{registryCredentials: {{domain: \"{host}/plan\", insecure: true}}}}\n");
        std::fs::write(path("user-data.yaml"), user_data).expect("a file");
        let to = format!("{host}/shelf");
        let push = |more: &[&str]| {
            let common = ["push", "--bundle", &file, "--insecure", &host, "--progress", "none"];
            let mut command = landfall(&[&common[..], more].concat());
            // Where a copy is made, the command fails.
            command
                .env("TMPDIR", path("nowhere"))
                .output()
                .expect("the program starts")
        };
        assert_done(&push(&["--to", &to]));
        for (name, image) in [("till", &till), ("scale", &scale)] {
            let pushed = shelf.manifest(&format!("shelf/quay.io/shop/{name}"), "1.0");
            assert_eq!(pushed, Some(image.root_bytes()), "{file}");
            for (digest, bytes) in image.all_content() {
                assert!(shelf.blob(digest).is_none_or(|blob| blob == *bytes), "{digest}");
            }
        }
        // Each blob was sent once.
        let requests = shelf.requests();
        let sent: Vec<_> = requests
            .iter()
            .filter(|request| request.method == "PUT" && request.path.contains("/blobs/"))
            .collect();
        let distinct: std::collections::BTreeSet<_> = sent
            .iter()
            .map(|request| request.path.split("digest=").nth(1))
            .collect();
        assert_eq!(sent.len(), distinct.len(), "{sent:?}");
        // By a configuration.
        assert_done(&push(&[
            "--user-data",
            &path("user-data.yaml"),
            "--profile",
            &path("profile.yaml"),
        ]));
        let pushed = shelf.manifest("plan/quay.io/shop/till", "1.0");
        assert_eq!(pushed, Some(till.root_bytes()), "{file}");
        // Within a bandwidth: the base layer alone takes a second.
        let begun = jiff::Timestamp::now();
        assert_done(&push(&["--to", &format!("{host}/slow"), "--bandwidth", "300000"]));
        let took = jiff::Timestamp::now().duration_since(begun);
        assert!(took > jiff::SignedDuration::from_millis(500), "{took:?}");
        assert!(shelf.manifest("slow/quay.io/shop/till", "1.0").is_some(), "{file}");
        // Of images that the key did not sign, nothing gets a name.
        std::fs::write(path("key.pub"), PUBLIC_KEY).expect("a key");
        let unsigned = push(&["--to", &format!("{host}/signed"), "--image-key", &path("key.pub")]);
        assert_eq!(unsigned.status.code(), Some(2), "{}", shown(&unsigned));
        assert!(
            shown(&unsigned).contains("the image carries no signature"),
            "{}",
            shown(&unsigned)
        );
        let requests = shelf.requests();
        let is_named = |path: &str| path.starts_with("/v2/signed/") && path.contains("/manifests/");
        assert!(
            !requests
                .iter()
                .any(|request| request.method == "PUT" && is_named(&request.path))
        );
        // For a part of it a copy is made, and told.
        let part = ["--to", &to, "--image", "quay.io/shop/till:1.0"];
        let selective = push(&part);
        assert_eq!(selective.status.code(), Some(2), "{}", shown(&selective));
        assert!(shown(&selective).contains("nowhere"), "{}", shown(&selective));
        let common = [
            "push",
            "--bundle",
            &file,
            "--insecure",
            &host,
            "--progress",
            "none",
            "--dry-run",
        ];
        let looked = run(&[&common[..], &part].concat());
        assert_done(&looked);
        let told =
            format!("`{file}` can be read only once, and a decompressed copy of it in `/tmp` takes more than its ");
        assert!(shown(&looked).contains(&told), "{}", shown(&looked));
    }
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
    let loaded = desk.show(&run(&load_arguments(&file, &desk.path("state"))[..7]));
    assert!(
        loaded.contains("\nfailed: 2 images: ")
            && loaded.contains("`ORIGIN/shop/till:1.0 of DIR/site.tar.zst`\n  why: "),
        "{loaded}"
    );
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
fn a_base_that_is_damaged_at_the_site_is_found_before_the_first_write_and_brought_again() {
    let desk = mk_desk();
    let (may, june, root, inventory) = (
        desk.path("may.tar.zst"),
        desk.path("june.tar.zst"),
        desk.path("state"),
        desk.path("shop.json"),
    );
    assert_done(&desk.create("may.tar.zst", &["till"], &[]));
    assert_done(&run(&load_arguments(&may, &root)));
    assert_done(&run(&["inventory", "export", "--root", &root, "--to", &inventory]));
    let needs = json(&desk.create("june.tar.zst", &["till", "scale"], &["--for", &inventory, "-o", "json"]));
    let base = needs["needs"][0]["digest"].as_str().expect("a base").to_owned();
    let file = Path::new(&root)
        .join("store/blobs/sha256")
        .join(base.trim_start_matches("sha256:"));
    let mut bytes = std::fs::read(&file).expect("the base");
    bytes[1000] ^= 1;
    std::fs::write(&file, bytes).expect("a blob of the store");
    let load = |file: &str| {
        let mut command = common::landfall(&load_arguments(file, &root));
        command
            .current_dir(desk.directory.path())
            .output()
            .expect("the program starts")
    };
    let refused = load(&june);
    assert_eq!(refused.status.code(), Some(2), "{}", shown(&refused));
    assert!(
        shown(&refused).contains(&format!(
            "nothing was written, because the bundle counts on blob `{base}`"
        )),
        "{}",
        shown(&refused)
    );
    assert!(desk.directory.path().join("needs.json").exists());
    assert_done(&load(&may));
    assert_done(&load(&june));
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
        ("till-7:5080", "write it as `https://HOST:5080`"),
        ("http://user:secret@till-7", "write it as `https://HOST:5080`"),
        (
            "http://till-7:5080",
            "nothing was sent to http://till-7:5080: others on the network could read the token",
        ),
        ("http://127.0.0.1:1", "`DIR/upload-token` holds no token"),
    ] {
        let text = upload(to);
        assert!(text.contains(message), "{to}: {text}");
    }
}

#[test]
fn a_made_key_signs_bundles_and_the_key_after_it_and_no_file_is_replaced() {
    use std::os::unix::fs::PermissionsExt as _;

    let desk = mk_desk();
    let (old, old_public) = (desk.path("key.pem"), desk.path("key.pub"));
    let (new, new_public) = (desk.path("new.pem"), desk.path("half/new.pub"));
    std::fs::create_dir(desk.path("half")).expect("a directory");
    assert_done(&run(&["bundle", "keygen", &old]));
    let made = [
        "bundle",
        "keygen",
        &new,
        "--public",
        &new_public,
        "--algorithm",
        "ecdsa-p256",
    ];
    assert_done(&run(&made));
    for (path, mode) in [(&old, 0o600), (&old_public, 0o644), (&new, 0o600), (&new_public, 0o644)] {
        let found = std::fs::metadata(path).expect("a key").permissions().mode();
        assert_eq!(found & 0o777, mode, "{path}");
    }
    let before = std::fs::read(&new).expect("a key");
    for taken in [&new_public, &new] {
        let again = run(&made);
        assert_eq!(again.status.code(), Some(2), "{}", shown(&again));
        let message = format!("the file `{taken}` is there already, and is not replaced");
        assert!(shown(&again).contains(&message), "{}", shown(&again));
        let _gone = std::fs::remove_file(&new_public);
    }
    assert_eq!(std::fs::read(&new).expect("a key"), before);
    assert!(
        !Path::new(&new_public).exists(),
        "no public half of a key that was not written"
    );
    assert_done(&run(&[
        "bundle",
        "keygen",
        &desk.path("other.pem"),
        "--public",
        &new_public,
    ]));

    assert_done(&desk.create("site.tar.zst", &["till"], &["--key", &old]));
    let site = desk.path("site.tar.zst");
    assert_done(&run(&["bundle", "verify", &site, "--public-key", &old_public]));
    let refused = run(&["bundle", "verify", &site, "--public-key", &new_public]);
    assert_eq!(refused.status.code(), Some(2), "{}", shown(&refused));

    let document = desk.path("new-key.json");
    let sign = ["bundle", "sign-key", &new_public, "--key", &old, "--to", &document];
    assert_done(&run(&sign));
    assert_eq!(run(&sign).status.code(), Some(2), "no document is replaced");
    let key = |path: &str| PublicKey::parse(&std::fs::read_to_string(path).expect("a key")).expect("a public key");
    let document = parse_key_document(&std::fs::read(&document).expect("a document")).expect("a key document");
    let mut host = HostKeys::new([key(&old_public)], []).expect("keys of a host");
    assert_eq!(
        host.accept(&document).expect("a key that is taken"),
        *key(&new_public).id()
    );
    let mut stranger = HostKeys::new([key(&new_public)], []).expect("keys of a host");
    assert!(stranger.accept(&document).is_err());
}
