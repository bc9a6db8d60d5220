//! Trust in TLS servers.

#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{chain, mk_endpoint, short_timeouts};
use jiff::{SignedDuration, Timestamp};
use landfall_core::failure::{FailureKind, Hint as _};
use landfall_net::certificate::{PemPair, Validity, issue_certificate, make_authority};
use landfall_net::tls::TlsPolicy;
use landfall_oci::client::TlsProblem;
use landfall_oci::client::{Endpoint, Fault, RegistryClient, RegistryError};
use landfall_testkit::fake_registry::{Effect, FakeRegistry, FakeRegistryOptions, FakeTls};
use secrecy::ExposeSecret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

fn validity(from_hours: i64, to_hours: i64) -> Validity {
    let now = Timestamp::now();
    Validity {
        not_before: now + SignedDuration::from_hours(from_hours),
        not_after: now + SignedDuration::from_hours(to_hours),
    }
}

fn start(pair: &PemPair) -> FakeRegistry {
    FakeRegistry::start_with(FakeRegistryOptions {
        tls: Some(FakeTls {
            certificates: pair.certificate.clone(),
            key: pair.key.expose_secret().to_owned(),
        }),
        ..FakeRegistryOptions::default()
    })
}

async fn ping(registry: &FakeRegistry, insecure: bool, certificates: &[&str]) -> Result<(), Fault> {
    let mut endpoint = mk_endpoint(registry);
    endpoint.tls = TlsPolicy {
        insecure,
        certificates: certificates.iter().map(|&pem| pem.to_owned()).collect(),
    };
    let client = RegistryClient::new(endpoint).unwrap();
    client.ping().await.map_err(|error| *error.fault)
}

#[tokio::test]
async fn a_registry_is_trusted_by_the_authority_that_the_user_gave() {
    let authority = make_authority("shop CA", validity(-1, 24)).unwrap();
    let other = make_authority("other CA", validity(-1, 24)).unwrap();
    let issue = |names: &[&str], validity| start(&issue_certificate(&authority, names, validity).unwrap());
    let good = issue(&["127.0.0.1"], validity(-1, 24));
    let cases = [
        (&good, &authority, None),
        (&good, &other, Some(TlsProblem::UnknownAuthority)),
        (
            &issue(&["127.0.0.1"], validity(-9, -1)),
            &authority,
            Some(TlsProblem::Expired),
        ),
        (
            &issue(&["127.0.0.1"], validity(2, 9)),
            &authority,
            Some(TlsProblem::NotYetValid),
        ),
        (
            &issue(&["reg.example.com"], validity(-1, 24)),
            &authority,
            Some(TlsProblem::WrongName),
        ),
        (&FakeRegistry::start(), &authority, Some(TlsProblem::NotTls)),
    ];
    for (registry, authority, expected) in cases {
        match (
            ping(registry, false, &[&other.certificate, &authority.certificate]).await,
            &expected,
        ) {
            (Ok(()), None) => {}
            (Err(fault), Some(_)) => {
                assert_eq!(fault.kind(), FailureKind::BadTls);
                let Fault::Tls { problem, .. } = &fault else {
                    panic!("{fault:?}")
                };
                assert_eq!(Some(problem), expected.as_ref(), "{}", chain(&fault));
            }
            (result, _) => panic!("{result:?} where {expected:?} was expected"),
        }
        assert!(ping(registry, true, &[]).await.is_ok(), "insecure takes them all");
    }
}

fn mk_self_signed(names: &[&str], validity: Validity) -> PemPair {
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    let to_time = |time: Timestamp| std::time::SystemTime::from(time).into();
    params.not_before = to_time(validity.not_before);
    params.not_after = to_time(validity.not_after);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    PemPair {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: key.serialize_pem().into(),
    }
}

/// `openssl req -x509` creates such a certificate: authority and server in one.
#[tokio::test]
async fn a_certificate_that_signed_itself_is_trusted_when_the_user_gave_it() {
    let pair = mk_self_signed(&["127.0.0.1"], validity(-1, 24));
    let registry = start(&pair);
    assert!(ping(&registry, false, &[&pair.certificate]).await.is_ok());
    let fault = ping(&registry, false, &[]).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        TlsProblem::UnknownAuthority.to_string(),
        "{}",
        chain(&fault)
    );
    for (names, validity, expected) in [
        (["reg.example.com"], validity(-1, 24), TlsProblem::WrongName),
        (["127.0.0.1"], validity(-9, -1), TlsProblem::Expired),
    ] {
        let pair = mk_self_signed(&names, validity);
        let fault = ping(&start(&pair), false, &[&pair.certificate]).await.unwrap_err();
        assert_eq!(fault.to_string(), expected.to_string());
    }
}

#[tokio::test]
async fn plain_http_is_never_spoken_with_a_registry_that_is_not_marked() {
    let registry = FakeRegistry::start();
    let fault = ping(&registry, false, &[]).await.unwrap_err();
    assert_eq!(
        fault.to_string(),
        "the server speaks plain HTTP, and the registry is not marked `insecure`"
    );
    assert_eq!(
        fault.hint().as_deref(),
        Some(&*format!(
            "serve the registry over TLS, or mark it: `insecure: true` in the user-data, `--insecure {}` on the command line",
            registry.host()
        ))
    );
    assert!(registry.requests().is_empty());
}

/// Returns a listener in place of an insecure registry, and its client.
async fn insecure_place() -> (TcpListener, RegistryClient) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut endpoint = Endpoint::new(listener.local_addr().unwrap().to_string().parse().unwrap());
    endpoint.tls.insecure = true;
    let client = RegistryClient::new(endpoint).unwrap();
    (listener, client)
}

/// Pings an insecure registry that gives this answer to a TLS client and is well over plain HTTP. Returns what the
/// client spoke on each connection, and the ping's outcome.
async fn spoken_with(to_tls: &[u8]) -> (Vec<&'static str>, Result<(), RegistryError>) {
    let (listener, client) = insecure_place().await;
    let mut spoken = Vec::new();
    let serve = async {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = connection.read(&mut request).await.unwrap();
            let is_plain = request[..length].starts_with(b"GET ");
            spoken.push(if is_plain { "http" } else { "tls" });
            let well = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection
                .write_all(if is_plain { well } else { to_tls })
                .await
                .unwrap();
        }
    };
    let pinged = tokio::select! {
        () = serve => unreachable!("the server never ends"),
        pinged = client.ping() => pinged,
    };
    (spoken, pinged)
}

#[tokio::test]
async fn an_insecure_registry_that_does_not_answer_in_tls_is_spoken_to_by_plain_http() {
    for answer in [b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(), b""] {
        let (spoken, pinged) = spoken_with(answer).await;
        assert!(pinged.is_ok(), "{pinged:?}");
        assert_eq!(spoken, ["tls", "http", "http"]);
    }
}

#[tokio::test]
async fn an_insecure_registry_that_refuses_the_handshake_in_tls_is_never_spoken_to_by_plain_http() {
    // `handshake_failure`, `protocol_version`, `certificate_required` (RFC 8446 section 6).
    for description in [40, 70, 116] {
        let alert = [21, 3, 3, 0, 2, 2, description];
        let (spoken, pinged) = spoken_with(&alert).await;
        assert_eq!(pinged.unwrap_err().kind(), FailureKind::BadTls);
        assert_eq!(spoken, ["tls"]);
    }
}

#[tokio::test]
async fn an_insecure_registry_that_speaks_both_is_spoken_to_by_tls() {
    let authority = make_authority("shop CA", validity(-1, 24)).unwrap();
    let by_tls = start(&issue_certificate(&authority, &["127.0.0.1"], validity(-1, 24)).unwrap());
    let (listener, client) = insecure_place().await;
    let mut relays = JoinSet::new();
    let serve = async {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut first = [0];
            connection.peek(&mut first).await.unwrap();
            assert_ne!(first, *b"G", "plain HTTP");
            let host = by_tls.host().to_string();
            relays.spawn(async move {
                let mut server = TcpStream::connect(host).await.unwrap();
                drop(copy_bidirectional(&mut connection, &mut server).await);
            });
        }
    };
    tokio::select! {
        () = serve => {}
        pinged = client.ping() => assert!(pinged.is_ok()),
    }
    assert_eq!(by_tls.requests().len(), 2);
}

#[tokio::test]
async fn a_redirect_of_an_insecure_registry_is_not_insecure_elsewhere() {
    let authority = make_authority("shop CA", validity(-1, 24)).unwrap();
    let pair = issue_certificate(&authority, &["127.0.0.1"], validity(-1, 24)).unwrap();
    let elsewhere = start(&pair);
    let registry = start(&pair);
    let blob = elsewhere.add_blob("", "content");
    let to = format!("{}/v2/x/blobs/{}", elsewhere.url(), blob.digest);
    let client = RegistryClient::new(mk_endpoint(&registry)).unwrap();
    let redirect = |to: String| landfall_testkit::fake_registry::Fault::once("/blobs/", Effect::Redirect(to));
    registry.inject(redirect(to.clone()));
    let error = client
        .open_blob(&common::repository("x"), &blob, 0)
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind(), FailureKind::BadTls);

    registry.inject(redirect(to.replace("https", "http")));
    let error = client
        .open_blob(&common::repository("x"), &blob, 0)
        .await
        .err()
        .unwrap();
    assert_eq!(
        error.fault.to_string(),
        format!("the registry redirects to `{}`, which gives up TLS", elsewhere.host())
    );
}

#[tokio::test]
async fn a_proxy_is_used_for_others_but_not_for_this_machine() {
    // The proxy is a registry that accepts any request: only the connected host is under test.
    let proxy = FakeRegistry::start();
    let mut endpoint = mk_endpoint(&proxy);
    endpoint.timeouts = short_timeouts();
    endpoint.proxies.http = Some(proxy.url().replace("://", "://ann:canary@").into());
    endpoint.proxies.https = Some(proxy.url().into());
    let local = FakeRegistry::start();
    endpoint.host = local.host();
    RegistryClient::new(endpoint.clone()).unwrap().ping().await.unwrap();
    assert!(proxy.requests().is_empty());

    endpoint.host = "registry.invalid".parse().unwrap();
    RegistryClient::new(endpoint.clone()).unwrap().ping().await.unwrap();
    let methods: Vec<_> = proxy.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(
        methods,
        ["CONNECT", "GET", "GET"],
        "no TLS there, then a probe and the ping by plain HTTP"
    );

    drop(proxy);
    let client = RegistryClient::new(endpoint).unwrap();
    let error = client.ping().await.unwrap_err();
    assert!(
        !format!("{error:?} {client:?} {}", chain(&error)).contains("canary"),
        "{error:?}"
    );
}
