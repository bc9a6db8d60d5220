//! Hints about what goes to a site and comes back from it, followed: receipts, inventories, deltas, damaged files and
//! signatures of images.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::desk::{Desk, done};
use common::followed::{Followed, words, write};
use common::{CANARY, landfall, run, shown};
use landfall_core::oci_types::Descriptor;
use landfall_core::report::Inventory;
use landfall_oci::bundle::signature::{PrivateKey, sign_receipt};
use landfall_testkit::fake_registry::{Access, FakeRegistry, FakeRegistryOptions};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, docker_archive, tar_of, zstd_frame};
use serde_json::{Value, json};

fn json_of(arguments: &[&str]) -> Value {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    serde_json::from_slice(&output.stdout).expect("stdout is JSON")
}

/// Returns the program in a directory, where it may leave `needs.json`.
fn in_directory(directory: &Path) -> impl Fn(&[&str]) -> Command {
    move |arguments| {
        let mut command = landfall(arguments);
        command.current_dir(directory);
        command
    }
}

#[test]
fn a_followed_hint_about_a_receipt_ends_its_message() {
    let desk = Desk::new();
    let bundle = desk.make("site.tar.zst", &["--series=shop", "--sequence=7"]);
    let show = json_of(&["bundle", "show", &bundle, "-o", "json"]);
    let inventory = desk.path("inventory.json");
    done(&words(&[
        "inventory",
        "export",
        "--bundle",
        &bundle,
        "--to",
        &inventory,
    ]));
    let text = fs::read_to_string(&inventory).expect("the inventory");
    let text = json!({
        "kind": "BundleReceipt", "site": "till-7", "bundle": show["id"], "series": "shop", "sequence": 7,
        "present": [show["images"][0]["name"]], "missing": [], "bad": [],
        "inventory": serde_json::from_str::<Value>(&text).expect("JSON"),
    })
    .to_string();
    let (key, _) = PrivateKey::generate().expect("a key");
    let (other, _) = PrivateKey::generate().expect("a key");
    let put = |name: &str, text: &str| write(desk.directory.path(), name, text);
    let public = put("host-key.pub", &key.public_key().to_pem());
    let foreign = put("other.pub", &other.public_key().to_pem());
    let receipt = put("site.tar.zst.receipt.json", &text);
    let signature = sign_receipt(&key, text.as_bytes()).expect("a signature");
    let show = |file: &str, key: &str| words(&["bundle", "receipt", file, "--public-key", key]);
    let right = show(&receipt, &public);
    Followed {
        name: "no signature",
        message: "the receipt is not signed",
        hint: "bring the file with the ending `.sig`, too: the host writes it beside the receipt",
        before: right.clone(),
        after: right.clone(),
    }
    .assert_mended_by(|| drop(put("site.tar.zst.receipt.sig", &signature)));
    Followed {
        name: "another host",
        message: "the receipt is signed by another host",
        hint: "give the public key of the host that wrote it: `host-key.pub` in its state directory",
        before: show(&receipt, &foreign),
        after: right.clone(),
    }
    .assert_mended();
    for (name, message, file, changed, whole) in [
        (
            "a changed receipt",
            "it was changed",
            "site.tar.zst.receipt.json",
            text.replace("till-7", "till-8"),
            &text,
        ),
        (
            "a broken signature",
            "the file with the signature of the receipt cannot be read",
            "site.tar.zst.receipt.sig",
            "{".to_owned(),
            &signature,
        ),
    ] {
        drop(put(file, &changed));
        Followed {
            name,
            message,
            hint: "fetch the receipt and its signature from the host again",
            before: right.clone(),
            after: right.clone(),
        }
        .assert_mended_by(|| drop(put(file, whole)));
    }
    Followed {
        name: "an inventory",
        message: "it names no bundle: it is no receipt",
        hint: "take the file `FILE.receipt.json` that the host wrote for the bundle",
        before: words(&["bundle", "receipt", &inventory]),
        after: right,
    }
    .assert_mended();
}

#[test]
fn a_followed_hint_about_an_inventory_ends_its_message() {
    let desk = Desk::new();
    let bundle = desk.make("site.tar.zst", &[]);
    let inventory = desk.path("inventory.json");
    done(&words(&[
        "inventory",
        "export",
        "--bundle",
        &bundle,
        "--to",
        &inventory,
    ]));
    let known = Inventory::parse(&fs::read(&inventory).expect("the inventory")).expect("an inventory");
    let code = known.qr_text().expect("few blobs");
    let photographed = write(desk.directory.path(), "photo.txt", &code[..code.len() - 3]);
    let delta = desk.create("delta.tar.zst", &["--for", &photographed]);
    Followed {
        name: "a code that was not read to its end",
        message: "it begins as the text of a QR code, and the rest is not whole",
        hint: "read the code again; all of its text belongs into the file",
        before: delta.clone(),
        after: delta,
    }
    .assert_mended_by(|| fs::write(&photographed, &code).expect("a file"));

    let state = desk.path("state");
    let export = |more: &[&str]| words(&[&["inventory", "export", "--root", &state], more].concat());
    // An agent's registry that has nothing yet.
    for directory in ["registry", "store/blobs/sha256"] {
        fs::create_dir_all(format!("{state}/{directory}")).expect("a directory");
    }
    Followed {
        name: "a site without blobs",
        message: "there are no blobs",
        hint: "make a whole bundle for this site: `landfall bundle create` without `--for`",
        before: export(&[]),
        after: export(&[]),
    }
    .assert_mended_by(|| {
        let whole = desk.make("whole.tar.zst", &[]);
        done(&words(&["bundle", "load", &whole, "--root", &state, "--progress=none"]));
    });
    for number in 0..600 {
        let content = format!("blob {number}");
        let name = digest_of(content.as_bytes()).hex().to_owned();
        fs::write(format!("{state}/store/blobs/sha256/{name}"), content).expect("a blob");
    }
    Followed {
        name: "a site with many blobs",
        message: "and a QR code holds ",
        hint: "carry a file with `--short` instead",
        before: export(&["--qr"]),
        after: export(&["--short", "--to", &desk.path("short.json")]),
    }
    .assert_mended();
}

/// Directory with a bundle of one image, and a delta that counts on it.
fn mk_delta(desk: &Desk) -> (String, String) {
    let base = desk.make("base.tar.zst", &[]);
    let inventory = desk.path("inventory.json");
    done(&words(&["inventory", "export", "--bundle", &base, "--to", &inventory]));
    (base, desk.make("delta.tar.zst", &["--for", &inventory]))
}

#[test]
fn a_followed_hint_about_a_delta_ends_its_message() {
    let desk = Desk::new();
    let (base, delta) = mk_delta(&desk);
    let registry = FakeRegistry::start();
    let host = registry.host().to_string();
    let insecure = format!("--insecure={host}");
    let push = |file: &str| words(&["push", "--bundle", file, "--to", &host, &insecure, "--progress=none"]);
    Followed {
        name: "a base that is not at the site",
        message: "nothing was written, because the bundle counts on blob",
        hint: "bring a bundle with these blobs: `needs.json` lists them",
        before: push(&delta),
        after: push(&delta),
    }
    .assert_mended_in(in_directory(desk.directory.path()), || {
        assert!(desk.directory.path().join("needs.json").exists());
        done(&push(&base));
    });
    let layout = format!("oci:{}", desk.path("layout"));
    let copy = |file: &str| {
        let from = format!("bundle:{file}:reg.example/shop/till:1.0");
        words(&["copy", &from, &layout, "--progress=none"])
    };
    Followed {
        name: "a layout without the base",
        message: "the bundle counts on blob",
        hint: "make a bundle with this blob: `landfall bundle create` without `--for`",
        before: copy(&delta),
        after: copy(&base),
    }
    .assert_mended();
}

/// Returns a profile with these images.
fn profile(images: &[&str]) -> String {
    let images: String = images
        .iter()
        .map(|image| format!("                - image: {image}\n"))
        .collect();
    format!(
        "metadata: {{name: shop}}\nspec:\n  template:\n    packs:\n      - name: shop\n        layer: addon\n        \
         type: manifest\n        tag: 1.0.0\n        values: |\n          pack:\n            content:\n              \
         images:\n{images}"
    )
}

/// Settings of an external registry where nobody listens.
const UNREACHABLE: &str =
    "#cloud-config\nstylus: {registryCredentials: {domain: \"127.0.0.1:1/mirror\", insecure: true}}\n";

#[test]
fn a_followed_hint_about_the_bundles_of_a_host_ends_its_message() {
    let desk = Desk::new();
    let put = |name: &str, text: &str| write(desk.directory.path(), name, text);
    let profile_file = put(
        "profile.yaml",
        &profile(&["reg.example/shop/till:1.0", "reg.example/shop/scale:1.0"]),
    );
    let user_data = put("user-data.yaml", UNREACHABLE);
    let till = desk.make("till.tar.zst", &[]);
    let image = FixtureBuilder::new().plain_layer(&[("name", b"scale")]).build();
    let archive = docker_archive(&[(&["reg.example/shop/scale:1.0"], &image)]);
    let archive = write(desk.directory.path(), "scale.tar", archive);
    let scale = desk.path("scale.tar.zst");
    let create_scale = words(&[
        "bundle",
        "create",
        &scale,
        &format!("--image=docker-archive:{archive}"),
        "--progress=none",
    ]);
    let with = |command: &str, bundles: &[&str]| {
        let mut arguments = words(&[command, "--user-data", &user_data, "--profile", &profile_file]);
        for bundle in bundles {
            arguments.extend(words(&["--bundle", bundle]));
        }
        arguments
    };
    Followed {
        name: "an image that no bundle has",
        message: "no bundle has it",
        hint: "make a bundle that has it, with `landfall bundle create`",
        before: with("check", &[&till]),
        after: with("check", &[&till, &scale]),
    }
    .assert_mended_by(|| done(&create_scale));
    Followed {
        name: "another format",
        message: "is no bundle of Landfall",
        hint: "an agent takes bundles only: make one with `landfall bundle create --image oci-archive:…`",
        before: with("plan", &[&till, &archive]),
        after: with("plan", &[&till, &scale]),
    }
    .assert_mended();

    let registry = FakeRegistry::start();
    put(
        "user-data.yaml",
        &UNREACHABLE.replace("127.0.0.1:1", registry.host().as_str()),
    );
    let push = |bundles: &[&str]| {
        let mut arguments = with("push", bundles);
        arguments.push("--progress=none".to_owned());
        arguments
    };
    Followed {
        name: "an image to push that no bundle has",
        message: "no bundle has this image",
        hint: "name a bundle that has it, or make one: `landfall bundle show` lists the images of a bundle",
        before: push(&[&till]),
        after: push(&[&till, &scale]),
    }
    .assert_mended();

    let broken = put("broken.yaml", "metadata: {name: [\n");
    let stage = |profile: &str| {
        let root = desk.path("root");
        words(&[
            "stages",
            "run",
            "boot",
            "--dry-run",
            "--root",
            &root,
            "--user-data",
            &user_data,
            "--profile",
            profile,
        ])
    };
    Followed {
        name: "a part of the configuration that is not known",
        message: "nothing was done, because a part of the configuration is not known",
        hint: "correct it (`landfall validate` shows all findings), and run the command again",
        before: stage(&broken),
        after: stage(&broken),
    }
    .assert_mended_by(|| drop(put("broken.yaml", &profile(&["reg.example/shop/till:1.0"]))));
}

#[test]
fn a_followed_hint_about_a_set_of_pieces_ends_its_message() {
    let desk = Desk::new();
    let whole = fs::read(desk.make("whole.tar.zst", &[])).expect("the bundle");
    let path = |name: &str| desk.path(name);
    let write_pieces = |name: &str, size: usize, name_of: &dyn Fn(usize) -> String| {
        for (number, piece) in whole.chunks(size).enumerate() {
            fs::write(path(&format!("{name}{}", name_of(number))), piece).expect("a piece");
        }
    };
    let verify = |file: &str| words(&["bundle", "verify", &path(file)]);
    let third = whole.len().div_ceil(3);
    write_pieces("two.tar.zst", third, &|number| format!("_part{number:02}"));
    write_pieces("two.tar.zst", third, &|number| format!(".{:03}", number + 1));
    Followed {
        name: "two sets of one name",
        message: "is there in pieces of several tools",
        hint: "name one of the pieces in place of the whole file",
        before: verify("two.tar.zst"),
        after: verify("two.tar.zst_part00"),
    }
    .assert_mended();
    write_pieces("many.tar.zst", whole.len() / 600, &|number| format!("_part{number:04}"));
    Followed {
        name: "too many pieces",
        message: "has more than 512 pieces",
        hint: "join them with `cat` and name the file that it makes",
        before: verify("many.tar.zst_part0000"),
        after: verify("joined.tar.zst"),
    }
    .assert_mended_by(|| {
        let line = "cat many.tar.zst_part* > joined.tar.zst";
        let mut shell = Command::new("sh");
        let ended = shell.args(["-c", line]).current_dir(desk.directory.path()).status();
        assert!(ended.expect("a shell").success());
    });
    write_pieces("cut.tar.zst", third, &|number| format!("_part{number:02}"));
    let cut = path("cut.tar.zst_part01");
    fs::write(&cut, &whole[third..third + 1000]).expect("a piece");
    Followed {
        name: "a piece that was cut",
        message: "it was cut short, or belongs to another set",
        hint: "copy this set again from where it was made",
        before: verify("cut.tar.zst_part00"),
        after: verify("cut.tar.zst_part00"),
    }
    .assert_mended_by(|| write_pieces("cut.tar.zst", third, &|number| format!("_part{number:02}")));
}

#[test]
fn a_followed_hint_about_a_damaged_bundle_ends_its_message() {
    let desk = Desk::new();
    let file = desk.make("site.tar.zst", &[]);
    let whole = fs::read(&file).expect("the bundle");
    let copied = desk.path("copied.tar.zst");
    let verify = words(&["bundle", "verify", &copied]);
    fs::write(&copied, [&whole[..], b"more"].concat()).expect("a file");
    Followed {
        name: "a file with more behind it",
        message: " bytes where its head says ",
        hint: "copy the bundle again from where it was made",
        before: verify.clone(),
        after: verify,
    }
    .assert_mended_by(|| fs::write(&copied, &whole).expect("a file"));
    let head = tar_of([("oci-layout", &b"{}"[..]), ("landfall/bundle.json", b"{}")]);
    fs::write(&copied, zstd_frame(&head)).expect("a file");
    let verify = words(&["bundle", "verify", &copied]);
    Followed {
        name: "a description of another program",
        message: "is no description of a bundle",
        hint: "make the bundle again, or fetch it again: it is not as Landfall wrote it",
        before: verify.clone(),
        after: verify,
    }
    .assert_mended_by(|| fs::write(&copied, &whole).expect("a file"));
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(&copied, damaged).expect("a file");
    let copy = words(&[
        "bundle",
        "copy",
        &copied,
        &desk.path("stick.tar.zst"),
        "--progress=none",
    ]);
    Followed {
        name: "a damaged blob",
        message: "is damaged in 1 part",
        hint: "`landfall bundle verify` names the parts; copy the bundle again from where it was made",
        before: copy.clone(),
        after: copy,
    }
    .assert_mended_by(|| fs::write(&copied, &whole).expect("a file"));
}

/// Returns an image whose manifest has 3.5 MiB.
fn with_large_manifest(name: &str) -> ImageFixture {
    let mut image = FixtureBuilder::new().plain_layer(&[("name", name.as_bytes())]).build();
    let (former, manifest) = image.manifests.pop().expect("a manifest");
    let mut document: Value = serde_json::from_slice(&manifest).expect("a manifest is JSON");
    document["annotations"] = json!({"padding": name.repeat(3_500_000)});
    let manifest = document.to_string().into_bytes();
    image.root = Descriptor::new(&former.media_type, digest_of(&manifest), manifest.len() as u64);
    image.manifests.push((image.root.clone(), manifest.into()));
    image
}

#[test]
fn a_followed_hint_about_many_large_manifests_ends_its_message() {
    let desk = Desk::new();
    let registry = FakeRegistry::start();
    let host = registry.host().to_string();
    let insecure = format!("--insecure={host}");
    let names = ["a", "b", "c", "d", "e"];
    for name in names {
        registry.add_image(&format!("shop/{name}"), "1.0", &with_large_manifest(name));
    }
    let create = |file: &str, names: &[&str]| {
        let mut arguments = words(&["bundle", "create", &desk.path(file), &insecure, "--progress=none"]);
        arguments.extend(names.iter().map(|name| format!("--image={host}/shop/{name}:1.0")));
        arguments
    };
    Followed {
        name: "more manifests than a bundle takes",
        message: "the manifests of these images have ",
        hint: "make several bundles of fewer images",
        before: create("all.tar.zst", &names),
        after: create("first.tar.zst", &names[..3]),
    }
    .assert_mended();
    done(&create("second.tar.zst", &names[3..]));
}

#[test]
fn a_followed_hint_about_a_login_of_the_user_data_ends_its_message() {
    let desk = Desk::new();
    let bundle = desk.make("site.tar.zst", &[]);
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: CANARY.to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    let put = |name: &str, text: &str| write(desk.directory.path(), name, text);
    let profile = put("profile.yaml", &profile(&["reg.example/shop/till:1.0"]));
    let push = |name: &str, password: &str| {
        let text = format!(
            "#cloud-config\nstylus:\n  registryCredentials:\n    domain: \"{}/mirror\"\n    insecure: true\n    username: \
             edge\n    password: {password}\n",
            registry.host()
        );
        let user_data = put(name, &text);
        let inputs = ["--user-data", &user_data, "--profile", &profile];
        words(&[&["push", "--bundle", &bundle, "--progress=none"], &inputs[..]].concat())
    };
    Followed {
        name: "a wrong password",
        message: "is not accepted",
        hint: "correct `username` and `password` of this registry",
        before: push("wrong.yaml", "canary-7f3a9c-old"),
        after: push("right.yaml", CANARY),
    }
    .assert_mended();

    let logins = desk.path("logins.json");
    let host = registry.host();
    let without_login =
        format!("#cloud-config\nstylus:\n  registryCredentials:\n    domain: \"{host}/mirror\"\n    insecure: true\n");
    let user_data = put("without.yaml", &without_login);
    let mut push = words(&[
        "push",
        "--bundle",
        &bundle,
        "--progress=none",
        "--user-data",
        &user_data,
    ]);
    push.extend(words(&["--profile", &profile, "--credentials", &logins]));
    let write_login = || {
        let login = STANDARD.encode(format!("edge:{CANARY}"));
        drop(put(
            "logins.json",
            &json!({"auths": {host.as_str(): {"auth": login}}}).to_string(),
        ));
    };
    for (name, message, hint) in [
        (
            "no file with logins",
            "cannot read the logins in",
            "make the file readable, or name another",
        ),
        (
            "a broken file with logins",
            "cannot use the logins in",
            "correct the file: it has docker's form",
        ),
    ] {
        Followed {
            name,
            message,
            hint,
            before: push.clone(),
            after: push.clone(),
        }
        .assert_mended_by(write_login);
        drop(put("logins.json", "{"));
    }
}

/// Adds a signature as cosign 2 does: an image of its own, with a tag made from the digest.
fn add_signature(registry: &FakeRegistry, image: &ImageFixture, desk: &Desk) {
    let digest = &image.root.digest;
    let image = json!({"docker-manifest-digest": digest});
    let payload = json!({"critical": {"type": "cosign container image signature", "image": image}}).to_string();
    fs::write(desk.path("payload"), &payload).expect("a file");
    desk.openssl("dgst -sha256 -sign own.key -out signature payload");
    let signature = STANDARD.encode(fs::read(desk.path("signature")).expect("a signature"));
    let config = registry.add_blob("application/vnd.oci.image.config.v1+json", "{}");
    let mut layer = json!(registry.add_blob("application/vnd.dev.cosign.simplesigning.v1+json", payload));
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]}).to_string();
    registry.add_manifest(
        "shop/till",
        &format!("sha256-{}.sig", digest.hex()),
        media_type,
        manifest,
    );
}

#[test]
fn a_followed_hint_about_a_signature_of_cosign_ends_its_message() {
    let desk = Desk::new();
    for name in ["own", "other"] {
        desk.openssl(&format!(
            "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {name}.key"
        ));
        desk.openssl(&format!("pkey -in {name}.key -pubout -out {name}.pub"));
    }
    let registry = FakeRegistry::start();
    let image = FixtureBuilder::new().plain_layer(&[("name", b"till")]).build();
    registry.add_image("shop/till", "1.0", &image);
    let host = registry.host().to_string();
    let (bundle, root) = (desk.path("site.tar.zst"), desk.path("state"));
    let create = words(&[
        "bundle",
        "create",
        &bundle,
        &format!("--image={host}/shop/till:1.0"),
        &format!("--insecure={host}"),
        "--progress=none",
    ]);
    done(&create);
    let with_key = |command: &[&str], keys: &[&str]| {
        let mut arguments = words(command);
        for key in keys {
            arguments.push(format!("--image-key={}", desk.path(key)));
        }
        arguments
    };
    let verify = |keys: &[&str]| with_key(&["bundle", "verify", &bundle], keys);
    let load = |keys: &[&str]| with_key(&["bundle", "load", &bundle, "--root", &root, "--progress=none"], keys);
    let sign = || {
        add_signature(&registry, &image, &desk);
        fs::remove_file(&bundle).expect("the bundle");
        done(&create);
    };
    let hint = "sign the digest that is used with `cosign sign --key`, and copy the image with its referrers";
    let load_own = load(&["own.pub"]);
    let load_own: Vec<&str> = load_own.iter().map(String::as_str).collect();
    let refused = shown(&run(&load_own));
    assert!(refused.contains(&format!("\n  hint: {hint}")), "{refused}");
    Followed {
        name: "no signature",
        message: "the image carries no signature",
        hint,
        before: verify(&["own.pub"]),
        after: verify(&["own.pub"]),
    }
    .assert_mended_by(sign);
    let loaded = shown(&run(&load_own));
    assert!(loaded.starts_with("status 0\n"), "{loaded}");
    for (name, before, after) in [
        ("verify", verify(&["other.pub"]), verify(&["other.pub", "own.pub"])),
        ("load", load(&["other.pub"]), load(&["other.pub", "own.pub"])),
    ] {
        Followed {
            name,
            message: "the image carries no signature by one of the given keys",
            hint: "if you trust the signer, add the public key: by `--image-key`",
            before,
            after,
        }
        .assert_mended();
    }
}
