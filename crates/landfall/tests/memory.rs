//! Memory of the program while clients and archives ask for more than there may be. Each case has a process of its own,
//! because a peak belongs to a process.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{Running, run_measured, shown};
use landfall_net::certificate::PemPair;
use landfall_testkit::image_builder::{docker_archive, links_tar, small_image};
use landfall_testkit::server::{connect_from, start_tls};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Time after which the server reads no more of a connection.
const IDLE: Duration = Duration::from_millis(500);

/// A program that serves, and the directory of its state.
struct Served {
    program: Running,
    address: SocketAddr,
    /// The webhook's authority.
    authority: Option<PemPair>,
    _directory: Option<tempfile::TempDir>,
    before: u64,
}

impl Served {
    /// Starts `landfall registry serve`, with one user if `with_login` is set.
    fn registry(with_login: bool) -> Served {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (root, users) = (path("root"), path("htpasswd"));
        let user = "edge:$2y$05$tPzzn0nOGrbqNqTKWsCoJe5JYF9WvVvLg1V8Q9N2OhGTgJ5Q5Jx7S\n";
        std::fs::write(&users, user).unwrap();
        let mut arguments = vec!["registry", "serve", "--root", &root, "--listen", "127.0.0.1:0"];
        if with_login {
            arguments.extend(["--htpasswd", &users]);
        }
        let mut program = Running::start(&arguments);
        let address = program.line().strip_prefix("http://").unwrap().parse().unwrap();
        Served {
            before: program.peak_memory(),
            program,
            address,
            authority: None,
            _directory: Some(directory),
        }
    }

    /// Starts `landfall demo`, which has a webhook.
    fn webhook() -> Served {
        let mut program = Running::start(&["demo"]);
        let state = loop {
            let line = program.line();
            if let Some((_, path)) = line.split_once("serves every image (") {
                let (inputs, _) = path.split_once("/user-data.yaml").unwrap();
                break format!("{inputs}/state");
            }
        };
        while program.line() != "]" {}
        let status = std::fs::read_to_string(format!("{state}/status.json")).unwrap();
        let (_, url) = status.split_once("\"https://").unwrap();
        let (address, _) = url.split_once('/').unwrap();
        let authority = PemPair {
            certificate: std::fs::read_to_string(format!("{state}/webhook/ca.crt")).unwrap(),
            key: String::new().into(),
        };
        Served {
            before: program.peak_memory(),
            address: address.parse().unwrap(),
            program,
            authority: Some(authority),
            _directory: None,
        }
    }

    /// Opens connections of several clients at once, and sends this on each, as far as the program takes it. The
    /// connections stay open.
    async fn flood(&self, clients: u8, connections: usize, bytes: &[u8]) -> Vec<Box<dyn Connection>> {
        let mut opening = JoinSet::new();
        for number in 0..connections {
            let client = 1 + u8::try_from(number % usize::from(clients)).unwrap();
            let stream = connect_from(client, self.address).await;
            let (bytes, authority) = (bytes.to_vec(), self.authority.clone());
            opening.spawn(async move {
                let mut connection: Box<dyn Connection> = match authority {
                    None => Box::new(stream),
                    Some(authority) => Box::new(start_tls(stream, &authority, &["http/1.1"]).await),
                };
                for piece in bytes.chunks(64 * 1024) {
                    if !matches!(timeout(IDLE, connection.write_all(piece)).await, Ok(Ok(()))) {
                        break;
                    }
                }
                drop(timeout(IDLE, connection.flush()).await);
                connection
            });
        }
        opening.join_all().await
    }

    /// Returns how much the program's memory grew, in MiB, once it grows no more.
    async fn growth(&self) -> u64 {
        let mut peak = 0;
        let mut unchanged = 0;
        while unchanged < 5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = self.program.peak_memory();
            unchanged = if now == peak { unchanged + 1 } else { 0 };
            peak = now;
        }
        peak - self.before
    }

    fn stop(mut self) {
        assert_eq!(self.program.terminate(), Some(0));
    }
}

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Returns the beginning of a request whose body or head never ends: `length` bytes of it.
fn unfinished(line: &str, length: usize) -> Vec<u8> {
    let mut bytes = format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        length + 1
    )
    .into_bytes();
    bytes.resize(bytes.len() + length, b'[');
    bytes
}

#[tokio::test]
async fn connections_and_their_heads_take_a_bounded_amount() {
    let head = [b"GET /v2/ HTTP/1.1\r\nHost: test\r\nX: ".as_slice(), &[b'y'; 380_000]].concat();
    for (bytes, bound) in [(&head[..1], 32), (&head[..60_000], 80), (&head, 80)] {
        let served = Served::registry(true);
        let open = served.flood(3, 750, bytes).await;
        let growth = served.growth().await;
        assert!(growth < bound, "{growth} MiB for heads of {} bytes", bytes.len());
        drop(open);
        served.stop();
    }
}

#[tokio::test]
async fn manifests_that_are_pushed_at_once_take_a_bounded_amount() {
    let served = Served::registry(false);
    let manifest = unfinished("PUT /v2/a/manifests/latest", 4_100_000);
    let open = served.flood(3, 90, &manifest).await;
    let growth = served.growth().await;
    assert!(growth < 96, "{growth} MiB for 352 MiB of manifests");
    drop(open);
    served.stop();
}

#[tokio::test]
async fn reviews_that_are_sent_at_once_take_a_bounded_amount() {
    let served = Served::webhook();
    let review = unfinished("POST /mutate", 8_300_000);
    let open = served.flood(3, 60, &review).await;
    let growth = served.growth().await;
    assert!(growth < 96, "{growth} MiB for 475 MiB of reviews");
    drop(open);
    served.stop();
}

#[tokio::test]
async fn upload_sessions_take_a_bounded_amount() {
    let served = Served::registry(false);
    let mut refused = 0;
    for client in 1..=12 {
        let mut connection = connect_from(client, served.address).await;
        for _ in 0..256 {
            let opened = ask(&mut connection, "POST /v2/a/blobs/uploads/", b"").await;
            let Some((_, location)) = opened.split_once("location: ") else {
                assert!(opened.starts_with("HTTP/1.1 429 "), "{opened}");
                refused += 1;
                continue;
            };
            let path = location.split_once("\r\n").unwrap().0;
            let sent = ask(&mut connection, &format!("PATCH {path}"), &[b'x'; 60 * 1024]).await;
            assert!(sent.starts_with("HTTP/1.1 202 "), "{sent}");
        }
    }
    let growth = served.growth().await;
    assert_eq!(refused, 12 * 256 - 1024);
    assert!(growth < 112, "{growth} MiB for 3,072 sessions of 60 KiB");
    served.stop();
}

#[tokio::test]
async fn logins_that_are_guessed_at_once_take_a_bounded_amount() {
    let served = Served::registry(true);
    let mut guesses = JoinSet::new();
    for number in 0..500 {
        let address = served.address;
        guesses.spawn(async move {
            let guess = STANDARD.encode(format!("edge:{}{number}", "x".repeat(30_000)));
            let request = format!("GET /v2/ HTTP/1.1\r\nHost: test\r\nAuthorization: Basic {guess}\r\n\r\n");
            // A busy machine delays requests, and a connection without a request may give way. A client comes again.
            loop {
                if let Ok(answer) = send(address, request.as_bytes()).await {
                    return (answer[9..12].to_owned(), answer.contains("retry-after: "));
                }
            }
        });
    }
    let answers = guesses.join_all().await;
    let count = |wanted: (&str, bool)| {
        answers
            .iter()
            .filter(|(status, wait)| (status.as_str(), *wait) == wanted)
            .count()
    };
    assert_eq!((count(("401", false)), count(("429", true))), (20, 480));
    let growth = served.growth().await;
    assert!(growth < 48, "{growth} MiB for 500 guesses");
    served.stop();
}

/// Sends a request on a connection of its own, and returns the head of its answer.
async fn send(address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let mut connection = connect_from(1, address).await;
    connection.write_all(request).await?;
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let mut read = [0; 4096];
        let length = connection.read(&mut read).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.push_str(std::str::from_utf8(&read[..length]).unwrap());
    }
    Ok(answer)
}

/// Sends a request, and returns the head of its answer.
async fn ask(connection: &mut (impl AsyncRead + AsyncWrite + Unpin), line: &str, body: &[u8]) -> String {
    let head = format!(
        "{line} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(connection.read_u8().await.unwrap());
    }
    let head = String::from_utf8(answer).unwrap();
    if let Some((_, length)) = head.split_once("content-length: ") {
        let length: usize = length.split_once("\r\n").unwrap().0.parse().unwrap();
        connection.read_exact(&mut vec![0; length]).await.unwrap();
    }
    head
}

#[test]
fn entries_of_an_archive_take_a_bounded_amount() {
    let directory = tempfile::tempdir().unwrap();
    let image = docker_archive(&[(&["shop/till:1.0"], &small_image("till"))]);
    let copy = |name: &str, links: Vec<u8>| copy_archive(directory.path(), name, &[links, image.clone()].concat());
    let (_, usual) = copy("usual.tar", Vec::new());
    for (name, links, message) in [
        ("most.tar", links_tar(99_000, 80), None),
        ("many.tar", links_tar(120_000, 80), Some("more or longer names")),
        ("long.tar", links_tar(40_000, 1_000), Some("more or longer names")),
    ] {
        let (said, peak) = copy(name, links);
        match message {
            None => assert!(said.starts_with("status 0\n"), "{name}: {said}"),
            Some(message) => assert!(said.contains(message), "{name}: {said}"),
        }
        assert!(peak < usual + 64, "{name}: {peak} MiB, {usual} MiB without links");
    }
}

/// Copies the image of an archive. Returns the output, and the largest memory in MiB.
fn copy_archive(directory: &Path, name: &str, tar: &[u8]) -> (String, u64) {
    let path = directory.join(name);
    std::fs::write(&path, tar).unwrap();
    let (from, to) = (
        format!("docker-archive:{}", path.display()),
        format!("oci:{}", directory.join(format!("{name}.out")).display()),
    );
    let (output, peak) = run_measured(&["copy", &from, &to, "--progress=none"]);
    std::fs::remove_file(path).unwrap();
    (shown(&output), peak)
}
