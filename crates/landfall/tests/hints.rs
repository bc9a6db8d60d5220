//! Hints of the program, followed: what a hint says is done, and its message is gone.

mod common;

use common::CANARY;
use common::followed::{Followed, words, write};
use landfall_net::certificate::{Validity, issue_certificate, make_authority};
use landfall_testkit::fake_registry::{Access, FakeRegistry, FakeRegistryOptions, FakeTls};
use landfall_testkit::image_builder::{docker_archive, small_image};
use secrecy::ExposeSecret as _;

fn profile(image: &str) -> String {
    format!(
        "metadata: {{name: shop}}\nspec:\n  template:\n    packs:\n      - name: shop\n        layer: addon\n        \
         type: manifest\n        tag: 1.0.0\n        values: |\n          pack:\n            content:\n              \
         images:\n                - image: {image}\n"
    )
}

fn user_data(registry: &FakeRegistry, more: &str) -> String {
    format!(
        "#cloud-config\nstylus:\n  registryCredentials:\n    domain: {}/mirror\n{more}",
        registry.host()
    )
}

/// Returns the lines of a registry's login.
fn login(password: &str) -> String {
    format!("    insecure: true\n    username: edge\n    password: {password}\n")
}

/// Starts a registry whose certificate a private authority signed. Returns the authority's certificate too.
fn private_registry() -> (FakeRegistry, String) {
    let now = jiff::Timestamp::now();
    let validity = Validity {
        not_before: now,
        not_after: now + jiff::SignedDuration::from_hours(1),
    };
    let authority = make_authority("a private authority", validity).expect("an authority");
    let pair = issue_certificate(&authority, &["127.0.0.1"], validity).expect("a certificate");
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        tls: Some(FakeTls {
            certificates: pair.certificate,
            key: pair.key.expose_secret().to_owned(),
        }),
        ..FakeRegistryOptions::default()
    });
    (registry, authority.certificate)
}

#[test]
fn a_followed_hint_of_a_check_ends_its_message() {
    let registry = FakeRegistry::start_with(FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: CANARY.to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    let open = FakeRegistry::start();
    let (private, authority) = private_registry();
    let pem = authority.replace('\n', "\n        ");
    let image = small_image("till");
    registry.add_image("mirror/quay.io/shop/till", "1.0", &image);
    private.add_image("mirror/quay.io/shop/till", "1.0", &image);
    open.add_image("mirror/quay.io/shop/till", "1.0", &image);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let profile = write(directory.path(), "profile.yaml", profile("quay.io/shop/till:1.0"));
    let check = |name: &str, text: String| {
        let path = write(directory.path(), name, text);
        words(&["check", "--user-data", &path, "--profile", &profile])
    };
    let right = user_data(&registry, &login(CANARY));
    for followed in [
        Followed {
            name: "wrong password",
            message: "it refuses the password of user `edge`",
            hint: "correct `stylus.registryCredentials.password` at ",
            before: check("wrong.yaml", user_data(&registry, &login("canary-7f3a9c-old"))),
            after: check("right.yaml", right.clone()),
        },
        Followed {
            name: "no login",
            message: "it asks for a login, and none is given",
            hint: "add `stylus.registryCredentials.username` and the password beside ",
            before: check("none.yaml", user_data(&registry, "    insecure: true\n")),
            after: check("given.yaml", right),
        },
        Followed {
            name: "missing authority",
            message: "signed by an authority that is not trusted here",
            hint: "add the PEM of the authority that signed it as `stylus.registryCredentials.certificates` beside ",
            before: check("untrusted.yaml", user_data(&private, "")),
            after: check(
                "trusted.yaml",
                user_data(&private, &format!("    certificates: |\n        {pem}\n")),
            ),
        },
        Followed {
            name: "plain HTTP",
            message: "speaks plain HTTP",
            hint: " to true, or serve the registry over TLS",
            before: check("tls.yaml", user_data(&open, "")),
            after: check("plain.yaml", user_data(&open, "    insecure: true\n")),
        },
    ] {
        followed.assert_mended();
    }

    let host = private.host().to_string();
    private.add_image("shop/till", "1.0", &image);
    let trusting = format!(
        "#cloud-config\nstylus:\n  site:\n    caCerts:\n    - |\n      {}\nlandfall:\n  primary:\n    endpoint: 'vip:30003'\n",
        authority.replace('\n', "\n      ")
    );
    let trusting = write(directory.path(), "trusting.yaml", trusting);
    let check = |name: &str, sync: bool| {
        let connect = format!(
            "      - name: registry-connect\n        layer: addon\n        type: manifest\n        tag: 1.0.0\n        values: |\n          \
             charts:\n            registry-connect:\n              config:\n                content: {{sync: {{enable: {sync}}}}}\n                \
             registry:\n                  inClusterRegistry: {{credentials: [{{username: u, password: {CANARY}}}]}}\n"
        );
        let text = self::profile(&format!("{host}/shop/till:1.0")) + &connect;
        let path = write(directory.path(), name, text);
        words(&["check", "--user-data", &trusting, "--profile", &path])
    };
    Followed {
        name: "no sync from the origin",
        message: "cannot be fetched from any registry: sync from the origin is off",
        hint: "push it to the primary registry by hand, or set `content.sync.enable: true` in the registry-connect pack",
        before: check("off.yaml", false),
        after: check("on.yaml", true),
    }
    .assert_mended();
}

#[test]
fn a_followed_hint_of_a_copy_ends_its_message() {
    let registry = FakeRegistry::start();
    let image = small_image("till");
    registry.add_image("shop/till", "1.0", &image);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let host = registry.host();
    let source = format!("{host}/shop/till:1.0");
    let insecure = format!("--insecure={host}");
    let archive = write(
        directory.path(),
        "till.tar",
        docker_archive(&[(&["shop/till:1.0"], &image)]),
    );
    let copy = |from: &str, to: &str| words(&["copy", from, to, "--progress=none", &insecure]);
    let to_file = format!("oci-archive:{}", path("out.tar"));
    let digest = image.root.digest.as_str();
    let other = format!("sha256:{}", "0".repeat(64));
    for followed in [
        Followed {
            name: "plain HTTP",
            message: "the server speaks plain HTTP",
            hint: "`--insecure ",
            before: words(&["copy", &source, &to_file, "--progress=none"]),
            after: copy(&source, &to_file),
        },
        Followed {
            name: "the destination is a directory",
            message: "is a directory",
            hint: "name a file in it",
            before: copy(&source, &format!("oci-archive:{}", directory.path().display())),
            after: copy(&source, &format!("oci-archive:{}", path("in-it.tar"))),
        },
        Followed {
            name: "no such name in an archive",
            message: "shop/scale:1.0",
            hint: "shop/till:1.0",
            before: copy(&format!("docker-archive:{archive}:shop/scale:1.0"), &to_file),
            after: copy(&format!("docker-archive:{archive}:shop/till:1.0"), &to_file),
        },
        Followed {
            name: "another digest in the destination",
            message: "0000000000000000",
            hint: "name the source by this digest, or leave the digest out of the destination",
            before: copy(&source, &format!("{host}/shop/copy@{other}")),
            after: copy(&source, &format!("{host}/shop/copy@{digest}")),
        },
    ] {
        followed.assert_mended();
    }
}

#[test]
fn a_followed_hint_of_a_template_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let templated = |name: &str, template: &str| {
        let image = format!("'quay.io/shop/till:{{{{{template}}}}}'");
        write(directory.path(), name, profile(&image))
    };
    let (ours, theirs) = (
        "examples/user-data-single.yaml",
        templated("swapped.yaml", "substr 0 3 \"1.27\""),
    );
    let value = templated("value.yaml", ".spectro.var.version");
    let unknown = templated("unknown.yaml", ".spectro.var.version | trunk 3");
    let known = templated("known.yaml", ".spectro.var.version | trunc 3");
    let set = ["--set", "var.version=1.2.3"];
    for followed in [
        Followed {
            name: "a user-data in the place of a profile",
            message: "this is not a cluster profile",
            hint: "this looks like a user-data: were `--user-data` and `--profile` swapped?",
            before: words(&["validate", "--user-data", &theirs, "--profile", ours]),
            after: words(&["validate", "--user-data", ours, "--profile", &theirs]),
        },
        Followed {
            name: "a profile in the place of a user-data",
            message: "the first line of user-data is not `#cloud-config`",
            hint: "this looks like a cluster profile: were `--user-data` and `--profile` swapped?",
            before: words(&["validate", "--user-data", &theirs, "--profile", ours]),
            after: words(&["validate", "--user-data", ours, "--profile", &theirs]),
        },
        Followed {
            name: "a template without a value",
            message: "has no value",
            hint: "`--set var.version=…`",
            before: words(&["validate", "--profile", &value]),
            after: words(&["validate", "--profile", &value, set[0], set[1]]),
        },
        Followed {
            name: "an unknown function of a template",
            message: "`trunk`",
            hint: "`trunc`",
            before: words(&["validate", "--profile", &unknown, set[0], set[1]]),
            after: words(&["validate", "--profile", &known, set[0], set[1]]),
        },
    ] {
        followed.assert_mended();
    }
}

#[test]
fn a_followed_hint_of_an_input_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let text = profile("quay.io/shop/till:1.0") + "# Zürich\n";
    let right = write(directory.path(), "right.yaml", &text);
    let utf16: Vec<u8> = std::iter::once(0xfeff)
        .chain(text.encode_utf16())
        .flat_map(u16::to_le_bytes)
        .collect();
    let latin1: Vec<u8> = text
        .chars()
        .map(|character| u8::try_from(character).expect("Latin-1"))
        .collect();
    let validate = |profile: &str| words(&["validate", "--profile", profile]);
    for (name, message, hint, wrong) in [
        (
            "UTF-16",
            "it is UTF-16",
            "save the file as UTF-8",
            write(directory.path(), "utf-16.yaml", utf16),
        ),
        (
            "Latin-1",
            "it is not UTF-8",
            "`iconv -f latin1 -t utf-8 FILE`",
            write(directory.path(), "latin1.yaml", latin1),
        ),
        (
            "a binary",
            "it is no text",
            "name a YAML or JSON file, saved as UTF-8",
            write(directory.path(), "binary.yaml", [text.as_bytes(), b"\0"].concat()),
        ),
        (
            "a directory",
            "it is a directory",
            "name a file in it",
            directory.path().display().to_string(),
        ),
        (
            "a file that does not end",
            "it has more than ",
            "name the right file, or remove what is generated",
            "/dev/zero".to_owned(),
        ),
        (
            "no such file",
            "No such file or directory",
            "correct the path",
            format!("{right}.yaml"),
        ),
    ] {
        let (before, after) = (validate(&wrong), validate(&right));
        Followed {
            name,
            message,
            hint,
            before,
            after,
        }
        .assert_mended();
    }
}
