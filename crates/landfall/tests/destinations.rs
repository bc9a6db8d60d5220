//! Destinations and sources of `landfall copy` that are files: what is there is looked at before anything moves.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{landfall, run, shown};
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, digest_of, multi_platform, oci_archive, tar_of};

fn mk_image(name: &str) -> ImageFixture {
    FixtureBuilder::new().plain_layer(&[("name", name.as_bytes())]).build()
}

/// A registry with an image, and a directory.
struct Site {
    origin: FakeRegistry,
    directory: tempfile::TempDir,
}

impl Site {
    fn new(image: &ImageFixture) -> Site {
        let origin = FakeRegistry::start();
        origin.add_image("shop/till", "1.0", image);
        Site {
            origin,
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn source(&self) -> String {
        format!("{}/shop/till:1.0", self.origin.host())
    }

    fn copy(&self, from: &str, to: &str, more: &[&str]) -> Command {
        let insecure = format!("--insecure={}", self.origin.host());
        landfall(&[&["copy", from, to, "--progress=none", &insecure], more].concat())
    }

    /// Runs a copy that is refused, and returns its output without paths and addresses.
    fn refused(&self, from: &str, to: &str, more: &[&str]) -> String {
        let output = self.copy(from, to, more).output().expect("the program starts");
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let text = text[text.find("  why: ").expect("a reason")..].to_owned();
        let end = text.find("\n\n").expect("a summary");
        text[..end]
            .replace(&self.directory.path().display().to_string(), "DIR")
            .replace(self.origin.host().as_str(), "ORIGIN")
    }

    fn blobs_read(&self) -> usize {
        let requests = self.origin.requests();
        requests
            .iter()
            .filter(|request| format!("{request:?}").contains("/blobs/"))
            .count()
    }
}

/// Checks that a file is an archive with this image.
fn assert_holds(file: &str, image: &ImageFixture) {
    let layout = format!("{file}-layout");
    let output = run(&[
        "copy",
        &format!("oci-archive:{file}"),
        &format!("oci:{layout}"),
        "--progress=none",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let index = std::fs::read_to_string(Path::new(&layout).join("index.json")).expect("an index");
    assert!(index.contains(image.root.digest.as_str()), "{index}");
}

#[test]
fn a_link_stays_and_its_target_is_replaced() {
    let image = mk_image("till");
    let site = Site::new(&image);
    std::fs::write(site.path("target.tar"), "old").expect("a file");
    symlink("target.tar", site.path("link.tar")).expect("a link");
    symlink("new.tar", site.path("to-nothing.tar")).expect("a link");
    for (name, target) in [("link.tar", "target.tar"), ("to-nothing.tar", "new.tar")] {
        let to = format!("oci-archive:{}", site.path(name));
        let output = site
            .copy(&site.source(), &to, &[])
            .output()
            .expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        let link = std::fs::symlink_metadata(site.path(name)).expect("it is there");
        assert!(link.is_symlink(), "{name}");
        assert_holds(&site.path(target), &image);
    }
}

#[test]
fn pipes_and_devices_are_written_through() {
    let image = mk_image("till");
    let site = Site::new(&image);
    let fifo = site.path("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .expect("mkfifo starts")
            .success()
    );
    let out = std::fs::File::create(site.path("out.tar")).expect("a file");
    let mut reader = Command::new("cat").arg(&fifo).stdout(out).spawn().expect("cat starts");
    let to = format!("oci-archive:{fifo}");
    let output = site
        .copy(&site.source(), &to, &[])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert!(reader.wait().expect("cat ends").success());
    let kind = std::fs::symlink_metadata(&fifo).expect("it is there").file_type();
    assert!(kind.is_fifo(), "{kind:?}");
    assert_holds(&site.path("out.tar"), &image);

    // A link, so that a mistake replaces the link and not the device.
    symlink("/dev/null", site.path("null")).expect("a link");
    let to = format!("docker-archive:{}", site.path("null"));
    let output = site
        .copy(&site.source(), &to, &[])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let device = std::fs::metadata(site.path("null")).expect("it is there").file_type();
    assert!(device.is_char_device(), "{device:?}");
}

#[test]
fn an_archive_goes_to_stdout_and_comes_from_stdin() {
    let image = mk_image("till");
    let site = Site::new(&image);
    for to in ["oci-archive:-", "docker-archive:/dev/stdout"] {
        let output = site
            .copy(&site.source(), to, &["-o", "json"])
            .output()
            .expect("the program starts");
        let report = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{report}");
        assert!(
            report.contains(r#""state": "copied""#),
            "the report is on stderr: {report}"
        );
        std::fs::write(site.path("out.tar"), &output.stdout).expect("a file");
        assert_holds(&site.path("out.tar"), &image);
        std::fs::remove_dir_all(site.path("out.tar-layout")).expect("it was there");

        let into = format!("oci-archive:{}", site.path("again.tar"));
        let mut child = site
            .copy("oci-archive:-", &into, &[])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(&output.stdout).expect("the program reads stdin");
        drop(stdin);
        assert_eq!(
            child.wait_with_output().expect("the program ends").status.code(),
            Some(0)
        );
        assert_holds(&site.path("again.tar"), &image);
        std::fs::remove_dir_all(site.path("again.tar-layout")).expect("it was there");
    }
    assert!(!Path::new(env!("CARGO_MANIFEST_DIR")).join("../../-").exists());
}

#[test]
fn a_path_that_cannot_be_written_is_refused_before_anything_moves() {
    let site = Site::new(&mk_image("till"));
    std::fs::create_dir(site.path("inner")).expect("a directory");
    std::fs::write(site.path("file"), "x").expect("a file");
    let refused =
        |transport: &str, name: &str| site.refused(&site.source(), &format!("{transport}:{}", site.path(name)), &[]);
    insta::assert_snapshot!(refused("oci-archive", "inner"), @r"
      why: cannot write `oci-archive:DIR/inner`: `DIR/inner` is a directory, which is never replaced
      fix: name a file in it: `DIR/inner/NAME`
    ");
    insta::assert_snapshot!(refused("docker-archive", "missing/a.tar"), @r"
      why: cannot write `docker-archive:DIR/missing/a.tar`: the directory `DIR/missing` does not exist
      fix: make it first: `mkdir -p DIR/missing`
    ");
    insta::assert_snapshot!(refused("oci", "file"), @r"
      why: cannot write `oci:DIR/file`: `DIR/file` is no directory
      fix: name another path
    ");
    assert!(site.origin.requests().is_empty());
    assert_eq!(std::fs::read(site.path("file")).expect("it is there"), b"x");
}

#[test]
fn content_that_a_docker_archive_cannot_hold_is_refused_from_its_manifests() {
    let index = multi_platform(&[
        mk_image("a"),
        FixtureBuilder::new()
            .platform("linux", "arm64")
            .plain_layer(&[("a", b"b")])
            .build(),
    ]);
    let site = Site::new(&index);
    let to = format!("docker-archive:{}", site.path("a.tar"));
    let text = "
      why: cannot write the image to the archive `DIR/a.tar`: a docker archive holds the image of one platform, and this is an index of 2 images
      fix: choose one with `--platform`, or write an `oci-archive:`
    ";
    let expected: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    for more in [&[][..], &["--dry-run"]] {
        let refused = site.refused(&site.source(), &to, more);
        assert_eq!(refused.lines().map(str::trim).collect::<Vec<_>>(), expected);
    }
    assert_eq!(site.blobs_read(), 0);
    let output = site.copy(&site.source(), &to, &["--platform=linux/arm64"]).output();
    assert_eq!(output.expect("the program starts").status.code(), Some(0));

    let config = b"{}";
    let manifest = format!(
        r#"{{"schemaVersion":2,"artifactType":"application/vnd.example.chart","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{}","size":2}},"layers":[]}}"#,
        digest_of(config)
    );
    let digest = digest_of(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":{}}}]}}"#,
        manifest.len()
    );
    let blob = |digest: &landfall_core::reference::Digest| format!("blobs/sha256/{}", digest.hex());
    let tar = tar_of([
        ("index.json".to_owned(), index.as_bytes()),
        (blob(&digest), manifest.as_bytes()),
        (blob(&digest_of(config)), config),
    ]);
    std::fs::write(site.path("chart.tar"), tar).expect("a file");
    let from = format!("oci-archive:{}", site.path("chart.tar"));
    insta::assert_snapshot!(site.refused(&from, &format!("docker-archive:{}", site.path("b.tar")), &[]), @r"
      why: cannot write the image to the archive `DIR/b.tar`: a docker archive holds container images only, and this is an artifact of the type `application/vnd.example.chart`
      fix: write an `oci-archive:`
    ");
}

#[test]
fn a_digest_in_the_destination_has_to_be_that_of_the_image() {
    let index = multi_platform(&[
        mk_image("a"),
        FixtureBuilder::new()
            .platform("linux", "arm64")
            .plain_layer(&[("a", b"b")])
            .build(),
    ]);
    let site = Site::new(&index);
    let host = site.origin.host();
    let other = format!("sha256:{}", "1".repeat(64));
    let entry = index.manifests[0].0.digest.to_string();
    let known = |text: String| {
        text.replace(&other, "OTHER")
            .replace(&entry, "ENTRY")
            .replace(index.root.digest.as_str(), "INDEX")
    };
    let before = site.origin.requests().len();
    for destination in [
        format!("{host}/d/img:t@{other}"),
        format!("oci:{}:reg/a:1@{other}", site.path("layout")),
    ] {
        let refused = known(site.refused(&site.source(), &destination, &[])).replace("oci:DIR/layout:reg/a", "PLACE");
        assert!(
            refused.contains("the destination names the digest `OTHER`, and the source has `INDEX`\n"),
            "{refused}"
        );
    }
    let destination = format!("{host}/d/img@{entry}");
    let refused = known(site.refused(&site.source(), &destination, &["--platform=linux/amd64"]));
    insta::assert_snapshot!(refused, @r"
      why: cannot copy `ORIGIN/d/img@ENTRY`: the destination names the digest `ENTRY`, and the source has `INDEX`; `--platform` leaves the index and its digest as they are
      fix: it is one platform of the source's image: name it in the source too, as `@ENTRY`
    ");
    let written: Vec<_> = site.origin.requests()[before..]
        .iter()
        .map(|request| format!("{request:?}"))
        .filter(|request| request.contains("PUT") || request.contains("POST") || request.contains("PATCH"))
        .collect();
    assert!(written.is_empty(), "{written:?}");
    // The advice leads to the end.
    let from = format!("{host}/shop/till@{entry}");
    for (from, to) in [
        (from.as_str(), destination),
        (&site.source(), format!("{host}/d/img:t@{}", index.root.digest)),
    ] {
        let output = site.copy(from, &to, &[]).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    }
}

#[test]
fn layouts_and_archives_are_chosen_from_by_the_same_names() {
    let site = Site::new(&mk_image("till"));
    let (one, two) = (mk_image("one"), mk_image("two"));
    let named = oci_archive(&[("v1", &one), ("quay.io/a/b:v2", &two)]);
    std::fs::write(site.path("a.tar"), &named).expect("a file");
    let layout = site.path("lay");
    std::fs::create_dir(&layout).expect("a directory");
    let unpack = Command::new("tar")
        .args(["-xf", &site.path("a.tar"), "-C", &layout])
        .status();
    assert!(unpack.expect("tar starts").success());
    for place in [format!("oci-archive:{}", site.path("a.tar")), format!("oci:{layout}")] {
        for (number, (choice, expected)) in [
            ("v1".to_owned(), &one),
            ("quay.io/a/b:v2".to_owned(), &two),
            ("v2".to_owned(), &two),
            ("@1".to_owned(), &two),
            (two.root.digest.to_string(), &two),
        ]
        .into_iter()
        .enumerate()
        {
            let to = site.path(&format!("{}-{number}.tar", place.len()));
            let output = run(&[
                "copy",
                &format!("{place}:{choice}"),
                &format!("oci-archive:{to}"),
                "--progress=none",
            ]);
            assert_eq!(output.status.code(), Some(0), "{place} {choice}: {}", shown(&output));
            assert_holds(&to, expected);
        }
        let refused = |from: &str| {
            site.refused(from, &format!("oci:{}", site.path("x")), &[])
                .replace(&place.replace(&site.path(""), "DIR/"), "PLACE")
        };
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused(&place), @r"
              why: cannot open `PLACE`: it holds 2 images
              fix: add `:` and one of these to its path: `v1`, `quay.io/a/b:v2`
            ");
            insta::assert_snapshot!(refused(&format!("{place}:v3")), @r"
              why: cannot open `PLACE:v3`: it holds no image `v3`
              fix: choose one of these: `v1`, `quay.io/a/b:v2`
            ");
        }
    }
}
