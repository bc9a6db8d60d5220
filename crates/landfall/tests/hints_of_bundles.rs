//! Hints about bundles, keys, pieces and paths, followed: what a hint says is done, and its message is gone.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;

use common::desk::{Desk, done};
use common::followed::{Followed, words, write};
use common::landfall;
use landfall_core::oci_types::Descriptor;
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, digest_of, docker_archive, multi_platform, small_image,
};
use serde_json::json;

#[test]
fn a_followed_hint_about_a_private_key_ends_its_message() {
    let desk = Desk::new();
    desk.openssl("genpkey -algorithm ed25519 -out own.key");
    desk.openssl("pkey -in own.key -pubout -out own.pub");
    desk.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out p256.key");
    desk.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.key");
    desk.openssl("pkey -in own.key -aes256 -passout pass:x -out encrypted.key");
    write(desk.directory.path(), "text", "no key");
    write(
        desk.directory.path(),
        "cosign.key",
        "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nZm9v\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
    );
    let with = |key: &str| desk.create("signed.tar.zst", &["--key", &desk.path(key)]);
    for (name, message, hint, key, act) in [
        (
            "no key",
            "it holds no private key in PEM",
            "make a key pair with `openssl genpkey -algorithm ed25519 -out PRIVATE-KEY`",
            "text",
            "genpkey -algorithm ed25519 -out right.key",
        ),
        (
            "a public key",
            "it holds a public key, and a private one is needed here",
            "give the private half of the key pair",
            "own.pub",
            "pkey -in own.key -out right.key",
        ),
        (
            "an encrypted key",
            "the private key is encrypted",
            "decrypt it with `openssl pkey -in PRIVATE-KEY -out PLAIN-KEY`",
            "encrypted.key",
            "pkey -in encrypted.key -passin pass:x -out right.key",
        ),
        (
            "a key of cosign",
            "encrypted in cosign's own form",
            "make a key pair with `openssl genpkey -algorithm ed25519 -out PRIVATE-KEY`; cosign can import that key",
            "cosign.key",
            "genpkey -algorithm ed25519 -out right.key",
        ),
        (
            "a kind that is not supported",
            "of a kind that is not supported",
            "use an RSA key of 2048 to 8192 bits, an Ed25519 key, or an ECDSA key on the curve P-256",
            "p521.key",
            "genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out right.key",
        ),
    ] {
        Followed {
            name,
            message,
            hint,
            before: with(key),
            after: with("right.key"),
        }
        .assert_mended_by(|| desk.openssl(act));
        fs::remove_file(desk.path("signed.tar.zst")).expect("the bundle is there");
        fs::remove_file(desk.path("right.key")).expect("the key is there");
    }
    let detached =
        |key: &str, more: &[&str]| desk.create("signed.tar.zst", &[&["--key", &desk.path(key)], more].concat());
    for (name, after) in [
        ("another key", detached("p256.key", &["--detached"])),
        ("no detached signature", detached("own.key", &[])),
    ] {
        Followed {
            name,
            message: "an Ed25519 key cannot sign a whole file by its digest",
            hint: "use an RSA or an ECDSA P-256 key, or leave out `--detached`",
            before: detached("own.key", &["--detached"]),
            after,
        }
        .assert_mended();
        fs::remove_file(desk.path("signed.tar.zst")).expect("the bundle is there");
    }
}

#[test]
fn a_followed_hint_about_a_public_key_ends_its_message() {
    let desk = Desk::new();
    desk.openssl("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:2048 -out own.key");
    desk.openssl("pkey -in own.key -pubout -out own.pub");
    desk.openssl("req -x509 -key own.key -subj /CN=edge -out own.crt");
    desk.openssl("genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:1024 -out small.key");
    desk.openssl("pkey -in small.key -pubout -out small.pub");
    desk.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key");
    desk.openssl("pkey -in p384.key -pubout -out p384.pub");
    desk.openssl("genpkey -algorithm ed25519 -out other.key");
    desk.openssl("pkey -in other.key -pubout -out other.pub");
    let public = fs::read_to_string(desk.path("own.pub")).expect("the key");
    write(desk.directory.path(), "two.pub", format!("{public}{public}"));
    write(desk.directory.path(), "text", "no key");
    let bundle = desk.make("site.tar.zst", &["--key", &desk.path("own.key")]);
    let with = |key: &str| words(&["bundle", "verify", &bundle, "--public-key", &desk.path(key)]);
    for (name, message, hint, key, act) in [
        (
            "no key",
            "it holds no public key in PEM",
            "write it with `openssl pkey -in PRIVATE-KEY -pubout -out PUBLIC-KEY`",
            "text",
            "pkey -in own.key -pubout -out right.pub",
        ),
        (
            "several keys",
            "it holds more than one key",
            "give each key in a file of its own",
            "two.pub",
            "pkey -pubin -in own.pub -pubout -out right.pub",
        ),
        (
            "a private key",
            "it holds a private key, and a public one is needed here",
            "write the public half with `openssl pkey -in PRIVATE-KEY -pubout -out PUBLIC-KEY`",
            "own.key",
            "pkey -in own.key -pubout -out right.pub",
        ),
        (
            "a certificate",
            "it holds a certificate, and a public key is needed here",
            "write its public key with `openssl x509 -in CERTIFICATE -noout -pubkey`",
            "own.crt",
            "x509 -in own.crt -noout -pubkey -out right.pub",
        ),
        (
            "another key",
            "the bundle is signed by a key that this host does not have",
            "if you trust its owner, add the public key: by `--public-key`",
            "other.pub",
            "pkey -in own.key -pubout -out right.pub",
        ),
    ] {
        Followed {
            name,
            message,
            hint,
            before: with(key),
            after: with("right.pub"),
        }
        .assert_mended_by(|| desk.openssl(act));
        fs::remove_file(desk.path("right.pub")).expect("the key is there");
    }
    for (name, message, hint, key, act) in [
        (
            "a short RSA key",
            "the RSA key has 1024 bits",
            "make a key with `openssl genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:3072 -out PRIVATE-KEY`",
            "small.pub",
            "genpkey -algorithm rsa -pkeyopt rsa_keygen_bits:3072 -out right.key",
        ),
        (
            "a key for images alone",
            "signs images, but no bundles",
            "use an RSA key, an Ed25519 key, or an ECDSA key on the curve P-256",
            "p384.pub",
            "genpkey -algorithm ed25519 -out right.key",
        ),
    ] {
        Followed {
            name,
            message,
            hint,
            before: with(key),
            after: words(&[
                "bundle",
                "verify",
                &desk.path("again.tar.zst"),
                "--public-key",
                &desk.path("right.pub"),
            ]),
        }
        .assert_mended_by(|| {
            desk.openssl(act);
            desk.openssl("pkey -in right.key -pubout -out right.pub");
            desk.make("again.tar.zst", &["--key", &desk.path("right.key")]);
        });
        fs::remove_file(desk.path("again.tar.zst")).expect("the bundle is there");
    }
    let unsigned = desk.make("unsigned.tar.zst", &[]);
    let verify = words(&["bundle", "verify", &unsigned, "--public-key", &desk.path("own.pub")]);
    Followed {
        name: "no signature",
        message: "is refused",
        hint: "make the bundle with `--key`, and the private half of a key of this host",
        before: verify.clone(),
        after: verify,
    }
    .assert_mended_by(|| {
        fs::remove_file(&unsigned).expect("the bundle is there");
        desk.make("unsigned.tar.zst", &["--key", &desk.path("own.key")]);
    });
}

#[test]
fn a_followed_hint_about_a_new_key_ends_its_message() {
    let desk = Desk::new();
    for name in ["old", "new"] {
        done(&words(&[
            "bundle",
            "keygen",
            &desk.path(&format!("{name}.key")),
            "--public",
            &desk.path(&format!("{name}.pub")),
        ]));
    }
    desk.openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.key");
    desk.openssl("pkey -in p384.key -pubout -out p384.pub");
    let sign = |new: &str, document: &str| {
        let (new, old, document) = (desk.path(new), desk.path("old.key"), desk.path(document));
        words(&["bundle", "sign-key", &new, "--key", &old, "--to", &document])
    };
    Followed {
        name: "a document that hosts would not find",
        message: "hosts would not find a key document called `",
        hint: "end its name with `.json`",
        before: sign("new.pub", "new-key.txt"),
        after: sign("new.pub", "new-key.json"),
    }
    .assert_mended();
    let with_keygen = |key: &str, public: &str| done(&words(&["bundle", "keygen", key, "--public", public]));
    let with_openssl = |algorithm: &str| {
        desk.openssl(&format!("genpkey -algorithm {algorithm} -out right.key"));
        desk.openssl("pkey -in right.key -pubout -out right.pub");
    };
    for (name, algorithm) in [
        ("a key of `keygen`", None),
        ("an RSA key", Some("rsa -pkeyopt rsa_keygen_bits:2048")),
        ("an ECDSA P-256 key", Some("EC -pkeyopt ec_paramgen_curve:P-256")),
    ] {
        Followed {
            name,
            message: "is of a kind that signs no bundles",
            hint: "make one with `landfall bundle keygen`; RSA and ECDSA P-256 are taken, too",
            before: sign("p384.pub", "right-key.json"),
            after: sign("right.pub", "right-key.json"),
        }
        .assert_mended_by(|| match algorithm {
            None => with_keygen(&desk.path("right.key"), &desk.path("right.pub")),
            Some(algorithm) => with_openssl(algorithm),
        });
        for file in ["right.key", "right.pub", "right-key.json"] {
            fs::remove_file(desk.path(file)).expect("the file is there");
        }
    }
}

#[test]
fn a_followed_hint_about_pieces_ends_its_message() {
    let desk = Desk::new();
    let split = |size: &str| desk.create("pieces.tar.zst", &["--split", size]);
    Followed {
        name: "too many pieces",
        message: "would be 3",
        hint: "use pieces of at least 1 MB",
        before: split("100B"),
        after: split("1MB"),
    }
    .assert_mended();
    let first = desk.make("site.tar.zst", &["--split", "100kB"]) + "_part00";
    let (second, away) = (desk.path("site.tar.zst_part01"), desk.path("away"));
    let verify = |file: &str| words(&["bundle", "verify", file]);
    fs::rename(&second, &away).expect("a piece");
    Followed {
        name: "a piece that is missing",
        message: "is not complete: `site.tar.zst_part01` is missing",
        hint: "copy all pieces into one directory and name any one of them",
        before: verify(&first),
        after: verify(&second),
    }
    .assert_mended_by(|| fs::rename(&away, &second).expect("a piece"));
    let copied = desk.path("site.tar.zst_part001");
    fs::copy(&second, &copied).expect("a piece");
    Followed {
        name: "a piece that is there twice",
        message: "are the same piece",
        hint: "keep the pieces of one file in a directory of their own",
        before: verify(&first),
        after: verify(&first),
    }
    .assert_mended_by(|| fs::rename(&copied, desk.path("another-file")).expect("a piece"));
    let whole = desk.make("whole.tar.zst", &[]);
    let bytes = fs::read(&whole).expect("the bundle");
    let cut = write(desk.directory.path(), "cut.tar.zst", &bytes[..bytes.len() / 2]);
    Followed {
        name: "a copy that was cut off",
        message: "is not complete: it has ",
        hint: "wait until the copy is finished, or copy it again",
        before: verify(&cut),
        after: verify(&cut),
    }
    .assert_mended_by(|| fs::write(&cut, &bytes).expect("a file"));
}

#[test]
fn a_followed_hint_about_inputs_of_a_bundle_ends_its_message() {
    let desk = Desk::new();
    let bundle = desk.make("site.tar.zst", &[]);
    let layout = format!("oci:{}", desk.path("layout"));
    let archive = format!("docker-archive:{}", desk.archive);
    let copy = |from: &str, to: &str| words(&["copy", from, to, "--progress=none"]);
    let registry = FakeRegistry::start();
    let host = registry.host().to_string();
    let nameless = docker_archive(&[(&[], &small_image("scale"))]);
    let nameless = format!("docker-archive:{}", write(desk.directory.path(), "scale.tar", nameless));
    let list = write(
        desk.directory.path(),
        "list",
        format!("{nameless} reg.example/shop/scale:1.0\n"),
    );
    let user_data = "examples/user-data-single.yaml";
    for followed in [
        Followed {
            name: "no image",
            message: "there is no image to put in",
            hint: "name a profile with `--profile`, or an image with `--image`",
            before: words(&["bundle", "create", &desk.path("empty.tar.zst"), "--progress=none"]),
            after: desk.create("full.tar.zst", &[]),
        },
        Followed {
            name: "stdout",
            message: "is no file: a bundle is written at many places at once",
            hint: "name a file",
            before: words(&[
                "bundle",
                "create",
                "-",
                &format!("--image={archive}"),
                "--progress=none",
            ]),
            after: desk.create("file.tar.zst", &[]),
        },
        Followed {
            name: "another format",
            message: "is no bundle of Landfall",
            hint: "read it as `oci-archive:FILE` or `docker-archive:FILE`",
            before: words(&["bundle", "show", &desk.archive]),
            after: copy(&archive, &layout),
        },
        Followed {
            name: "an image that is not in it",
            message: "it holds no image `reg.example/shop/scale:1.0`",
            hint: "choose one of these: `reg.example/shop/till:1.0`",
            before: copy(&format!("bundle:{bundle}:reg.example/shop/scale:1.0"), &layout),
            after: copy(&format!("bundle:{bundle}:reg.example/shop/till:1.0"), &layout),
        },
        Followed {
            name: "a bundle as the destination",
            message: "is a bundle, and no image is added to one",
            hint: "make a new one: `landfall bundle create FILE --image IMAGE`",
            before: copy(&archive, &format!("bundle:{bundle}")),
            after: words(&[
                "bundle",
                "create",
                &desk.path("new.tar.zst"),
                "--image",
                &archive,
                "--progress=none",
            ]),
        },
        Followed {
            name: "nothing to push",
            message: "it is not said which images are pushed to where",
            hint: "name a user-data and a profile, or a bundle with `--bundle` and a registry with `--to`",
            before: words(&["push", "--progress=none"]),
            after: words(&[
                "push",
                "--progress=none",
                "--bundle",
                &bundle,
                "--to",
                &host,
                &format!("--insecure={host}"),
            ]),
        },
        Followed {
            name: "an image without a name",
            message: "has no full name",
            hint: "give it one: a line `LOCATION NAME` in the file of `--from-file`",
            before: words(&[
                "bundle",
                "create",
                &desk.path("named.tar.zst"),
                "--image",
                &nameless,
                "--progress=none",
            ]),
            after: words(&[
                "bundle",
                "create",
                &desk.path("named.tar.zst"),
                "--from-file",
                &list,
                "--progress=none",
            ]),
        },
        Followed {
            name: "a format without files of its own",
            message: "there is no file of its own for kubeadm",
            hint: "shows what belongs into the cluster's configuration",
            before: words(&["redirect", "apply", "--for", "kubeadm", "--user-data", user_data]),
            after: words(&["redirect", "render", "--for", "kubeadm", "--user-data", user_data]),
        },
    ] {
        followed.assert_mended();
    }
    let inventory = write(desk.directory.path(), "shop.json", "{}");
    let state = desk.path("state");
    done(&words(&[
        "bundle",
        "load",
        &bundle,
        "--root",
        &state,
        "--progress=none",
    ]));
    let delta = desk.create("delta.tar.zst", &["--for", &inventory]);
    Followed {
        name: "no inventory",
        message: "it is no inventory and no receipt",
        hint: "write one at the site: `landfall inventory export`",
        before: delta.clone(),
        after: delta,
    }
    .assert_mended_by(|| {
        fs::remove_file(&inventory).expect("it was written");
        done(&words(&["inventory", "export", "--root", &state, "--to", &inventory]));
    });
}

#[test]
fn a_followed_hint_about_a_path_ends_its_message() {
    let desk = Desk::new();
    let copy = |to: &str| {
        let from = format!("docker-archive:{}", desk.archive);
        words(&["copy", &from, &format!("oci-archive:{to}"), "--progress=none"])
    };
    let socket = desk.path("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let circle = desk.path("circle");
    symlink(&circle, &circle).expect("a link");
    for (name, message, path) in [
        ("a socket", "is a socket, which is never replaced", socket),
        (
            "a file as a directory",
            "is no directory",
            format!("{}/out.tar", desk.archive),
        ),
        ("a circle", "leads in a circle of links", circle),
    ] {
        Followed {
            name,
            message,
            hint: "name another path",
            before: copy(&path),
            after: copy(&desk.path("out.tar")),
        }
        .assert_mended();
    }
    if !rustix::process::getuid().is_root() {
        return;
    }
    // Root may write everywhere: the program runs as another user.
    let as_nobody = |arguments: &[&str]| {
        let mut command = landfall(arguments);
        command.uid(65_534).gid(65_534);
        command
    };
    let set = |path: &str, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its owner");
    set(&desk.directory.path().display().to_string(), 0o755);
    set(&desk.archive, 0o644);
    let open = desk.path("open");
    fs::create_dir(&open).expect("a directory");
    set(&open, 0o777);
    Followed {
        name: "a directory of root",
        message: "cannot be written",
        hint: "name a path in a directory that this user may write",
        before: copy(&desk.path("closed.tar")),
        after: copy(&format!("{open}/out.tar")),
    }
    .assert_mended_in(as_nobody, || {});
    let profile = "metadata: {name: shop}\nspec:\n  template:\n    packs: []\n";
    let profile = write(desk.directory.path(), "profile.yaml", profile);
    set(&profile, 0o600);
    let validate = words(&["validate", "--profile", &profile]);
    let user = std::cell::Cell::new(65_534);
    let as_user = |arguments: &[&str]| {
        let mut command = landfall(arguments);
        command.uid(user.get());
        command
    };
    Followed {
        name: "a file of root",
        message: "Permission denied",
        hint: "run as a user that may read the file",
        before: validate.clone(),
        after: validate,
    }
    .assert_mended_in(as_user, || user.set(0));
}

/// Adds a layer that is fetched from an address of its own.
fn with_foreign_layer(image: &ImageFixture) -> ImageFixture {
    let mut image = image.clone();
    let (former, manifest) = image.manifests.pop().expect("a manifest");
    let mut document: serde_json::Value = serde_json::from_slice(&manifest).expect("a manifest is JSON");
    document["layers"].as_array_mut().expect("layers").push(json!({
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": digest_of(b"base"), "size": 4, "urls": ["https://example.com/base"],
    }));
    let manifest = document.to_string().into_bytes();
    image.root = Descriptor::new(&former.media_type, digest_of(&manifest), manifest.len() as u64);
    image.manifests.push((image.root.clone(), manifest.into()));
    image
}

#[test]
fn a_followed_hint_about_a_refused_manifest_ends_its_message() {
    let of = |architecture: &str| {
        let layer = [("app/till", architecture.as_bytes())];
        FixtureBuilder::new()
            .platform("linux", architecture)
            .gzip_layer(&layer)
            .build()
    };
    let source = FakeRegistry::start();
    source.add_image("shop/till", "1.0", &multi_platform(&[of("amd64"), of("arm64")]));
    source.add_image("shop/base", "1.0", &with_foreign_layer(&small_image("base")));
    let host = source.host().to_string();
    let copy = |name: &str, to: &FakeRegistry, more: &[&str]| {
        let to = to.host().to_string();
        let (from, target) = (format!("{host}/shop/{name}:1.0"), format!("{to}/shop/{name}:1.0"));
        let insecure = [format!("--insecure={host}"), format!("--insecure={to}")];
        let fixed = ["copy", &from, &target, "--progress=none", &insecure[0], &insecure[1]];
        words(&[&fixed, more].concat())
    };
    let refuse = |to: &FakeRegistry, code: &str| {
        let body = format!(r#"{{"errors": [{{"code": "{code}", "message": "refused"}}]}}"#);
        to.inject(Fault::once("/manifests/1.0", Effect::Status(400, Vec::new(), body)).method("PUT"));
    };
    let whole = FakeRegistry::start();
    refuse(&whole, "MANIFEST_BLOB_UNKNOWN");
    Followed {
        name: "a registry that takes whole indexes alone",
        message: "MANIFEST_BLOB_UNKNOWN",
        hint: "copy it whole, without `--platform`",
        before: copy("till", &whole, &["--platform=linux/amd64"]),
        after: copy("till", &whole, &[]),
    }
    .assert_mended();
    let strict = FakeRegistry::start();
    let other = FakeRegistry::start();
    refuse(&strict, "MANIFEST_INVALID");
    Followed {
        name: "a registry that takes no foreign layers",
        message: "it has layers that are fetched from addresses of their own",
        hint: "allow the layers' addresses in the registry (`validation.manifests.urls.allow` of Docker's), or use another",
        before: copy("base", &strict, &[]),
        after: copy("base", &other, &[]),
    }
    .assert_mended();
}
