//! Digests as people compare them.

/// Returns the algorithm and the first twelve digits.
pub(crate) fn short_digest(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}
