//! Replacement of certificate and logins while the registry serves, as cert-manager or a cron job does it.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use camino::Utf8PathBuf;
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::poll::wait_for;
use landfall_tests_interop::program::run;
use landfall_tests_interop::raw_http::RawHttp;
use landfall_tests_interop::tls::PrivateAuthority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const BEFORE: Account<'_> = Account {
    user: "edge",
    password: "canary-of-before",
};
const AFTER: Account<'_> = Account {
    user: "edge",
    password: "canary-of-after",
};

type TlsStream = StreamOwned<ClientConnection, TcpStream>;

struct Fixture {
    authority: PrivateAuthority,
    registry: LandfallRegistry,
}

impl Fixture {
    fn start() -> Fixture {
        let authority = PrivateAuthority::generate("registry reload");
        let registry = LandfallRegistry::start_with(Some(&authority), Some(BEFORE), None, &["--reload-every", "1"]);
        Fixture { authority, registry }
    }

    fn file(&self, name: &str) -> Utf8PathBuf {
        self.registry.root().with_file_name(name)
    }

    fn connect(&self) -> TlsStream {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(self.authority.pem().as_bytes()).unwrap())
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = StreamOwned::new(
            ClientConnection::new(Arc::new(config), name).unwrap(),
            TcpStream::connect(self.registry.host()).unwrap(),
        );
        ask(&mut stream);
        stream
    }

    /// Returns the status of a request with a login.
    fn status(&self, account: Account<'_>) -> u16 {
        let http = RawHttp::new(self.registry.url(), Some(self.authority.pem()), Some(account));
        http.get("/v2/").status
    }
}

/// Returns the server certificate in the form of its file.
fn certificate(stream: &TlsStream) -> Vec<u8> {
    stream.conn.peer_certificates().unwrap()[0].to_vec()
}

fn in_file(path: &Utf8PathBuf) -> Vec<u8> {
    CertificateDer::from_pem_file(path).unwrap().to_vec()
}

/// Sends one request on a kept connection. It has no login, and a 401 is a response as well.
fn ask(stream: &mut TlsStream) {
    stream.write_all(b"HEAD /v2/ HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 401"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[test]
fn new_handshakes_see_a_new_certificate_and_open_connections_live_on() {
    let mut fixture = Fixture::start();
    let mut open = fixture.connect();
    let first = in_file(&fixture.file("server.pem"));
    assert_eq!(certificate(&open), first);

    // Two files cannot be replaced atomically. The state in between must not stop the registry.
    let (pem, _key) = fixture.authority.write_server_files(fixture.file("").as_path());
    let second = in_file(&pem);
    assert_ne!(first, second);
    wait_for("a handshake with the new certificate", || {
        (certificate(&fixture.connect()) == second).then_some(())
    });
    ask(&mut open);
    assert_eq!(certificate(&open), first, "the open connection is the one from before");

    fs_err::write(&pem, "not a certificate").unwrap();
    wait_for("word of the certificate that cannot be used", || {
        let log = fixture.registry.program().output();
        log.contains("the new certificate cannot be used; the previous one stays active")
            .then_some(())
    });
    assert_eq!(certificate(&fixture.connect()), second);
    ask(&mut open);
}

#[test]
fn logins_that_are_replaced_count_at_once_and_the_old_ones_no_more() {
    let mut fixture = Fixture::start();
    assert_eq!((fixture.status(BEFORE), fixture.status(AFTER)), (200, 401));
    let mut command = Command::new("htpasswd");
    command.args(["-nbB", AFTER.user, AFTER.password]);
    fs_err::write(fixture.file("htpasswd"), run(command).succeeded().stdout()).unwrap();
    wait_for("the new login", || (fixture.status(AFTER) == 200).then_some(()));
    assert_eq!(fixture.status(BEFORE), 401);

    fs_err::write(fixture.file("htpasswd"), "edge:plain-canary").unwrap();
    let log = wait_for("word of the logins that cannot be used", || {
        let log = fixture.registry.program().output();
        log.contains("the new logins cannot be used; the previous ones stay active")
            .then_some(log)
    });
    assert_eq!(fixture.status(AFTER), 200);
    assert!(!log.contains("canary"), "{log}");
}
