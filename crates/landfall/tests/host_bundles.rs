//! `plan`, `explain`, `check` and `validate` for a host that is to have bundles.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use common::{run, shown};
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, multi_platform, oci_archive};

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

const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
";

/// Public key of another private key than [`KEY`].
const OTHER_KEY: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";

struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// Makes a site whose user-data has these lines.
    fn new(user_data: &str) -> Site {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let site = Site { directory };
        site.write("user-data.yaml", &format!("#cloud-config\n{user_data}\n"));
        site.write("profile.yaml", PROFILE);
        site.write("key.pem", KEY);
        site.write("other.pub", OTHER_KEY);
        site
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    /// Makes a bundle of images.
    fn bundle(&self, name: &str, images: &[(&str, &ImageFixture)], more: &[&str]) -> String {
        let archive = self.path("images.tar");
        std::fs::write(&archive, oci_archive(images)).expect("a file");
        let file = self.path(name);
        let sources: Vec<String> = images
            .iter()
            .map(|(image, _)| format!("oci-archive:{archive}:{image}"))
            .collect();
        let mut arguments = vec!["bundle", "create", &file, "--progress", "none"];
        sources.iter().for_each(|image| arguments.extend(["--image", image]));
        arguments.extend(more);
        let made = run(&arguments);
        assert_eq!(made.status.code(), Some(0), "{}", shown(&made));
        file
    }

    fn run(&self, command: &[&str], more: &[&str]) -> std::process::Output {
        let (user_data, profile) = (self.path("user-data.yaml"), self.path("profile.yaml"));
        let mut arguments = command.to_vec();
        arguments.extend(["--user-data", &user_data, "--profile", &profile]);
        arguments.extend(more);
        run(&arguments)
    }

    fn show(&self, command: &[&str], more: &[&str]) -> String {
        let mut text = shown(&self.run(command, more)).replace(&self.path(""), "");
        // The width of the columns depends on the directory.
        while text.contains("   ") {
            text = text.replace("   ", "  ");
        }
        text
    }
}

fn mk_image(name: &str) -> ImageFixture {
    FixtureBuilder::new()
        .platform("linux", "amd64")
        .plain_layer(&[("name", name.as_bytes())])
        .build()
}

/// Settings of an external registry where nobody listens.
const UNREACHABLE: &str = "stylus: {registryCredentials: {domain: \"127.0.0.1:1/mirror\", insecure: true}}";

#[test]
fn images_of_a_bundle_come_first_and_those_that_need_the_network_are_named() {
    let site = Site::new(UNREACHABLE);
    let till = mk_image("till");
    let file = site.bundle("site.tar.zst", &[("quay.io/shop/till:1.0", &till)], &[]);
    insta::assert_snapshot!(site.show(&["plan"], &["--bundle", &file]), @r"
    status 0
    --- stdout
    #  ROLE  IMAGE  PULLED FROM  WHY  BECOMES
    1  app  quay.io/shop/till:1.0  bundle:site.tar.zst  [1]  127.0.0.1:1/mirror/quay.io/shop/till:1.0
    2  app  quay.io/shop/scale:1.0  127.0.0.1:1/mirror/quay.io/shop/scale:1.0  [2]  the same

    [1] the bundle `site.tar.zst` has it: no network is needed
    [2] external registry `127.0.0.1:1/mirror` serves every image (user-data.yaml:2)
    bundles have 1 of 2 images; these need the network:
      quay.io/shop/scale:1.0
    2 images: 0 provider, 0 infrastructure, 2 application
    ");
    insta::assert_snapshot!(site.show(&["explain", "quay.io/shop/till:1.0"], &["--bundle", &file]), @r"
    status 0
    --- stdout
    quay.io/shop/till:1.0
      named: profile.yaml:14, pack shop, layer addon

    candidates, in order
      1. bundle:site.tar.zst:quay.io/shop/till:1.0
      why: the bundle `site.tar.zst` has it: no network is needed
      credentials: none
      2. 127.0.0.1:1/mirror/quay.io/shop/till:1.0
      why: external registry `127.0.0.1:1/mirror` serves every image (user-data.yaml:2)
      credentials: none

    a pod's image becomes
      once everything is in place: 127.0.0.1:1/mirror/quay.io/shop/till:1.0
    ");
    insta::assert_snapshot!(site.show(&["explain", "quay.io/shop/scale:1.0"], &["--bundle", &file]), @r"
    status 0
    --- stdout
    quay.io/shop/scale:1.0
      named: profile.yaml:15, pack shop, layer addon

    candidates, in order
      1. 127.0.0.1:1/mirror/quay.io/shop/scale:1.0
      why: external registry `127.0.0.1:1/mirror` serves every image (user-data.yaml:2)
      credentials: none
      no bundle has it: the network is needed

    a pod's image becomes
      once everything is in place: 127.0.0.1:1/mirror/quay.io/shop/scale:1.0
    ");
    let report = site.run(&["plan"], &["--bundle", &file, "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    assert_eq!(report["bundles"], serde_json::json!([file]));
    assert_eq!(report["summary"]["inBundles"], 1);
    let pull = &report["images"][0]["pull"];
    assert_eq!(
        (&pull[0]["place"], &pull[0]["bundle"]),
        (&"bundle".into(), &file.clone().into())
    );
    assert_eq!(
        (&pull[1]["place"], &pull[1]["bundle"]),
        (&"external".into(), &serde_json::Value::Null)
    );
}

#[test]
fn a_check_finds_images_in_bundles_and_names_those_that_are_nowhere() {
    let registry = FakeRegistry::start();
    registry.add_image("mirror/quay.io/shop/scale", "1.0", &mk_image("scale"));
    let site = Site::new(&format!(
        "stylus: {{registryCredentials: {{domain: \"{}/mirror\", insecure: true}}}}",
        registry.host()
    ));
    let till = mk_image("till");
    let file = site.bundle("site.tar.zst", &[("quay.io/shop/till:1.0", &till)], &[]);
    let show = |more: &[&str]| {
        let mut arguments = vec!["--bundle", file.as_str(), "--progress", "none"];
        arguments.extend(more);
        let text = site.show(&["check"], &arguments);
        text.replace(registry.host().as_str(), "REGISTRY")
    };
    insta::assert_snapshot!(show(&[]), @r"
    status 0
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    present  quay.io/shop/till:1.0  bundle:site.tar.zst  sha256:457b9006d399
    present  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0  sha256:3b1e1dbbf338

    2 of 2 images there, 1 in bundles
    ");
    let asked = registry.requests();
    assert!(asked.iter().all(|request| !request.path.contains("till")), "{asked:?}");
    // The image in the bundle has one platform only.
    insta::assert_snapshot!(show(&["--platform", "linux/arm64"]), @r"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    incomplete  quay.io/shop/till:1.0  bundle:site.tar.zst  sha256:457b9006d399
    incomplete  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0  sha256:3b1e1dbbf338

    incomplete: quay.io/shop/till:1.0
      why: it has no image for linux/arm64
      fix: make the bundle without `--platform`, or with all platforms of the site

    incomplete: quay.io/shop/scale:1.0
      why: it has no image for linux/arm64
      fix: landfall push --user-data user-data.yaml --profile profile.yaml --image quay.io/shop/scale:1.0

    to push all missing images: `landfall push` with the same inputs

    0 of 2 images there, 1 in bundles, 2 without a platform
    ");
    // Nothing is at the external registry any more.
    site.write("user-data.yaml", &format!("#cloud-config\n{UNREACHABLE}\n"));
    insta::assert_snapshot!(show(&[]), @r"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    present  quay.io/shop/till:1.0  bundle:site.tar.zst  sha256:457b9006d399
    unknown  quay.io/shop/scale:1.0  127.0.0.1:1/mirror/quay.io/shop/scale:1.0

    unknown: quay.io/shop/scale:1.0
      why: no bundle has it; then image `quay.io/shop/scale:1.0` cannot be fetched from registry `127.0.0.1:1`: it does not answer: the connection is refused: nothing listens there
      fix: make a bundle that has it, with `landfall bundle create`

    1 of 2 images there, 1 in bundles, 1 not known
    ");
}

#[test]
fn a_platform_that_was_left_out_of_a_bundle_is_missed() {
    let site = Site::new(UNREACHABLE);
    let mk_index = |name: &str| {
        let parts = ["amd64", "arm64"].map(|architecture| {
            let layer = [(name, architecture.as_bytes())];
            let part = FixtureBuilder::new().platform("linux", architecture);
            part.plain_layer(&layer).build()
        });
        multi_platform(&parts)
    };
    let (till, scale) = (mk_index("till"), mk_index("scale"));
    let images = [("quay.io/shop/till:1.0", &till), ("quay.io/shop/scale:1.0", &scale)];
    let file = site.bundle("site.tar.zst", &images, &["--platform", "linux/amd64"]);
    let check = |platform| {
        let more = [
            "--bundle",
            &file,
            "--platform",
            platform,
            "--progress",
            "none",
            "-o",
            "json",
        ];
        let output = site.run(&["check"], &more);
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (
            output.status.code(),
            report["images"][0]["state"].clone(),
            report["summary"]["inBundles"].clone(),
        )
    };
    assert_eq!(check("linux/amd64"), (Some(0), "present".into(), 2.into()));
    assert_eq!(check("linux/arm64"), (Some(1), "incomplete".into(), 2.into()));
}

#[test]
fn the_keys_of_the_user_data_decide_which_bundles_the_host_takes() {
    let key = OTHER_KEY.replace('\n', "\n        ");
    let site = Site::new(&format!(
        "{UNREACHABLE}\nlandfall:\n  bundles:\n    publicKeys:\n      - |\n        {key}"
    ));
    let till = mk_image("till");
    let images = [("quay.io/shop/till:1.0", &till)];
    let unsigned = site.bundle("unsigned.tar.zst", &images, &[]);
    let private = site.path("key.pem");
    let signed = site.bundle("signed.tar.zst", &images, &["--key", &private]);
    for command in [
        &["plan"][..],
        &["validate"],
        &["check"],
        &["explain", "quay.io/shop/till:1.0"],
    ] {
        for file in [&unsigned, &signed] {
            let output = site.run(command, &["--bundle", file]);
            let text = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command:?} {file}: {text}");
            assert!(
                text.contains(&format!("the host refuses the bundle `{file}`")),
                "{command:?}: {text}"
            );
        }
    }
    insta::assert_snapshot!(site.show(&["plan"], &["--bundle", &unsigned]), @r"
    status 2
    --- stderr
    error: the host refuses the bundle `unsigned.tar.zst`
      because: the bundle is not signed, and this host takes only signed ones
      hint: make the bundle with `--key`, and the private half of a key of this host
    ");
    insta::assert_snapshot!(site.show(&["plan"], &["--bundle", &signed]), @r"
    status 2
    --- stderr
    error: the host refuses the bundle `signed.tar.zst`
      because: the bundle is signed by a key that this host does not have: `a050837d85070582ccf7394b0988847cc312cb88259b894899f6f239cf1791a5`
      hint: if you trust its owner, add the public key: by `--public-key`, on a host in `landfall.bundles.publicKeys` or by a key document that a key of this host signed
    ");
    // The public key that belongs to it.
    let public = std::process::Command::new("openssl")
        .args(["pkey", "-pubout", "-in", &private, "-out", &site.path("key.pub")])
        .status();
    if public.is_ok_and(|status| status.success()) {
        let output = site.run(&["plan"], &["--bundle", &signed, "--public-key", &site.path("key.pub")]);
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    }
}

#[test]
fn a_key_that_lies_on_the_host_is_named_on_the_command_line() {
    let site = Site::new(&format!(
        "{UNREACHABLE}\nlandfall: {{bundles: {{publicKeys: [/etc/landfall/nowhere.pub]}}}}"
    ));
    let till = mk_image("till");
    let file = site.bundle("site.tar.zst", &[("quay.io/shop/till:1.0", &till)], &[]);
    insta::assert_snapshot!(site.show(&["plan"], &["--bundle", &file]), @r"
    status 2
    --- stderr
    error: the public key `/etc/landfall/nowhere.pub` of the user-data lies on the host, not here
      hint: name the file with this key by `--public-key`
    ");
}

#[test]
fn another_archive_is_no_bundle_of_a_host() {
    let site = Site::new(UNREACHABLE);
    let till = mk_image("till");
    drop(site.bundle("site.tar.zst", &[("quay.io/shop/till:1.0", &till)], &[]));
    let archive = site.path("images.tar");
    insta::assert_snapshot!(site.show(&["plan"], &["--bundle", &archive]), @r"
    status 2
    --- stderr
    error: `images.tar` is no bundle of Landfall: it does not begin with `landfall/bundle.json`
      hint: an agent takes bundles only: make one with `landfall bundle create --image oci-archive:…`, or load the file on the host with `landfall bundle load`
    ");
}

#[test]
fn palette_ignores_a_bundle_beside_an_external_registry_without_a_primary_one() {
    let site = Site::new(UNREACHABLE);
    let till = mk_image("till");
    let file = site.bundle("site.tar.zst", &[("quay.io/shop/till:1.0", &till)], &[]);
    insta::assert_snapshot!(site.show(&["validate"], &["--bundle", &file]), @r#"
    status 0
    --- stdout
    note[LF0325]: the bundle `site.tar.zst` beside an external registry, without a primary registry
     --> user-data.yaml:2:31
      |
    2 | stylus: {registryCredentials: {domain: "127.0.0.1:1/mirror", insecure: true}}
      |  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: Palette ignores bundles then; Landfall takes images from them first

    no errors, 1 note
    "#);
    insta::assert_snapshot!(site.show(&["plan"], &["--bundle", &file, "--compat", "palette"]), @r#"
    status 0
    --- stdout
    #  ROLE  IMAGE  PULLED FROM  WHY  BECOMES
    1  app  quay.io/shop/till:1.0  127.0.0.1:1/mirror/quay.io/shop/till:1.0  [1]  the same
    2  app  quay.io/shop/scale:1.0  127.0.0.1:1/mirror/quay.io/shop/scale:1.0  [1]  the same

    [1] external registry `127.0.0.1:1/mirror` serves every image (user-data.yaml:2)
    2 images: 0 provider, 0 infrastructure, 2 application
    --- stderr
    warning[LF0325]: the bundle `site.tar.zst` beside an external registry, without a primary registry
     --> user-data.yaml:2:31
      |
    2 | stylus: {registryCredentials: {domain: "127.0.0.1:1/mirror", insecure: true}}
      |  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: with `--compat palette` bundles are ignored
    "#);
}

#[test]
fn an_image_of_a_bundle_needs_no_registry() {
    let user_data = "stylus: {site: {name: x}}";
    let site = Site::new(user_data);
    let profile = format!(
        "{PROFILE}      - name: registry-connect\n        layer: addon\n        values: |\n          charts: {{registry-connect: {{config: {{content: {{sync: {{enable: false}}}}, registry: {{inClusterRegistry: {{credentials: []}}}}}}}}}}\n"
    );
    site.write("profile.yaml", &profile);
    let (till, scale) = (mk_image("till"), mk_image("scale"));
    let one = site.bundle("one.tar.zst", &[("quay.io/shop/till:1.0", &till)], &[]);
    let both = [("quay.io/shop/till:1.0", &till), ("quay.io/shop/scale:1.0", &scale)];
    let both = site.bundle("both.tar.zst", &both, &[]);
    insta::assert_snapshot!(site.show(&["validate"], &[]), @r"
    status 0
    --- stdout
    warning[LF0503]: `quay.io/shop/till:1.0` and 1 more cannot be pulled from any registry: `content.sync.enable` is false and no external registry is set
      --> profile.yaml:14:26
      |
    14 |  - image: quay.io/shop/till:1.0
      |  ^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: set `content.sync.enable: true`, or `stylus.registryCredentials`, or bring a bundle that has them, or push the images to the primary registry by hand

    0 errors, 1 warning
    ");
    insta::assert_snapshot!(site.show(&["validate"], &["--bundle", &one]), @r"
    status 0
    --- stdout
    warning[LF0503]: `quay.io/shop/scale:1.0` cannot be pulled from any registry: `content.sync.enable` is false and no external registry is set, and no bundle has them
      --> profile.yaml:15:26
      |
    15 |  - image: quay.io/shop/scale:1.0
      |  ^^^^^^^^^^^^^^^^^^^^^^
      |
      = hint: set `content.sync.enable: true`, or `stylus.registryCredentials`, or bring a bundle that has them, or push the images to the primary registry by hand

    0 errors, 1 warning
    ");
    insta::assert_snapshot!(site.show(&["validate"], &["--bundle", &both]), @r"
    status 0
    --- stdout
    no findings
    ");
}
