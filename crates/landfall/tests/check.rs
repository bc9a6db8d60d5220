//! `landfall check` against registries that have some of the images.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use common::{run, shown};
use landfall_testkit::fake_registry::{Access, FakeRegistry, FakeRegistryOptions};
use landfall_testkit::image_builder::{ImageBuilder, multi_platform};

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

/// A site whose only external registry is this one.
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
        // Table columns were as wide as the real names.
        while text.contains("   ") {
            text = text.replace("   ", "  ");
        }
        text
    }
}

#[test]
fn what_is_missing_is_named_with_the_command_that_brings_it() {
    let registry = FakeRegistry::start();
    registry.add_image("mirror/quay.io/shop/till", "1.0", &ImageBuilder::new().build());
    let site = Site::new(&registry, "secret");
    insta::assert_snapshot!(site.check(&registry, &[]), @r#"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    present  quay.io/shop/till:1.0  REGISTRY/mirror/quay.io/shop/till:1.0  sha256:522c4590cd9b
    missing  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0

    missing: quay.io/shop/scale:1.0
      why: image `quay.io/shop/scale:1.0` cannot be fetched from registry `REGISTRY`: it does not have `REGISTRY/mirror/quay.io/shop/scale:1.0`
      fix: landfall copy quay.io/shop/scale:1.0 REGISTRY/mirror/quay.io/shop/scale:1.0 --insecure REGISTRY

    1 of 2 images are there, 1 missing
    "#);
    let requests = registry.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.method == "HEAD" || request.path == "/v2/"),
        "{requests:?}"
    );
}

#[test]
fn everything_there_is_a_yes() {
    let registry = FakeRegistry::start();
    let image = multi_platform(&[
        ImageBuilder::new().build(),
        ImageBuilder::new().platform("linux", "arm64").build(),
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
        ImageBuilder::new().build(),
        ImageBuilder::new().platform("linux", "arm64").build(),
    ]);
    registry.add_image("mirror/quay.io/shop/till", "1.0", &both);
    registry.add_image("mirror/quay.io/shop/scale", "1.0", &ImageBuilder::new().build());
    let site = Site::new(&registry, "secret");
    insta::assert_snapshot!(site.check(&registry, &["--platform", "linux/arm64"]), @r#"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    present  quay.io/shop/till:1.0  REGISTRY/mirror/quay.io/shop/till:1.0  sha256:7225e97735fe
    incomplete  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0  sha256:522c4590cd9b

    incomplete: quay.io/shop/scale:1.0
      why: it has nothing for linux/arm64
      fix: landfall copy quay.io/shop/scale:1.0 REGISTRY/mirror/quay.io/shop/scale:1.0 --insecure REGISTRY

    1 of 2 images are there, 1 without a platform
    "#);
}

#[test]
fn a_wrong_password_is_not_taken_for_a_missing_image() {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: "right".to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    let site = Site::new(&registry, "canary-7f3a9c");
    let output = site.check(&registry, &[]);
    assert!(!output.contains("canary"), "{output}");
    insta::assert_snapshot!(output, @r#"
    status 1
    --- stdout
    STATE  IMAGE  PULLED FROM  DIGEST
    unknown  quay.io/shop/till:1.0  REGISTRY/mirror/quay.io/shop/till:1.0
    unknown  quay.io/shop/scale:1.0  REGISTRY/mirror/quay.io/shop/scale:1.0

    unknown: quay.io/shop/till:1.0
      why: image `quay.io/shop/till:1.0` cannot be fetched from registry `REGISTRY`: it refuses the password of user `edge`
      fix: mend `stylus.registryCredentials.password` at DIRECTORY/user-data.yaml:6:15

    unknown: quay.io/shop/scale:1.0
      why: image `quay.io/shop/scale:1.0` cannot be fetched from registry `REGISTRY`: it refuses the password of user `edge`
      fix: mend `stylus.registryCredentials.password` at DIRECTORY/user-data.yaml:6:15

    0 of 2 images are there, 2 not known
    "#);
}
