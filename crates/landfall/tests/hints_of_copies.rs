//! Hints about copies, layouts, registries of ours and logins, followed: what a hint says is done, and its message is
//! gone.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::followed::{Followed, words, write};
use common::{CANARY, Running, landfall, run, run_command_with_stdin, shown};
use landfall_core::oci_types::Descriptor;
use landfall_testkit::fake_registry::{Access, FakeRegistry, FakeRegistryOptions};
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, docker_archive, multi_platform, oci_archive, small_image,
};

/// Returns one image of two platforms.
fn two_platforms() -> ImageFixture {
    let of = |architecture: &str| {
        let layer = [("app/till", architecture.as_bytes())];
        FixtureBuilder::new()
            .platform("linux", architecture)
            .gzip_layer(&layer)
            .build()
    };
    multi_platform(&[of("amd64"), of("arm64")])
}

#[test]
fn a_followed_hint_about_platforms_and_names_ends_its_message() {
    let image = two_platforms();
    let registry = FakeRegistry::start();
    registry.add_image("shop/till", "1.0", &image);
    registry.add_manifest("shop/half", "1.0", &image.root.media_type, image.root_bytes());
    let (amd64, bytes) = image
        .manifests
        .iter()
        .find(|(entry, _)| is_for(entry, "amd64"))
        .expect("an entry");
    registry.add_manifest("shop/half", amd64.digest.as_str(), &amd64.media_type, bytes.clone());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let host = registry.host();
    let (source, half) = (format!("{host}/shop/till:1.0"), format!("{host}/shop/half:1.0"));
    let copy = |from: &str, to: &str, more: &[&str]| {
        let insecure = format!("--insecure={host}");
        words(&[&["copy", from, to, "--progress=none", &insecure], more].concat())
    };
    let archive = write(
        directory.path(),
        "two.tar",
        docker_archive(&[
            (&["shop/till:1.0"], &small_image("till")),
            (&["shop/scale:1.0"], &small_image("scale")),
        ]),
    );
    let two = format!("docker-archive:{archive}");
    let to = |name: &str| format!("oci-archive:{}", path(name));
    let docker = format!("docker-archive:{}", path("docker.tar"));
    let entry = format!("{host}/shop/copy@{}", amd64.digest);
    let missing = path("no/such/directory");
    for followed in [
        Followed {
            name: "several images",
            message: "it holds 2 images",
            hint: "add `:` and one of these to its path: `shop/till:1.0`, `shop/scale:1.0`",
            before: copy(&two, &to("one.tar"), &[]),
            after: copy(&format!("{two}:shop/scale:1.0"), &to("one.tar"), &[]),
        },
        Followed {
            name: "no such platform",
            message: "it is for `linux/amd64`, `linux/arm64`",
            hint: "name one of these with `--platform`, or none for all",
            before: copy(&source, &to("platform.tar"), &["--platform=linux/s390x"]),
            after: copy(&source, &to("platform.tar"), &["--platform=linux/arm64"]),
        },
        Followed {
            name: "no such platform, and none is named",
            message: "it is for `linux/amd64`, `linux/arm64`",
            hint: "name one of these with `--platform`, or none for all",
            before: copy(&source, &to("all.tar"), &["--platform=linux/s390x"]),
            after: copy(&source, &to("all.tar"), &[]),
        },
        Followed {
            name: "an index in a docker archive",
            message: "a docker archive holds the image of one platform",
            hint: "choose one with `--platform`, or write an `oci-archive:`",
            before: copy(&source, &docker, &[]),
            after: copy(&source, &docker, &["--platform=linux/amd64"]),
        },
        Followed {
            name: "an index in an OCI archive",
            message: "a docker archive holds the image of one platform",
            hint: "choose one with `--platform`, or write an `oci-archive:`",
            before: copy(&source, &format!("{docker}.tar"), &[]),
            after: copy(&source, &to("docker-as-oci.tar"), &[]),
        },
        Followed {
            name: "the digest of one platform",
            message: "the destination names the digest",
            hint: "it is one platform of the source's image: name it in the source too, as `@sha256:",
            before: copy(&source, &entry, &[]),
            after: copy(&format!("{host}/shop/till@{}", amd64.digest), &entry, &[]),
        },
        Followed {
            name: "a platform that the source lacks",
            message: "linux/arm64",
            hint: "push the missing platforms to the source, or copy the others with `",
            before: copy(&half, &to("half.tar"), &[]),
            after: copy(&half, &to("half.tar"), &["--platform", "linux/amd64"]),
        },
    ] {
        followed.assert_mended();
    }
    Followed {
        name: "no such directory",
        message: "does not exist",
        hint: "make it first: `mkdir -p ",
        before: copy(&source, &format!("oci-archive:{missing}/till.tar"), &[]),
        after: copy(&source, &format!("oci-archive:{missing}/till.tar"), &[]),
    }
    .assert_mended_by(|| std::fs::create_dir_all(&missing).expect("a temporary directory"));
}

fn is_for(entry: &Descriptor, architecture: &str) -> bool {
    entry
        .platform
        .as_ref()
        .is_some_and(|platform| platform.architecture == architecture)
}

#[test]
fn a_followed_hint_about_a_layout_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = small_image("till");
    let archive = write(directory.path(), "till.tar", oci_archive(&[("shop/till:1.0", &image)]));
    let path = |name: &str| directory.path().join(name).display().to_string();
    let layout = format!("oci:{}", path("layout"));
    let copy = |from: &str, to: &str| words(&["copy", from, to, "--progress=none"]);
    let again = copy(&format!("oci-archive:{archive}"), &layout);
    let fill = || {
        let again: Vec<&str> = again.iter().map(String::as_str).collect();
        let filled = shown(&run(&again));
        assert!(filled.starts_with("status 0\n"), "{filled}");
    };
    fill();
    let (lost, _) = image.blobs.iter().last().expect("a blob");
    std::fs::remove_file(directory.path().join("layout/blobs/sha256").join(lost.hex())).expect("the blob is there");
    let to = format!("oci-archive:{}", path("out.tar"));
    Followed {
        name: "a layout that lost a blob",
        message: "it has no file `blobs/sha256/",
        hint: "copy the image into the layout again",
        before: copy(&layout, &to),
        after: copy(&layout, &to),
    }
    .assert_mended_by(fill);
}

#[test]
fn a_followed_hint_about_a_registry_of_ours_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let archive = write(
        directory.path(),
        "till.tar",
        docker_archive(&[(&["shop/till:1.0"], &small_image("till"))]),
    );
    let root = directory.path().join("root").display().to_string();
    let mut registry = Running::start(&["registry", "serve", "--root", &root, "--listen", "127.0.0.1:0"]);
    let host = registry.line().replace("http://", "");
    let insecure = format!("--insecure={host}");
    for tag in ["1.0", "1.1", "1.2"] {
        let (from, to) = (format!("docker-archive:{archive}"), format!("{host}/shop/till:{tag}"));
        let copied = shown(&run(&["copy", &from, &to, "--progress=none", &insecure]));
        assert!(copied.starts_with("status 0\n"), "{copied}");
    }
    let listed = shown(&run(&["registry", "ls", "--root", &root]));
    let digest = listed
        .split_whitespace()
        .find(|word| word.starts_with("sha256:"))
        .expect("a digest");
    let remove = |target: &str| words(&["registry", "rm", "--root", &root, target]);
    for followed in [
        Followed {
            name: "the host in a name",
            message: "is not a repository",
            hint: "give its name without the registry's host",
            before: remove(&format!("{host}/shop/till:1.2")),
            after: remove("shop/till:1.2"),
        },
        Followed {
            name: "no tag",
            message: "is not a tag",
            hint: "give `NAME:TAG`, as `ls` shows it",
            before: remove("shop/till:../1.1"),
            after: remove("shop/till:1.1"),
        },
        Followed {
            name: "no digest",
            message: "is not a digest",
            hint: "give `NAME@sha256:…`, as `ls` shows it",
            before: remove("shop/till@1.0"),
            after: remove(&format!("shop/till@{digest}")),
        },
    ] {
        followed.assert_mended();
    }
    // A second one on the same directory: the first one is stopped.
    let second = ["registry", "serve", "--root", &root, "--listen", "127.0.0.1:0"];
    let refused = shown(&run(&second));
    assert!(
        refused.contains("hint: stop that one first, or choose another directory"),
        "{refused}"
    );
    assert_eq!(registry.terminate(), Some(0));
    let mut registry = Running::start(&second);
    assert!(registry.line().starts_with("http://"));
    assert_eq!(registry.terminate(), Some(0));
    // On an address that others reach.
    let open = ["registry", "serve", "--root", &root, "--listen", "0.0.0.0:0"];
    let refused = shown(&run(&open));
    assert!(refused.contains("or listen on 127.0.0.1"), "{refused}");
}

#[test]
fn a_followed_hint_about_a_login_ends_its_message() {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: CANARY.to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    registry.add_image("shop/till", "1.0", &small_image("till"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let host = registry.host().to_string();
    let source = format!("{host}/shop/till:1.0");
    let to = format!("oci-archive:{}", directory.path().join("till.tar").display());
    let insecure = format!("--insecure={host}");
    let run_at_home = |arguments: &[&str], password: &str| {
        let mut command = landfall(arguments);
        command.env("HOME", directory.path());
        shown(&run_command_with_stdin(command, password))
    };
    let copy = ["copy", &source, &to, "--progress=none", &insecure];
    let before = run_at_home(&copy, "");
    assert!(before.contains("log in with `landfall login`"), "{before}");
    let login =
        |more: &[&str], password: &str| run_at_home(&[&["login", &host, "--insecure"], more].concat(), password);
    // Nobody can be asked: stdin is no terminal.
    let asked = login(&[], "");
    assert!(asked.contains("hint: give `--username`"), "{asked}");
    let asked = login(&["--username=edge"], "");
    assert!(asked.contains("hint: give `--password-stdin`"), "{asked}");
    let done = login(&["--username=edge", "--password-stdin"], CANARY);
    assert!(done.starts_with("status 0\n"), "{done}");
    let after = run_at_home(&copy, "");
    assert!(after.starts_with("status 0\n") && !after.contains("login"), "{after}");
    // The login was changed at the registry since.
    let config = directory.path().join(".docker/config.json");
    let kept = std::fs::read_to_string(&config).expect("the login is kept");
    std::fs::write(
        &config,
        kept.replace(&encode("edge", CANARY), &encode("edge", "canary-7f3a9c-old")),
    )
    .expect("a file");
    std::fs::remove_file(directory.path().join("till.tar")).expect("the archive is there");
    let before = run_at_home(&copy, "");
    assert!(before.contains("log in again with `landfall login`"), "{before}");
    let done = login(&["--username=edge", "--password-stdin"], CANARY);
    assert!(done.starts_with("status 0\n"), "{done}");
    let after = run_at_home(&copy, "");
    assert!(after.starts_with("status 0\n") && !after.contains("login"), "{after}");
}

fn encode(username: &str, password: &str) -> String {
    STANDARD.encode(format!("{username}:{password}"))
}
