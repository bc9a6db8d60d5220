//! Hints about connections, logins and answers of registries, followed: what a hint says is done, and its message is
//! gone.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::followed::{Followed, words, write};
use common::{CANARY, landfall, run_command_with_stdin, shown};
use jiff::{SignedDuration, Timestamp};
use landfall_net::certificate::{Validity, issue_certificate, make_authority};
use landfall_testkit::closed_port::ClosedPort;
use landfall_testkit::fake_registry::{Access, Effect, FakeRegistry, FakeRegistryOptions, FakeTls, Fault};
use landfall_testkit::image_builder::small_image;
use secrecy::ExposeSecret as _;

/// Returns a command that copies an image of a registry, called `host`, to a file.
fn copy(host: &str, directory: &Path, more: &[&str]) -> Vec<String> {
    let to = format!("oci-archive:{}", directory.join("till.tar").display());
    words(
        &[
            &["copy", &format!("{host}/shop/till:1.0"), &to, "--progress=none"],
            more,
        ]
        .concat(),
    )
}

fn with_image(options: FakeRegistryOptions) -> FakeRegistry {
    let registry = FakeRegistry::start_with(options);
    registry.add_image("shop/till", "1.0", &small_image("till"));
    registry
}

#[test]
fn a_followed_hint_about_a_registry_that_is_down_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let port = ClosedPort::bind();
    let host = port.address().to_string();
    let command = copy(&host, directory.path(), &[&format!("--insecure={host}")]);
    let mut started = None;
    Followed {
        name: "down",
        message: "the connection is refused: nothing listens there",
        hint: "check that the registry is up and can be reached from here",
        before: command.clone(),
        after: command,
    }
    .assert_mended_by(|| {
        let registry = FakeRegistry::start_on(port.listen(), FakeRegistryOptions::default());
        registry.add_image("shop/till", "1.0", &small_image("till"));
        started = Some(registry);
    });
}

#[test]
fn a_followed_hint_about_a_name_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let registry = with_image(FakeRegistryOptions {
        name: "localhost".to_owned(),
        ..FakeRegistryOptions::default()
    });
    let right = registry.host().to_string();
    let wrong = right.replace("localhost", "localhost.invalid");
    let of = |host: &str| copy(host, directory.path(), &[&format!("--insecure={host}")]);
    Followed {
        name: "a name that is not known",
        message: "the name cannot be resolved",
        hint: "check the registry's name and this machine's DNS",
        before: of(&wrong),
        after: of(&right),
    }
    .assert_mended();
}

#[test]
fn a_followed_hint_about_a_proxy_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let refusing = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let dead = refusing.local_addr().expect("a bound socket").to_string();
    drop(refusing);
    // It answers requests for any host.
    let proxy = with_image(FakeRegistryOptions::default());
    let command = copy("till.invalid", directory.path(), &["--insecure=till.invalid"]);
    for (name, wrong, message, hint) in [
        (
            "nothing listens at the proxy",
            format!("http://edge:{CANARY}@{dead}"),
            "no connection by the proxy `127.0.0.1:",
            "check the address of the proxy and that it reaches the registry",
        ),
        (
            "the name of the proxy is not known",
            "http://proxy.invalid:3128".to_owned(),
            "no connection by the proxy `proxy.invalid:3128`: the name cannot be resolved",
            "check the address of the proxy and that it reaches the registry",
        ),
        (
            "no address",
            "http://:3128".to_owned(),
            "the address of the HTTP proxy is not a URL",
            "write it as `http://HOST:PORT`",
        ),
    ] {
        let address = write(directory.path(), "proxy", wrong);
        let file = address.clone();
        let program = |arguments: &[&str]| {
            let mut command = landfall(arguments);
            let proxy = fs::read_to_string(&file).expect("it was written");
            command.envs([("http_proxy", &proxy), ("https_proxy", &proxy)]);
            command
        };
        Followed {
            name,
            message,
            hint,
            before: command.clone(),
            after: command.clone(),
        }
        .assert_mended_in(program, || fs::write(&address, proxy.url()).expect("a file"));
        fs::remove_file(directory.path().join("till.tar")).expect("the archive is there");
    }
}

#[test]
fn a_followed_hint_about_a_proxy_that_is_not_needed_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // An address of this machine that is not one of loopback: a proxy is never asked for those.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    let own = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Ok(std::net::SocketAddr::V4(own)) = own else {
        // The machine has no network at all.
        return;
    };
    let listener = TcpListener::bind((*own.ip(), 0)).expect("a port is free");
    let registry = FakeRegistry::start_on(
        listener,
        FakeRegistryOptions {
            name: own.ip().to_string(),
            ..FakeRegistryOptions::default()
        },
    );
    registry.add_image("shop/till", "1.0", &small_image("till"));
    let host = registry.host().to_string();
    let command = copy(&host, directory.path(), &[&format!("--insecure={host}")]);
    let list = write(directory.path(), "no-proxy", "");
    let program = |arguments: &[&str]| {
        let mut command = landfall(arguments);
        let direct = fs::read_to_string(&list).expect("it was written");
        let proxy = "http://proxy.invalid:3128".to_owned();
        command.envs([("http_proxy", &proxy), ("https_proxy", &proxy), ("no_proxy", &direct)]);
        command
    };
    Followed {
        name: "a registry that is nearer than the proxy",
        message: "no connection by the proxy `proxy.invalid:3128`",
        hint: "or list the registry in `no_proxy`",
        before: command.clone(),
        after: command,
    }
    .assert_mended_in(program, || fs::write(&list, own.ip().to_string()).expect("a file"));
}

/// A certificate for names, that is valid from and to hours from now.
fn issue(names: &[&str], from: i64, to: i64) -> (FakeTls, String) {
    let now = Timestamp::now();
    let validity = |from: i64, to: i64| Validity {
        not_before: now + SignedDuration::from_hours(from),
        not_after: now + SignedDuration::from_hours(to),
    };
    let authority = make_authority("a private authority", validity(-9, 9)).expect("an authority");
    let pair = issue_certificate(&authority, names, validity(from, to)).expect("a certificate");
    let tls = FakeTls {
        certificates: pair.certificate,
        key: pair.key.expose_secret().to_owned(),
    };
    (tls, authority.certificate)
}

/// Starts a registry whose certificate has these names and hours. Returns the authority's certificate too.
fn registry_with(name: &str, names: &[&str], from: i64, to: i64) -> (FakeRegistry, String) {
    let (tls, authority) = issue(names, from, to);
    let registry = with_image(FakeRegistryOptions {
        name: name.to_owned(),
        tls: Some(tls),
        ..FakeRegistryOptions::default()
    });
    (registry, authority)
}

#[test]
fn a_followed_hint_about_a_certificate_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (expired, one) = registry_with("127.0.0.1", &["127.0.0.1"], -3, -1);
    let (renewed, two) = registry_with("127.0.0.1", &["127.0.0.1"], -1, 1);
    let (other, three) = registry_with("localhost", &["localhost"], -1, 1);
    let trusted = write(directory.path(), "ca.crt", [one, two, three].concat());
    // It answers the handshake with the alert `handshake_failure`.
    let unwilling = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let unwilling_host = unwilling.local_addr().expect("a bound socket").to_string();
    std::thread::spawn(move || {
        for stream in unwilling.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut hello = [0; 16];
            drop(stream.read(&mut hello));
            drop(stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]));
            drop(stream.shutdown(std::net::Shutdown::Write));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    let right = renewed.host().to_string();
    let of = |host: &str| copy(host, directory.path(), &[]);
    let by_name = other.host().to_string();
    for (name, message, hint, before, after) in [
        (
            "expired",
            "its certificate has expired",
            "renew the registry's certificate, if this machine's clock is right",
            expired.host().to_string(),
            right.clone(),
        ),
        (
            "for another name",
            "its certificate is for another name",
            "use a name that the certificate is for",
            by_name.replace("localhost", "127.0.0.1"),
            by_name.clone(),
        ),
        (
            "no server for TLS",
            "the TLS handshake failed",
            "check that a TLS server listens at this address and port",
            unwilling_host,
            right.clone(),
        ),
    ] {
        let program = |arguments: &[&str]| {
            let mut command = landfall(arguments);
            command.env("SSL_CERT_FILE", &trusted);
            command
        };
        Followed {
            name,
            message,
            hint,
            before: of(&before),
            after: of(&after),
        }
        .assert_mended_in(program, || {});
        fs::remove_file(directory.path().join("till.tar")).expect("the archive is there");
    }
}

#[test]
fn a_followed_hint_about_an_authority_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (registry, authority) = registry_with("127.0.0.1", &["127.0.0.1"], -1, 1);
    let host = registry.host().to_string();
    let file = directory.path().join("ca.crt");
    let program = |arguments: &[&str]| {
        let mut command = landfall(arguments);
        if file.exists() {
            command.env("SSL_CERT_FILE", &file);
        }
        command
    };
    let command = copy(&host, directory.path(), &[]);
    Followed {
        name: "a private authority",
        message: "signed by an authority that is not trusted here",
        hint: "or name its file by `SSL_CERT_FILE`",
        before: command.clone(),
        after: command.clone(),
    }
    .assert_mended_in(program, || fs::write(&file, authority).expect("a file"));
    fs::remove_file(directory.path().join("till.tar")).expect("the archive is there");
    Followed {
        name: "any certificate",
        message: "signed by an authority that is not trusted here",
        hint: "trusts any certificate",
        before: command,
        after: copy(&host, directory.path(), &[&format!("--insecure={host}")]),
    }
    .assert_mended();
}

#[test]
fn a_followed_hint_about_a_token_server_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // The registry is the token server too, under another name.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("a bound socket").port();
    let registry = FakeRegistry::start_on(
        listener,
        FakeRegistryOptions {
            access: Access::Bearer {
                login: Some(("edge".to_owned(), CANARY.to_owned())),
                realm: format!("http://localhost:{port}/token"),
            },
            ..FakeRegistryOptions::default()
        },
    );
    registry.add_image("shop/till", "1.0", &small_image("till"));
    let host = registry.host().to_string();
    let auth = STANDARD.encode(format!("edge:{CANARY}"));
    let logins = format!(r#"{{"auths": {{"{host}": {{"auth": "{auth}"}}}}}}"#);
    let logins = write(directory.path(), "logins.json", logins);
    let flags = [format!("--insecure={host}"), format!("--credentials={logins}")];
    let listed = format!("--token-server={host}=localhost:{port}");
    let of = |more: &[&str]| {
        let flags: Vec<&str> = flags.iter().map(String::as_str).chain(more.iter().copied()).collect();
        copy(&host, directory.path(), &flags)
    };
    Followed {
        name: "a token server elsewhere",
        message: "the registry names the token server `localhost:",
        hint: "if it is the right one, list it as `REGISTRY=SERVER`",
        before: of(&[]),
        after: of(&[&listed]),
    }
    .assert_mended();
}

#[test]
fn a_followed_hint_about_a_keychain_helper_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let registry = with_image(FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: CANARY.to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    let host = registry.host().to_string();
    let helper = write(
        directory.path(),
        "docker-credential-vault",
        "#!/bin/sh\necho 'the vault is locked' >&2\nexit 1\n",
    );
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("it was written");
    let docker = directory.path().join(".docker");
    fs::create_dir(&docker).expect("a directory");
    let config = docker.join("config.json");
    let with_helper = format!(r#"{{"credHelpers": {{"{host}": "vault"}}}}"#);
    let program = |arguments: &[&str]| -> Command {
        let mut command = landfall(arguments);
        command.env("HOME", directory.path());
        command.env("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
        command
    };
    let command = copy(&host, directory.path(), &[&format!("--insecure={host}")]);
    for (name, hint) in [
        ("a helper that is repaired", "run the helper by hand to see why"),
        (
            "a helper that is taken out",
            "take it out of the file and log in with `landfall login`",
        ),
    ] {
        fs::write(&config, &with_helper).expect("a file");
        Followed {
            name,
            message: "docker-credential-vault",
            hint,
            before: command.clone(),
            after: command.clone(),
        }
        .assert_mended_in(program, || match name {
            "a helper that is repaired" => {
                let answer = format!("#!/bin/sh\necho '{{\"Username\": \"edge\", \"Secret\": \"{CANARY}\"}}'\n");
                fs::write(&helper, answer).expect("a file");
            }
            _ => {
                fs::write(&config, "{}").expect("a file");
                let login = ["login", &host, "--insecure", "--username=edge", "--password-stdin"];
                let done = shown(&run_command_with_stdin(program(&login), CANARY));
                assert!(done.starts_with("status 0\n"), "{done}");
            }
        });
        fs::remove_file(directory.path().join("till.tar")).expect("the archive is there");
        fs::write(&helper, "#!/bin/sh\nexit 1\n").expect("a file");
    }
}

#[test]
fn a_followed_hint_about_an_answer_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = with_image(FakeRegistryOptions::default());
    let full = FakeRegistry::start();
    full.inject(
        Fault::once("/blobs/uploads/", Effect::Status(500, Vec::new(), String::new()))
            .method("POST")
            .always(),
    );
    let (from, to) = (source.host().to_string(), full.host().to_string());
    let free = FakeRegistry::start();
    let push = |to: &str| {
        words(&[
            "copy",
            &format!("{from}/shop/till:1.0"),
            &format!("{to}/shop/till:1.0"),
            "--progress=none",
            &format!("--insecure={from}"),
            &format!("--insecure={to}"),
            &format!("--state-dir={}", directory.path().display()),
        ])
    };
    Followed {
        name: "a registry with a full disk",
        message: "the registry answers 500",
        hint: "look into the registry's log, and whether its disk is full",
        before: push(&to),
        after: push(&free.host().to_string()),
    }
    .assert_mended();
    assert!(full.faults_met() > 0);
}

#[test]
fn a_followed_hint_about_a_place_for_logins_ends_its_message() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let registry = with_image(FakeRegistryOptions {
        access: Access::Basic {
            username: "edge".to_owned(),
            password: CANARY.to_owned(),
        },
        ..FakeRegistryOptions::default()
    });
    let host = registry.host().to_string();
    let login = ["login", &host, "--insecure", "--username=edge", "--password-stdin"];
    let refused = shown(&run_command_with_stdin(landfall(&login), CANARY));
    assert!(refused.contains("hint: set `HOME` or `DOCKER_CONFIG`"), "{refused}");
    for variable in ["HOME", "DOCKER_CONFIG"] {
        let mut command = landfall(&login);
        command.env(variable, directory.path());
        let done = shown(&run_command_with_stdin(command, CANARY));
        assert!(
            done.starts_with("status 0\n") && !done.contains("cannot find"),
            "{done}"
        );
    }
}
