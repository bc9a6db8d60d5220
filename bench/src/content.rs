//! Bytes that look like compressed layers: a stream of pseudo-random numbers, the same for the same seed. It is
//! never held in memory as a whole: the peak of a child begins with the memory of its parent, so it would show
//! in the peak of every program that is started later.

use std::io::{self, Write};

use aws_lc_rs::digest::{Context, SHA256};

const PIECE: usize = 256 * 1024;
/// Magic bytes of gzip. Some programs look at them, and compress layers that are not compressed.
const GZIP: [u8; 3] = [0x1f, 0x8b, 8];

/// Bytes defined by seed and length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) seed: u64,
    pub(crate) size: u64,
}

impl Content {
    /// Writes all bytes.
    pub(crate) fn write_to(self, out: &mut dyn Write) -> io::Result<()> {
        let mut numbers = Numbers(self.seed);
        let mut piece = vec![0; PIECE];
        let mut left = self.size;
        while left > 0 {
            for eight in piece.chunks_exact_mut(8) {
                eight.copy_from_slice(&numbers.draw().to_le_bytes());
            }
            if left == self.size {
                piece[..GZIP.len()].copy_from_slice(&GZIP);
            }
            let now = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            out.write_all(&piece[..now])?;
            left -= now as u64;
        }
        Ok(())
    }

    /// Returns `sha256:…`, computed here and not by the measured code.
    pub(crate) fn digest(self) -> String {
        let mut hash = Hashing(Context::new(&SHA256));
        self.write_to(&mut hash).expect("a hash takes everything");
        render_digest(hash.0.finish().as_ref())
    }
}

/// Returns the digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> String {
    render_digest(aws_lc_rs::digest::digest(&SHA256, bytes).as_ref())
}

/// Hashes this number of bytes from the processor's cache: the lower bound of verifying them.
pub(crate) fn hash_from_cache(size: u64) {
    let mut hash = Context::new(&SHA256);
    let piece = vec![0x5a; PIECE];
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        hash.update(&piece[..now]);
        left -= now as u64;
    }
    std::hint::black_box(hash.finish());
}

fn render_digest(hash: &[u8]) -> String {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

struct Hashing(Context);

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// Returns a number in `0.0..1.0`.
    pub(crate) fn draw_fraction(&mut self) -> f64 {
        const BITS: u32 = 53;
        (self.draw() >> (64 - BITS)) as f64 / (1_u64 << BITS) as f64
    }

    /// Returns a log-normally distributed number (Box and Muller).
    pub(crate) fn draw_lognormal(&mut self, median: f64, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.draw_fraction()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.draw_fraction()).cos();
        median * (sigma * normal).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_bytes_of_any_length() {
        let bytes = |seed, size| {
            let mut bytes = Vec::new();
            Content { seed, size }.write_to(&mut bytes).unwrap();
            bytes
        };
        let long = bytes(7, 300_001);
        assert_eq!(long.len(), 300_001);
        assert_eq!(bytes(7, 11), long[..11]);
        assert_ne!(bytes(8, 11), long[..11]);
        assert_eq!(digest_of(&long), Content { seed: 7, size: 300_001 }.digest());
    }
}
