//! Random bytes from the kernel. The generator of `aws-lc-rs` measures the processor's jitter for 25 ms of CPU time
//! before its first byte, which would delay the start of a registry. A process that speaks TLS pays that anyway, at its
//! first handshake.

/// Returns bytes that nobody can guess.
///
/// # Panics
/// Panics if the kernel lacks getrandom(2). No supported kernel does.
pub fn random_bytes<const LENGTH: usize>() -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    getrandom::fill(&mut bytes).expect("every kernel that we run on has getrandom(2)");
    bytes
}

/// Returns a random number from 0 to 1, for the jitter of a timer.
#[must_use]
pub fn random_fraction() -> f64 {
    f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_draws_are_the_same() {
        assert_ne!(random_bytes::<16>(), random_bytes::<16>());
    }
}
