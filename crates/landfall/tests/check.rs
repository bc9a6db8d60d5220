//! `landfall check` against registries that have some of the images.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use common::{landfall, run, shown};
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, Fault, LoggedRequest};
use landfall_testkit::image_builder::{FixtureBuilder, multi_platform};

const PROFILE: &str = r"
metadata: {name: shop}
spec:
  template:
    packs:
      - name: shop
        layer: addon
        type: manifest
        tag: 1.0.0
        values: |
          pack:
            content:
              images:
                - image: quay.io/shop/till:1.0
                - image: quay.io/shop/scale:1.0
";

/// Site with one external registry.
struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    fn new(registry: &FakeRegistry, password: &str) -> Site {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let user_data = format!(
            "#cloud-config\nstylus:\n  registryCredentials:\n    domain: {}/mirror\n    username: edge\n    password: {password}\n    insecure: true\n",
            registry.host()
        );
        std::fs::write(directory.path().join("user-data.yaml"), user_data).expect("a file");
        std::fs::write(directory.path().join("profile.yaml"), PROFILE).expect("a file");
        Site { directory }
    }

    fn check(&self, registry: &FakeRegistry, more: &[&str]) -> String {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let (user_data, profile) = (path("user-data.yaml"), path("profile.yaml"));
        let mut arguments = vec!["check", "--user-data", &user_data, "--profile", &profile];
        arguments.extend(more);
        let mut text = shown(&run(&arguments)).replace(registry.host().as_str(), "REGISTRY");
        text = text.replace(&self.directory.path().display().to_string(), "DIRECTORY");
        // The width of the columns depends on the registry's port.
        while text.contains("   ") {
            text = text.replace("   ", "  ");
        }
        text
    }
}

/// Returns the options of a registry for user `edge` with this password.
fn mk_login(password: &str) -> FakeRegistryOptions {
    FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: password.to_owned(),
        },
        ..FakeRegistryOptions::default()
    }
}

#[test]
fn what_is_missing_is_named_with_the_command_that_brings_it() {
    let registry = FakeRegistry::start();
    registry.add_image("mirror/quay.io/shop/till", "1.0", &FixtureBuilder::new().build());
    let site = Site::new(&registry, "secret");
    insta::assert_snapshot!(site.check(&registry, &[]), @r#"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    present  quay.io/shop/till:1.0  REGISTRY/mirror/quay.io/shop/till:1.0  sha256:522c4590cd9b
    missing  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0

    missing: quay.io/shop/scale:1.0
      why: image `quay.io/shop/scale:1.0` cannot be fetched from registry `REGISTRY`: it does not have `REGISTRY/mirror/quay.io/shop/scale:1.0`
      fix: landfall push --user-data DIRECTORY/user-data.yaml --profile DIRECTORY/profile.yaml --image quay.io/shop/scale:1.0

    1 of 2 images there, 1 missing
    "#);
    let requests = registry.requests();
    // A HEAD that says "missing" is asked again by GET.
    let is_cheap = |request: &LoggedRequest| {
        request.method == "HEAD" || request.path == "/v2/" || request.path.contains("/scale/manifests/")
    };
    assert!(requests.iter().all(is_cheap), "{requests:?}");
}

#[test]
fn the_command_that_brings_an_image_does_so_as_it_is_printed() {
    let (origin, registry) = (
        FakeRegistry::start(),
        FakeRegistry::start_with(mk_login("canary-7f3a9c")),
    );
    origin.add_image("shop/till", "1.0", &FixtureBuilder::new().build());
    // Only the user-data has the login.
    let site = Site::new(&registry, "canary-7f3a9c");
    let host = origin.host();
    let profile = PROFILE
        .replace("quay.io/shop/till", &format!("{host}/shop/till"))
        .replace("                - image: quay.io/shop/scale:1.0\n", "");
    std::fs::write(site.directory.path().join("profile.yaml"), profile).expect("a file");
    let path = |name: &str| site.directory.path().join(name).display().to_string();
    let (user_data, profile) = (path("user-data.yaml"), path("profile.yaml"));
    let inputs = [
        "--user-data",
        &user_data,
        "--profile",
        &profile,
        "--insecure",
        host.as_str(),
    ];
    let check = || shown(&run(&[&["check"], &inputs[..]].concat()));
    let missing = check();
    assert!(
        missing.starts_with("status 1\n") && !missing.contains("canary"),
        "{missing}"
    );
    let fix = missing
        .lines()
        .find_map(|line| line.trim().strip_prefix("fix: landfall "));
    let words: Vec<&str> = fix.expect("a command").split(' ').collect();
    let fixed = shown(&run(&words));
    assert!(fixed.starts_with("status 0\n") && !fixed.contains("canary"), "{fixed}");
    let there = check();
    assert!(there.starts_with("status 0\n"), "{there}");

    let unknown = shown(&run(
        &[&["push"], &inputs[..], &["--image", "quay.io/shop/gone:1.0"]].concat()
    ));
    assert!(
        unknown.contains("the profiles have no image `quay.io/shop/gone:1.0`"),
        "{unknown}"
    );
}

#[test]
fn platforms_of_an_index_in_an_index_count_when_they_are_there() {
    let registry = FakeRegistry::start();
    let inner = multi_platform(&[
        FixtureBuilder::new().build(),
        FixtureBuilder::new().platform("linux", "arm64").build(),
    ]);
    let outer = multi_platform(&[inner, FixtureBuilder::new().platform("linux", "s390x").build()]);
    for name in ["till", "scale"] {
        registry.add_image(&format!("mirror/quay.io/shop/{name}"), "1.0", &outer);
    }
    let site = Site::new(&registry, "secret");
    let wanted = ["--platform", "linux/arm64", "--platform", "linux/s390x"];
    let output = site.check(&registry, &wanted);
    assert!(output.starts_with("status 0\n"), "{output}");
    let output = site.check(&registry, &["--platform", "linux/riscv64"]);
    assert!(output.contains("it has no image for linux/riscv64"), "{output}");
}

#[test]
fn everything_there_is_a_yes() {
    let registry = FakeRegistry::start();
    let image = multi_platform(&[
        FixtureBuilder::new().build(),
        FixtureBuilder::new().platform("linux", "arm64").build(),
    ]);
    for name in ["till", "scale"] {
        registry.add_image(&format!("mirror/quay.io/shop/{name}"), "1.0", &image);
    }
    let site = Site::new(&registry, "secret");
    let output = site.check(&registry, &["--platform", "linux/arm64", "-o", "json"]);
    assert!(output.starts_with("status 0\n"), "{output}");
    assert!(output.contains(r#""present": 2"#), "{output}");
}

#[test]
fn a_platform_that_an_image_lacks_is_found() {
    let registry = FakeRegistry::start();
    let both = multi_platform(&[
        FixtureBuilder::new().build(),
        FixtureBuilder::new().platform("linux", "arm64").build(),
    ]);
    registry.add_image("mirror/quay.io/shop/till", "1.0", &both);
    registry.add_image("mirror/quay.io/shop/scale", "1.0", &FixtureBuilder::new().build());
    let site = Site::new(&registry, "secret");
    insta::assert_snapshot!(site.check(&registry, &["--platform", "linux/arm64"]), @r#"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    present  quay.io/shop/till:1.0  REGISTRY/mirror/quay.io/shop/till:1.0  sha256:7225e97735fe
    incomplete  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0  sha256:522c4590cd9b

    incomplete: quay.io/shop/scale:1.0
      why: it has no image for linux/arm64
      fix: landfall push --user-data DIRECTORY/user-data.yaml --profile DIRECTORY/profile.yaml --image quay.io/shop/scale:1.0

    1 of 2 images there, 1 without a platform
    "#);
}

#[test]
fn a_wrong_password_is_not_taken_for_a_missing_image() {
    let registry = FakeRegistry::start_with(mk_login("right"));
    let site = Site::new(&registry, "canary-7f3a9c");
    let output = site.check(&registry, &[]);
    assert!(!output.contains("canary"), "{output}");
    insta::assert_snapshot!(output, @r#"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    unknown  quay.io/shop/till:1.0  REGISTRY/mirror/quay.io/shop/till:1.0
    unknown  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0

    unknown: 2 images: `quay.io/shop/till:1.0`, `quay.io/shop/scale:1.0`
      why: cannot be fetched from registry `REGISTRY`: it refuses the password of user `edge`
      fix: correct `stylus.registryCredentials.password` at DIRECTORY/user-data.yaml:6:15

    0 of 2 images there, 2 not known
    "#);
}

/// A file with logins is read for every image, and what is wrong with it is said once, with what to do about it.
#[test]
fn a_file_with_logins_that_cannot_be_used_is_told_once() {
    let registry = FakeRegistry::start_with(mk_login("right"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let host = registry.host();
    let images = ["a", "b", "c", "d"].map(|name| format!("                - image: {host}/shop/{name}:1\n"));
    let (head, _) = PROFILE.split_once("                - image").expect("images");
    std::fs::write(path("profile.yaml"), format!("{head}{}", images.concat())).expect("a file");
    let user_data =
        format!("#cloud-config\nstylus:\n  registryCredentials: {{domain: '{host}/mirror', insecure: true}}\n");
    std::fs::write(path("user-data.yaml"), user_data).expect("a file");
    std::fs::write(path("logins.json"), "{").expect("a file");
    let (profile, user_data, bundle) = (path("profile.yaml"), path("user-data.yaml"), path("site.tar.zst"));
    let inputs = [
        "--profile",
        &profile,
        "--user-data",
        &user_data,
        "--insecure",
        host.as_str(),
    ];
    for (file, wrong, advice) in [
        (
            "missing.json",
            "cannot read the logins in",
            "make the file readable, or name another",
        ),
        (
            "logins.json",
            "cannot use the logins in",
            "correct the file: it has docker's form",
        ),
    ] {
        let file = path(file);
        let shown_by = |command: &[&str]| shown(&run(&[command, &inputs, &["--credentials", &file]].concat()));
        for (command, times) in [
            (&["check"][..], 1),
            (&["push", "--progress", "none"], 1),
            (&["push"], 2),
        ] {
            let text = shown_by(command);
            assert!(text.starts_with("status 1\n"), "{text}");
            // The progress says it as well.
            assert_eq!(text.matches(wrong).count(), times, "{command:?}:\n{text}");
            assert_eq!(text.matches(advice).count(), 1, "{command:?}:\n{text}");
            assert!(text.contains(": 4 images: `"), "{command:?}:\n{text}");
        }
        let text = shown_by(&["bundle", "create", &bundle]);
        assert_eq!(text.matches(wrong).count(), 1, "{text}");
        assert!(text.contains("failed: 4 images: `"), "{text}");
    }
}

#[test]
fn a_check_that_is_stopped_blames_no_image_and_no_host() {
    // A registry that accepts a connection and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let host = silent.local_addr().expect("an address");
    let user_data =
        format!("#cloud-config\nstylus:\n  registryCredentials:\n    domain: {host}/mirror\n    insecure: true\n");
    std::fs::write(path("user-data.yaml"), user_data).expect("a file");
    std::fs::write(path("profile.yaml"), PROFILE).expect("a file");
    let (user_data, profile) = (path("user-data.yaml"), path("profile.yaml"));
    let child = landfall(&["check", "--user-data", &user_data, "--profile", &profile])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    let _connection = silent.accept().expect("the program asks");
    let stopped = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(stopped.expect("kill runs").success());
    let text = shown(&child.wait_with_output().expect("the program ends"));
    assert!(
        text.contains("0 of 2 images there, 2 not asked for, because the check was stopped"),
        "{text}"
    );
    assert!(text.starts_with("status 130\n"), "{text}");
    assert!(!text.contains("fix:") && !text.contains("this host failed"), "{text}");
}

#[test]
fn an_image_is_found_where_the_registry_answers_no_head() {
    let registry = FakeRegistry::start_with(mk_login("right"));
    for name in ["till", "scale"] {
        let image = FixtureBuilder::new().plain_layer(&[("name", name.as_bytes())]).build();
        registry.add_image(&format!("mirror/quay.io/shop/{name}"), "1.0", &image);
    }
    let not_found = Effect::Status(404, Vec::new(), String::new());
    registry.inject(Fault::once("/manifests/", not_found).method("HEAD").always());
    let text = Site::new(&registry, "right").check(&registry, &[]);
    assert!(text.contains("2 of 2 images there"), "{text}");
}
