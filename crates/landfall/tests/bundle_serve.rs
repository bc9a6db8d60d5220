//! Bundles that the program serves out of their files.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;

use common::{Running, run, show, shown};
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture, oci_archive};

const NAME: &str = "reg.example:5000/shop/till:1";

/// Returns an image with a layer that a bundle stores in frames of its own.
fn mk_image() -> ImageFixture {
    let file: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    FixtureBuilder::new().plain_layer(&[("file", &file)]).build()
}

/// Makes a bundle of the image, in pieces. Returns the path of a piece.
fn mk_bundle(directory: &Path, image: &ImageFixture) -> String {
    let text = |name: &str| directory.join(name).display().to_string();
    std::fs::write(text("images.tar"), oci_archive(&[(NAME, image)])).expect("a writable directory");
    let source = format!("oci-archive:{}", text("images.tar"));
    let bundle = text("site.tar.zst");
    let made = run(&["bundle", "create", &bundle, "--image", &source, "--split", "128KiB"]);
    assert!(made.status.success(), "{}", shown(&made));
    text("site.tar.zst_part01")
}

fn ask(address: &str, method: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
    )
    .expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    answer
}

fn ask_text(address: &str, method: &str, path: &str) -> String {
    String::from_utf8(ask(address, method, path)).expect("a text")
}

#[test]
fn bundle_serve_says_where_it_listens_serves_images_and_takes_none() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let image = mk_image();
    let piece = mk_bundle(directory.path(), &image);
    let before = std::fs::read_dir(directory.path()).expect("a directory").count();
    let mut server = Running::start(&["bundle", "serve", &piece, &piece, "--listen", "127.0.0.1:0"]);
    let url = server.line();
    let address = url.strip_prefix("http://").expect("a plain URL on loopback");
    let catalog = ask_text(address, "GET", "/v2/_catalog");
    assert!(
        catalog.ends_with(r#"{"repositories":["reg.example_5000/shop/till","shop/till"]}"#),
        "{catalog}"
    );
    let manifest = ask(address, "GET", "/v2/shop/till/manifests/1?ns=reg.example:5000");
    assert!(manifest.ends_with(&image.root_bytes()));
    for (digest, bytes) in &image.blobs {
        let blob = ask(
            address,
            "GET",
            &format!("/v2/reg.example_5000/shop/till/blobs/{digest}"),
        );
        assert!(blob.ends_with(bytes), "{digest}");
    }
    let push = ask_text(address, "POST", "/v2/shop/till/blobs/uploads/");
    assert!(
        push.starts_with("HTTP/1.1 405 ") && push.contains("UNSUPPORTED"),
        "{push}"
    );
    assert_eq!(server.terminate(), Some(0));
    let after = std::fs::read_dir(directory.path()).expect("a directory").count();
    assert_eq!(after, before, "nothing is unpacked");
}

#[test]
fn bundle_serve_is_open_to_other_machines_only_if_told_to() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let piece = mk_bundle(directory.path(), &mk_image());
    insta::assert_snapshot!(show(&["bundle", "serve", &piece, "--listen", "0.0.0.0:0"]), @r"
    status 2
    --- stderr
    error: other machines can reach `0.0.0.0:0`
      hint: give `--tls-certificate`, `--tls-key` and `--htpasswd`, or `--anonymous`, or listen on 127.0.0.1
    ");
    let mut server = Running::start(&["bundle", "serve", &piece, "--listen", "0.0.0.0:0", "--anonymous"]);
    assert!(server.line().starts_with("http://0.0.0.0:"));
    assert_eq!(server.terminate(), Some(0));
}

#[test]
fn bundle_serve_refuses_what_is_no_bundle_and_what_is_not_signed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let piece = mk_bundle(directory.path(), &mk_image());
    let archive = directory.path().join("images.tar").display().to_string();
    let foreign = show(&["bundle", "serve", &archive, "--listen", "127.0.0.1:0"]);
    assert!(
        foreign.starts_with("status 2") && foreign.contains("no bundle of Landfall"),
        "{foreign}"
    );
    let key = directory.path().join("key.pem").display().to_string();
    let public = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
        -----END PUBLIC KEY-----\n";
    std::fs::write(&key, public).expect("a writable directory");
    let unsigned = show(&[
        "bundle",
        "serve",
        &piece,
        "--public-key",
        &key,
        "--listen",
        "127.0.0.1:0",
    ]);
    assert!(
        unsigned.starts_with("status 2") && unsigned.contains("is refused"),
        "{unsigned}"
    );
}
