//! Whether a port speaks TLS, by the first bytes of a handshake (RFC 5246 section 7.4.1.2) that is not gone on with.

use std::io;
use std::time::Duration;

use landfall_net::random::random_bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// An answer that takes longer says nothing: some servers wait for a line to end.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// The content types of TLS records: `change_cipher_spec`, `alert`, `handshake`, `application_data`.
const RECORDS: std::ops::RangeInclusive<u8> = 20..=23;

/// `false` when the port is known to answer a TLS client with something else; whatever cannot be known is `true`.
pub(super) async fn may_speak_tls(host: &str, port: u16) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let first = timeout(ANSWER_WITHIN, first_byte_of_answer(host, port)).await;
    !matches!(first, Ok(Ok(first)) if !RECORDS.contains(&first))
}

async fn first_byte_of_answer(host: &str, port: u16) -> io::Result<u8> {
    let mut stream = TcpStream::connect((host, port)).await?;
    stream.write_all(&client_hello()).await?;
    stream.read_u8().await
}

/// A `ClientHello` that every TLS server answers, if only with an alert.
fn client_hello() -> Vec<u8> {
    const BEFORE_RANDOM: [u8; 11] = [
        0x16, 0x03, 0x01, 0x00, 0x55, // a record of a handshake, of 85 bytes
        0x01, 0x00, 0x00, 0x51, // `client_hello`, of 81 bytes
        0x03, 0x03, // TLS 1.2
    ];
    const AFTER_RANDOM: [u8; 47] = [
        0x00, // no session
        0x00, 0x0c, 0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0xcc, 0xa9, 0xcc, 0xa8, // ECDHE suites
        0x01, 0x00, // no compression
        0x00, 0x1c, // extensions, of 28 bytes
        0x00, 0x0a, 0x00, 0x06, 0x00, 0x04, 0x00, 0x1d, 0x00, 0x17, // groups: x25519, secp256r1
        0x00, 0x0b, 0x00, 0x02, 0x01, 0x00, // points: uncompressed
        0x00, 0x0d, 0x00, 0x08, 0x00, 0x06, 0x04, 0x03, 0x08, 0x04, 0x04, 0x01, // signatures, with SHA-256
    ];
    [&BEFORE_RANDOM[..], &random_bytes::<32>(), &AFTER_RANDOM].concat()
}
