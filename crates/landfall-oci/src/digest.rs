//! Digests, computed while bytes pass (OCI image specification, descriptor.md: `sha256` and `sha512`).

use std::fmt;
use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA256, SHA512, digest};
use landfall_core::reference::Digest;

/// Bytes that are read for their hash at once.
const BUFFER_SIZE: usize = 256 * 1024;

/// A running hash.
#[derive(Clone)]
pub struct Digester {
    context: Context,
    algorithm: Algorithm,
    length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// The usual algorithm.
    #[default]
    Sha256,
    /// The other algorithm of the specification.
    Sha512,
}

impl Algorithm {
    /// Returns the algorithm of a digest.
    #[must_use]
    pub fn of(digest: &Digest) -> Algorithm {
        match digest.algorithm() {
            "sha512" => Algorithm::Sha512,
            _ => Algorithm::Sha256,
        }
    }

    /// Returns the name before the colon.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }
}

impl Digester {
    #[must_use]
    pub fn new(algorithm: Algorithm) -> Digester {
        let context = Context::new(match algorithm {
            Algorithm::Sha256 => &SHA256,
            Algorithm::Sha512 => &SHA512,
        });
        Digester {
            context,
            algorithm,
            length: 0,
        }
    }

    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Hashes all bytes of a reader; `progress` receives the length of each read.
    ///
    /// # Errors
    /// Returns the reader's own error.
    pub fn read_all(&mut self, reader: &mut impl Read, mut progress: impl FnMut(u64)) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            self.update(&buffer[..read]);
            progress(read as u64);
        }
    }

    /// Returns the number of hashed bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    #[must_use]
    pub fn finish(self) -> Digest {
        to_digest(self.algorithm, self.context.finish().as_ref())
    }
}

impl fmt::Debug for Digester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Digester")
            .field("algorithm", &self.algorithm)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Returns the SHA-256 digest of bytes in memory.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    to_digest(Algorithm::Sha256, digest(&SHA256, bytes).as_ref())
}

/// Returns true if bytes in memory match a digest.
#[must_use]
pub fn matches_digest(bytes: &[u8], expected: &Digest) -> bool {
    let mut digester = Digester::new(Algorithm::of(expected));
    digester.update(bytes);
    digester.finish() == *expected
}

fn to_digest(algorithm: Algorithm, hash: &[u8]) -> Digest {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = format!("{}:", algorithm.name());
    for byte in hash {
        text.push(char::from(HEX[usize::from(byte >> 4)]));
        text.push(char::from(HEX[usize::from(byte & 15)]));
    }
    text.parse()
        .expect("an algorithm's name and the hexadecimal digits of its output are a digest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_published_test_vectors() {
        // FIPS 180-2, the message "abc".
        let sha512 = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d\
                      4423643ce80e2a9ac94fa54ca49f";
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest_of(b"abc").as_str(), sha256);
        let mut digester = Digester::new(Algorithm::Sha512);
        digester.update(b"a");
        digester.update(b"bc");
        assert_eq!(digester.length(), 3);
        assert_eq!(digester.finish().as_str(), sha512);
        assert!(matches_digest(b"abc", &sha512.parse().unwrap()));
        assert!(!matches_digest(b"abd", &sha256.parse().unwrap()));
    }
}
