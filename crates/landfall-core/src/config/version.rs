//! Versions of profiles: Semantic Versioning 2.0.0 [spec:profile.version].

use semver::Version;

/// Returns true for a version such as `1.2.3` or `1.2.3-rc.1`: three numbers, and no `v`.
pub(crate) fn is_semantic_version(text: &str) -> bool {
    Version::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers() {
        for version in ["1.0.0", "0.1.2", "1.2.3-rc.1", "1.2.3+build", "1.2.3-a.b+c"] {
            assert!(is_semantic_version(version), "{version}");
        }
        for other in [
            "", "1", "1.2", "v1.2", "v1.2.3", "1.2.3.4", "1.02.3", "1.2.3-", "1.2.x", " 1.2.3",
        ] {
            assert!(!is_semantic_version(other), "{other}");
        }
    }
}
