//! Certificates of `certs.d`: authorities and client certificates, read again after a change, and sent to no
//! other host.

#![expect(clippy::unwrap_used, reason = "test set-up")]
#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use common::{chain, mk_endpoint, repository};
use jiff::{SignedDuration, Timestamp};
use landfall_core::failure::{FailureKind, Hint as _};
use landfall_net::certificate::{PemPair, Validity, issue_certificate, make_authority};
use landfall_net::tls::TlsPolicy;
use landfall_oci::client::{Endpoint, RegistryClient};
use landfall_testkit::fake_registry::{Effect, FakeRegistry, FakeRegistryOptions, FakeTls, Fault};
use secrecy::ExposeSecret;
use tempfile::TempDir;

fn validity() -> Validity {
    let now = Timestamp::now();
    Validity {
        not_before: now - SignedDuration::from_hours(1),
        not_after: now + SignedDuration::from_hours(24),
    }
}

fn mk_authority(name: &str) -> PemPair {
    make_authority(name, validity()).unwrap()
}

/// Returns a client certificate, which the product never creates.
fn mk_identity(authority: &PemPair) -> PemPair {
    let key = rcgen::KeyPair::from_pem(authority.key.expose_secret()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&authority.certificate, key).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["edge-1".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let key = rcgen::KeyPair::generate().unwrap();
    PemPair {
        certificate: params.signed_by(&key, &issuer).unwrap().pem(),
        key: key.serialize_pem().into(),
    }
}

/// Starts a registry with a certificate of one authority, which requires client certificates of another.
fn start(server: &PemPair, clients: &PemPair) -> FakeRegistry {
    let pair = issue_certificate(server, &["127.0.0.1"], validity()).unwrap();
    FakeRegistry::start_with(FakeRegistryOptions {
        tls: Some(FakeTls {
            certificates: pair.certificate.clone(),
            key: pair.key.expose_secret().to_owned(),
        }),
        client_authority: Some(clients.certificate.clone()),
        ..FakeRegistryOptions::default()
    })
}

struct Directory {
    root: TempDir,
    own: Utf8PathBuf,
}

impl Directory {
    fn new(registry: &FakeRegistry) -> Directory {
        let root = TempDir::new().unwrap();
        let own = Utf8Path::from_path(root.path()).unwrap().join(registry.host().as_str());
        std::fs::create_dir(&own).unwrap();
        Directory { root, own }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.own.join(name), text).unwrap();
    }

    fn write_identity(&self, authority: &PemPair) {
        let pair = mk_identity(authority);
        self.write("client.cert", &pair.certificate);
        self.write("client.key", pair.key.expose_secret());
    }

    fn endpoint(&self, registry: &FakeRegistry) -> Endpoint {
        let root = Utf8Path::from_path(self.root.path()).unwrap().to_owned();
        Endpoint {
            tls: TlsPolicy::default(),
            certificate_roots: vec!["/nowhere".into(), root],
            ..mk_endpoint(registry)
        }
    }
}

/// Moves the clock past the interval at which the client checks the files.
async fn let_time_pass() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(16)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn certificates_of_a_registrys_directory_are_used_and_read_again_when_they_change() {
    let (server, clients, other) = (mk_authority("server"), mk_authority("clients"), mk_authority("other"));
    let registry = start(&server, &clients);
    let directory = Directory::new(&registry);
    let client = RegistryClient::new(directory.endpoint(&registry)).unwrap();
    assert_eq!(
        client.ping().await.unwrap_err().kind(),
        FailureKind::BadTls,
        "unknown authority"
    );

    directory.write("ca.crt", &server.certificate);
    let_time_pass().await;
    client.ping().await.expect_err("the registry wants our certificate");

    directory.write_identity(&other);
    let_time_pass().await;
    client
        .ping()
        .await
        .expect_err("the registry wants one from another authority");

    directory.write_identity(&clients);
    let_time_pass().await;
    client.ping().await.unwrap();

    directory.write("client.key", "half a k");
    let_time_pass().await;
    client.ping().await.expect("what is half written is left alone");
}

#[tokio::test]
async fn a_registry_that_wants_a_client_certificate_is_told_apart_and_the_place_for_one_is_named() {
    let (server, clients, other) = (mk_authority("server"), mk_authority("clients"), mk_authority("other"));
    let registry = start(&server, &clients);
    for (case, shown) in [("none", None), ("of another authority", Some(&other))] {
        let directory = Directory::new(&registry);
        directory.write("ca.crt", &server.certificate);
        if let Some(authority) = shown {
            directory.write_identity(authority);
        }
        let client = RegistryClient::new(directory.endpoint(&registry)).unwrap();
        let error = client.ping().await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::BadTls, "{case}: {}", chain(&error));
        assert_eq!(
            error.fault.to_string(),
            "the registry asks for a client certificate, and was shown none that it accepts",
            "{case}"
        );
        assert_eq!(
            error.hint().as_deref(),
            Some(&*format!(
                "put a certificate that the registry accepts, and its key, into `/etc/docker/certs.d/{}/` as \
                 `client.cert` and `client.key`",
                registry.host()
            )),
            "{case}"
        );
    }
}

#[tokio::test]
async fn our_certificate_is_not_shown_where_the_registry_sends_us() {
    let authority = mk_authority("all");
    let (registry, elsewhere) = (start(&authority, &authority), start(&authority, &authority));
    let directory = Directory::new(&registry);
    directory.write("ca.crt", &authority.certificate);
    directory.write_identity(&authority);
    let client = RegistryClient::new(directory.endpoint(&registry)).unwrap();
    let blob = elsewhere.add_blob("", "content");
    let to = format!("{}/v2/x/blobs/{}", elsewhere.url(), blob.digest);
    registry.inject(Fault::once("/blobs/", Effect::Redirect(to)));
    let opened = client.open_blob(&repository("x"), &blob, 0).await;
    opened.err().expect("it wants a certificate and sees none");
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_named() {
    let authority = mk_authority("all");
    let registry = start(&authority, &authority);
    let pair = mk_identity(&authority);
    let certificate = pair.certificate.as_str();
    let key = pair.key.expose_secret();
    let other = mk_authority("other");
    let cases: [(&[(&str, &str)], &str); 5] = [
        (
            &[("ca.crt", "canary")],
            "cannot use `DIR/ca.crt`: certificate number 1 holds no `BEGIN CERTIFICATE` block",
        ),
        (&[("me.cert", certificate)], "`DIR/me.cert` has no `me.key` beside it"),
        (
            &[("me.cert", "canary"), ("me.key", key)],
            "`DIR/me.cert` is not PEM text of a certificate",
        ),
        (
            &[("me.cert", certificate), ("me.key", "canary")],
            "`DIR/me.key` is not PEM text of a private key",
        ),
        (
            &[("me.cert", certificate), ("me.key", other.key.expose_secret())],
            "`DIR/me.cert` and its key cannot be used together: keys may not be consistent: KeyMismatch",
        ),
    ];
    for (files, expected) in cases {
        let directory = Directory::new(&registry);
        for (name, text) in files {
            directory.write(name, text);
        }
        let error = RegistryClient::new(directory.endpoint(&registry)).unwrap_err();
        let said = chain(&*error.fault).replace(directory.own.as_str(), "DIR");
        let said = said.strip_prefix("a configured certificate cannot be used: ").unwrap();
        assert_eq!(said, expected);
    }
}
