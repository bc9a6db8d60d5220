//! `landfall push` and `landfall copy` between registries, and from archives.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::path::Path;

use common::{Running, landfall, run, shown};
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, multi_platform, oci_archive};

/// Starts a registry that keeps its repositories apart, as real ones do.
fn strict_registry() -> FakeRegistry {
    FakeRegistry::start_with(FakeRegistryOptions {
        repositories_apart: true,
        ..FakeRegistryOptions::default()
    })
}

/// Makes an image; all of them have a common base layer.
fn mk_image(name: &str) -> ImageFixture {
    FixtureBuilder::new()
        .plain_layer(&[("base", &[7; 300_000])])
        .plain_layer(&[("name", name.as_bytes())])
        .build()
}

/// Returns the output of the program, without the registries' addresses and all padding.
fn show(arguments: &[&str], from: &FakeRegistry, to: &FakeRegistry) -> String {
    let mut text = shown(&run(arguments))
        .replace(from.host().as_str(), "ORIGIN")
        .replace(to.host().as_str(), "EXTERNAL");
    while text.contains("   ") {
        text = text.replace("   ", "  ");
    }
    text
}

fn write(directory: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("a file in a temporary directory");
    path.display().to_string()
}

#[test]
fn push_brings_every_image_to_where_the_plan_pulls_it() {
    let (origin, external) = (FakeRegistry::start(), strict_registry());
    for name in ["till", "scale"] {
        origin.add_image(&format!("shop/{name}"), "1.0", &mk_image(name));
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (host, external_host) = (origin.host(), external.host());
    let user_data = write(
        directory.path(),
        "user-data.yaml",
        format!(
            "#cloud-config\nstylus:\n  registryCredentials:\n    domain: {external_host}/mirror\n    insecure: true\n"
        ),
    );
    let profile = write(
        directory.path(),
        "profile.yaml",
        format!(
            "metadata: {{name: shop}}\nspec:\n  template:\n    packs:\n      - name: shop\n        layer: addon\n        \
             type: manifest\n        tag: 1.0.0\n        values: |\n          pack:\n            content:\n              \
             images:\n                - image: {host}/shop/till:1.0\n                - image: {host}/shop/scale:1.0\n"
        ),
    );
    let inputs = ["--user-data", &user_data, "--profile", &profile];
    let push = |more: &[&str]| {
        let arguments = [
            &["push"],
            &inputs[..],
            &["--insecure", host.as_str(), "--progress", "none", "--concurrency", "1"],
            more,
        ]
        .concat();
        show(&arguments, &origin, &external)
    };
    let port_in_path = host.as_str().replace(':', "_");
    let clean = |text: String| text.replace(&port_in_path, "ORIGIN_PATH");
    insta::assert_snapshot!(clean(push(&["--dry-run"])), @r#"
    status 0
    --- stdout
    STATE  FROM  TO  MOVED  MOUNTED  THERE
    to copy  ORIGIN/shop/till:1.0  EXTERNAL/mirror/ORIGIN_PATH/shop/till:1.0  296.77 KiB  0 B  0 B
    to copy  ORIGIN/shop/scale:1.0  EXTERNAL/mirror/ORIGIN_PATH/shop/scale:1.0  2.27 KiB  294.50 KiB  0 B

    2 images: 2 to copy, 0 unchanged, 0 failed; 299.04 KiB would be moved, 294.50 KiB mounted, 0 B there already
    "#);
    assert!(
        external
            .requests()
            .iter()
            .all(|request| matches!(request.method.as_str(), "HEAD" | "GET"))
    );
    // Either image may be the one that uploads the common base layer.
    let first = clean(push(&[]));
    let totals = "2 images: 2 copied, 0 unchanged, 0 failed; 299.04 KiB moved, 294.50 KiB mounted, 0 B there already\n";
    assert!(first.ends_with(totals), "{first}");
    insta::assert_snapshot!(clean(push(&[])), @r#"
    status 0
    --- stdout
    STATE  FROM  TO  MOVED  MOUNTED  THERE
    unchanged  ORIGIN/shop/till:1.0  EXTERNAL/mirror/ORIGIN_PATH/shop/till:1.0  0 B  0 B  0 B
    unchanged  ORIGIN/shop/scale:1.0  EXTERNAL/mirror/ORIGIN_PATH/shop/scale:1.0  0 B  0 B  0 B

    2 images: 0 copied, 2 unchanged, 0 failed; 0 B moved, 0 B mounted, 0 B there already
    "#);
    let check = [&["check"], &inputs[..]].concat();
    assert!(show(&check, &origin, &external).starts_with("status 0\n"));
}

#[test]
fn a_copy_repairs_our_registry_after_damaged_blobs_were_deleted() {
    let origin = FakeRegistry::start();
    let image = mk_image("till");
    origin.add_image("shop/till", "1.0", &image);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("registry");
    let root_text = root.to_str().expect("a UTF-8 path");
    let mut registry = Running::start(&["registry", "serve", "--root", root_text, "--listen", "127.0.0.1:0"]);
    let host = registry.line().replace("http://", "");
    let from = format!("{}/shop/till:1.0", origin.host());
    let to = format!("{host}/a/till:1.0");
    let copy = || {
        let origin_host = origin.host();
        let insecure = ["--insecure", origin_host.as_str(), "--insecure", &host];
        let output = run(&[&["copy", &from, &to, "-q"][..], &insecure].concat());
        assert!(output.status.success(), "{}", shown(&output));
        String::from_utf8(output.stdout).expect("a table")
    };
    let verify = |further: &[&str]| run(&[&["registry", "verify", "--root", root_text], further].concat());
    assert!(copy().contains("1 copied"));
    assert!(copy().contains("1 unchanged"));
    for digest in image.blobs.keys().chain([&image.root.digest]) {
        std::fs::write(root.join("blobs/sha256").join(digest.hex()), "rotten").expect("a blob of the registry");
        assert_eq!(verify(&["--delete-damaged"]).status.code(), Some(1), "{digest}");
        assert_eq!(verify(&[]).status.code(), Some(1), "{digest} is missing");
        assert!(copy().contains("1 copied"), "{digest}");
        assert_eq!(verify(&[]).status.code(), Some(0), "{digest}");
    }
}

#[test]
fn copy_takes_lists_archives_and_the_logins_of_docker() {
    let origin = FakeRegistry::start();
    let external = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "ann".to_owned(),
            password: "canary-7f3a9c".to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    let directory = tempfile::tempdir().expect("a temporary directory");
    origin.add_image("shop/till", "1.0", &mk_image("till"));
    let tar = oci_archive(&[("quay.io/shop/scale:1.0", &mk_image("scale"))]);
    let archive = write(directory.path(), "scale.tar", tar);
    let (host, external_host) = (origin.host(), external.host());
    let list = write(
        directory.path(),
        "images.txt",
        format!(
            "# two images\n{host}/shop/till:1.0 {external_host}/a/till:1.0\n\noci-archive:{archive} docker://{external_host}/a/scale:1.0\n"
        ),
    );
    let logins = format!(r#"{{"auths":{{"{external_host}":{{"username":"ann","password":"canary-7f3a9c"}}}}}}"#);
    write(directory.path(), "config.json", logins);
    let mut command = common::landfall(&[
        "copy",
        "--from-file",
        &list,
        "--insecure",
        host.as_str(),
        "--insecure",
        external_host.as_str(),
        "-o",
        "json",
    ]);
    command.env("DOCKER_CONFIG", directory.path());
    let output = command.output().expect("the program starts");
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(!text.contains("canary"), "{text}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
    assert_eq!(report["summary"]["copied"], 2);
    for name in ["till", "scale"] {
        let found = external.manifest(&format!("a/{name}"), "1.0").expect("it was pushed");
        assert_eq!(found, mk_image(name).root_bytes());
    }
}

#[test]
fn archives_and_layouts_may_be_named_without_a_directory() {
    let origin = FakeRegistry::start();
    origin.add_image("shop/till", "1.0", &mk_image("till"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (host, from) = (origin.host(), format!("{}/shop/till:1.0", origin.host()));
    for to in ["oci-archive:till.tar", "docker-archive:till-d.tar", "oci:images"] {
        for (from, to) in [(from.as_str(), to), (to, &format!("{to}-again"))] {
            let mut command = common::landfall(&["copy", from, to, "--insecure", host.as_str()]);
            command.current_dir(directory.path());
            let output = command.output().expect("the program starts");
            assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        }
    }
}

#[test]
fn a_registry_that_wants_all_platforms_is_met_by_the_command_that_is_printed() {
    let (origin, external) = (FakeRegistry::start(), FakeRegistry::start());
    let of = |architecture| {
        let image = FixtureBuilder::new().platform("linux", architecture);
        image.plain_layer(&[("name", b"till")]).build()
    };
    let arm64 = of("arm64");
    origin.add_image("shop/till", "1.0", &multi_platform(&[of("amd64"), arm64.clone()]));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let layout = format!("oci:{}", directory.path().display());
    let (from, to) = (
        format!("{}/shop/till:1.0", origin.host()),
        format!("{}/a/till:1.0", external.host()),
    );
    let (host, external_host) = (origin.host(), external.host());
    let insecure = ["--insecure", host.as_str(), "--insecure", external_host.as_str()];
    let copy = |words: &[&str]| run(&[&["copy"], words, &insecure[..]].concat());
    let fix = |from: &str| {
        let output = copy(&[from, &to, "--platform", "linux/arm64", "-o", "json"]);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON on stdout");
        report["images"][0]["fix"].as_str().expect("a fix").to_owned()
    };
    assert!(copy(&[&from, &layout]).status.success());
    for source in [&from, &layout] {
        let fix = fix(source);
        let command = fix.split('`').nth(3).expect("a command");
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        assert!(run(&words).status.success(), "{fix}");
        assert_eq!(
            external.manifest("a/till", "1.0").expect("it was pushed"),
            arm64.root_bytes()
        );
    }
}

#[test]
fn a_named_file_of_logins_and_a_proxy_are_used() {
    let origin = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "_json_key".to_owned(),
            password: r#"{"key":"canary-7f3a9c"}"#.to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    let external = FakeRegistry::start();
    origin.add_image("shop/till", "1.0", &mk_image("till"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let credentials = write(
        directory.path(),
        "credentials.json",
        r#"{"image":[{"endpoint":"registry.invalid","username":"_json_key","password":{"key":"canary-7f3a9c"}}]}"#,
    );
    let external_host = external.host();
    let destination = format!("{external_host}/a/till:1.0");
    let copy = |more: &[&str]| {
        let arguments = [
            &["copy", "registry.invalid/shop/till:1.0", &destination][..],
            &["--insecure", "registry.invalid", "--insecure", external_host.as_str()],
            &["--progress", "none"],
            more,
        ]
        .concat();
        let mut command = common::landfall(&arguments);
        // The name does not resolve: only the proxy, which is the registry itself here, knows it.
        for variable in ["http_proxy", "HTTPS_PROXY"] {
            command.env(variable, origin.url());
        }
        shown(&command.output().expect("the program starts")).replace(external_host.as_str(), "EXTERNAL")
    };
    let refused = copy(&[]);
    assert!(refused.contains("wants a login and none is configured"), "{refused}");
    let copied = copy(&["--credentials", &credentials]);
    assert!(copied.starts_with("status 0\n"), "{copied}");
    assert!(!copied.contains("canary"), "{copied}");
    assert_eq!(
        external.manifest("a/till", "1.0").expect("it was pushed"),
        mk_image("till").root_bytes()
    );
    let missing = copy(&["--credentials", "/nowhere/credentials.json"]);
    assert!(
        missing.contains("cannot read the logins in `/nowhere/credentials.json`"),
        "{missing}"
    );
}

/// The registry does not accept the token of another server. The test looks only at the request for the token.
#[test]
fn a_token_server_of_another_domain_sees_the_login_only_where_it_is_listed() {
    let elsewhere = FakeRegistry::start_with(FakeRegistryOptions {
        name: "localhost".to_owned(),
        ..FakeRegistryOptions::default()
    });
    let origin = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Bearer {
            login: Some(("ann".to_owned(), "canary-7f3a9c".to_owned())),
            realm: format!("{}/token", elsewhere.url()),
        },
        ..FakeRegistryOptions::default()
    });
    let directory = tempfile::tempdir().expect("a temporary directory");
    let host = origin.host();
    let credentials = write(
        directory.path(),
        "credentials.json",
        format!(r#"{{"image":[{{"endpoint":"{host}","username":"ann","password":"canary-7f3a9c"}}]}}"#),
    );
    let source = format!("{host}/shop/till:1.0");
    let target = format!("oci:{}/till", directory.path().display());
    let copy = |more: &[&str]| {
        let arguments = [
            &["copy", &source, &target, "--insecure", host.as_str()][..],
            &["--credentials", &credentials, "--progress", "none"],
            more,
        ]
        .concat();
        shown(&common::landfall(&arguments).output().expect("the program starts"))
    };
    let refused = copy(&[]);
    assert!(refused.contains("by `--token-server`"), "{refused}");
    assert!(elsewhere.requests().is_empty());
    copy(&["--token-server", &format!("{host}={}", elsewhere.host())]);
    assert!(elsewhere.requests()[0].authorization.is_some());
}

#[test]
fn what_cannot_be_copied_is_said_at_the_end_and_keeps_nothing_else_back() {
    let (origin, external) = (FakeRegistry::start(), FakeRegistry::start());
    origin.add_image("shop/till", "1.0", &mk_image("till"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (host, external_host) = (origin.host(), external.host());
    let list = write(
        directory.path(),
        "images.txt",
        format!("{host}/shop/gone:1.0 {external_host}/a/gone:1.0\n{host}/shop/till:1.0 {external_host}/a/till:1.0\n"),
    );
    let insecure = [
        "--insecure",
        host.as_str(),
        "--insecure",
        external_host.as_str(),
        "--progress",
        "none",
    ];
    let arguments = [&["copy", "--from-file", &list], &insecure[..]].concat();
    insta::assert_snapshot!(show(&arguments, &origin, &external), @r#"
    status 1
    --- stdout
    STATE  FROM  TO  MOVED  MOUNTED  THERE
    failed  ORIGIN/shop/gone:1.0  EXTERNAL/a/gone:1.0  0 B  0 B  0 B
    copied  ORIGIN/shop/till:1.0  EXTERNAL/a/till:1.0  296.77 KiB  0 B  0 B

    failed: EXTERNAL/a/gone:1.0
      why: cannot fetch manifest `shop/gone:1.0` from `ORIGIN`: the registry answers 404 Not Found: MANIFEST_UNKNOWN: manifest unknown
      fix: check the name and the tag

    2 images: 1 copied, 0 unchanged, 1 failed; 296.77 KiB moved, 0 B mounted, 0 B there already
    "#);
    assert!(external.manifest("a/till", "1.0").is_some());

    // The report counts the moved bytes of a failed image too.
    let no = Effect::Status(403, vec![], String::new());
    external.inject(Fault::once("/manifests/", no).method("PUT").always());
    let (source, destination) = (format!("{host}/shop/till:1.0"), format!("{external_host}/b/till:1.0"));
    let arguments = [&["copy", &source, &destination, "-o", "json"], &insecure[..]].concat();
    let report: serde_json::Value = serde_json::from_slice(&run(&arguments).stdout).expect("JSON on stdout");
    assert_eq!(report["images"][0]["state"], "failed", "{report}");
    let blobs = &report["images"][0]["blobs"];
    let bytes = blobs["movedBytes"].as_u64().unwrap_or_default() + blobs["skippedBytes"].as_u64().unwrap_or_default();
    assert!(bytes > 300_000, "{report}");
}

/// Makes an image for one platform.
fn mk_part(architecture: &str) -> ImageFixture {
    let image = FixtureBuilder::new().platform("linux", architecture);
    image.plain_layer(&[("program", architecture.as_bytes())]).build()
}

/// Makes an image for two platforms.
fn mk_index() -> ImageFixture {
    multi_platform(&["amd64", "arm64"].map(mk_part))
}

#[test]
fn a_layout_that_holds_a_part_of_an_index_says_what_is_missing_and_what_can_be_copied() {
    let (origin, external) = (FakeRegistry::start(), FakeRegistry::start());
    origin.add_image("shop/till", "1.0", &mk_index());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let layout = directory.path().join("layout").display().to_string();
    let copy = |from: &str, to: &str, more: &[&str]| {
        let insecure = [origin.host(), external.host()].map(|host| format!("--insecure={host}"));
        let mut arguments = vec!["copy", from, to, "--progress=none"];
        arguments.extend(insecure.iter().map(String::as_str));
        arguments.extend(more);
        show(&arguments, &origin, &external).replace(&layout, "LAYOUT")
    };
    let till = format!("{}/shop/till:1.0", origin.host());
    let destination = format!("{}/a/till:1.0", external.host());
    let place = format!("oci:{layout}");
    assert!(copy(&till, &place, &["--platform=linux/arm64"]).starts_with("status 0\n"));
    insta::assert_snapshot!(copy(&place, &destination, &[]), @r"
    status 1
    --- stdout
    STATE  FROM  TO  MOVED  MOUNTED  THERE
    failed  oci:LAYOUT  EXTERNAL/a/till:1.0  0 B  0 B  0 B

    failed: EXTERNAL/a/till:1.0
      why: cannot copy `EXTERNAL/a/till:1.0`: the layout `LAYOUT` has no manifest for `linux/amd64`, which the image's index names: cannot read `sha256:543dfa9f2efb8fcd76fcf0731d11c289350eeb37883d62933ff71829e1ca7f0d` from the layout `LAYOUT`: it has no file `blobs/sha256/543dfa9f2efb8fcd76fcf0731d11c289350eeb37883d62933ff71829e1ca7f0d`
      fix: push the missing platforms to the source, or copy the others with `--platform linux/arm64`

    1 image: 0 copied, 0 unchanged, 1 failed; 0 B moved, 0 B mounted, 0 B there already
    ");
    let again = format!("oci:{layout}-2");
    assert!(copy(&place, &again, &["--platform=linux/arm64"]).starts_with("status 0\n"));
}

#[test]
fn an_archive_of_one_platform_keeps_its_index_or_is_taken_after_a_followed_hint() {
    let external = FakeRegistry::start();
    let mut exported = mk_index();
    let absent = mk_part("amd64");
    exported.manifests.retain(|(part, _)| part.digest != absent.root.digest);
    exported.blobs.retain(|digest, _| !absent.blobs.contains_key(digest));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let tar = oci_archive(&[("quay.io/shop/till:1.0", &exported)]);
    let archive = write(directory.path(), "till.tar", tar);
    let insecure = format!("--insecure={}", external.host());
    let copy = |from: &str, to: &str, more: &[&str]| {
        let arguments = [&["copy", from, to, "--progress=none", &insecure], more].concat();
        show(&arguments, &external, &external)
            .replace("ORIGIN", "EXTERNAL")
            .replace(&directory.path().display().to_string(), "DIR")
    };
    let source = format!("oci-archive:{archive}");
    let layout = format!("oci:{}", directory.path().join("layout").display());
    insta::assert_snapshot!(copy(&source, &layout, &[]), @r"
    status 0
    --- stdout
    STATE  FROM  TO  MOVED  MOUNTED  THERE
    copied  oci-archive:DIR/till.tar  oci:DIR/layout  2.20 KiB  0 B  0 B

    in part: oci:DIR/layout
      without: `linux/amd64`, which `oci-archive:DIR/till.tar` does not hold

    1 image: 1 copied, 0 unchanged, 0 failed; 2.20 KiB moved, 0 B mounted, 0 B there already
    ");
    let index = std::fs::read_to_string(directory.path().join("layout/index.json")).expect("an index");
    assert!(index.contains(exported.root.digest.as_str()), "{index}");

    // A platform that was not asked for is not reported as missing.
    let asked = copy(&source, &format!("{layout}-2"), &["--platform=linux/arm64"]);
    assert!(asked.starts_with("status 0\n") && !asked.contains("in part"), "{asked}");

    let destination = format!("{}/a/till:1.0", external.host());
    insta::assert_snapshot!(copy(&source, &destination, &[]), @r"
    status 1
    --- stdout
    STATE  FROM  TO  MOVED  MOUNTED  THERE
    failed  oci-archive:DIR/till.tar  EXTERNAL/a/till:1.0  2.20 KiB  0 B  0 B

    failed: EXTERNAL/a/till:1.0
      why: cannot push manifest `a/till:1.0` to `EXTERNAL`: it was copied without some of its platforms, and the destination takes an index only with all of them: cannot push manifest `a/till:1.0` to `EXTERNAL`: the registry answers 400 Bad Request: MANIFEST_BLOB_UNKNOWN: sha256:543dfa9f2efb8fcd76fcf0731d11c289350eeb37883d62933ff71829e1ca7f0d
      fix: copy it from a source that has `linux/amd64` too, or from a bundle made with `--narrow rewrite`, or one platform in its place: `landfall copy oci-archive:DIR/till.tar:sha256:703565c5af43eb8cffb38efafd21b4e1533eb7bf7422af3d669c23748fa5f42b EXTERNAL/a/till:1.0 --insecure EXTERNAL`

    1 image: 0 copied, 0 unchanged, 1 failed; 2.20 KiB moved, 0 B mounted, 0 B there already
    ");
    // Both sources that the hint names.
    let origin = FakeRegistry::start();
    origin.add_image("shop/till", "1.0", &mk_index());
    let whole = format!("{}/shop/till:1.0", origin.host());
    let from_origin = format!("--insecure={}", origin.host());
    let complete = format!("{}/b/till:1.0", external.host());
    let copied = copy(&whole, &complete, &[&from_origin]);
    assert!(copied.starts_with("status 0\n"), "{copied}");
    let bundle = directory.path().join("till.tar.zst").display().to_string();
    let narrowed = [
        &from_origin,
        "--platform=linux/arm64",
        "--narrow=rewrite",
        "--progress=none",
    ];
    let made = run(&[&["bundle", "create", &bundle, "--image", &whole], &narrowed[..]].concat());
    assert!(made.status.success(), "{}", shown(&made));
    let rewritten = format!("{}/c/till:1.0", external.host());
    let copied = copy(&format!("bundle:{bundle}"), &rewritten, &[]);
    assert!(copied.starts_with("status 0\n"), "{copied}");

    let part = mk_part("arm64");
    let source = format!("oci-archive:{archive}:{}", part.root.digest);
    assert!(copy(&source, &destination, &[]).starts_with("status 0\n"));
    assert_eq!(
        external.manifest("a/till", "1.0").expect("it was pushed"),
        part.root_bytes()
    );
}

#[test]
fn a_stopped_push_says_so_in_one_line_and_ends_with_130() {
    // A registry that accepts a connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let host = silent.local_addr().expect("an address");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pairs: String = (0..3)
        .map(|number| {
            format!(
                "{host}/shop/till:{number} oci:{}/{number}\n",
                directory.path().display()
            )
        })
        .collect();
    let list = write(directory.path(), "images.txt", pairs);
    let insecure = format!("--insecure={host}");
    let child = landfall(&["copy", "--from-file", &list, &insecure, "--progress=none"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let _connection = silent.accept().expect("the program asks");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the program runs");
    let text = shown(&child.wait_with_output().expect("the program ends"));
    assert!(text.starts_with("status 130\n"), "{text}");
    assert!(
        text.ends_with("stopped: 0 of 3 done; run the same command again to go on\n"),
        "{text}"
    );
    assert!(!text.contains("why:") && !text.contains("failed:"), "{text}");
}
