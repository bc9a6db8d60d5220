//! Facts about this machine.

use std::time::Duration;

use landfall_core::oci_types::Platform;

/// Returns the time since boot.
#[must_use]
pub fn uptime() -> Duration {
    Duration::from_secs(u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(0))
}

/// Returns the platform that this program was built for, in the notation of image indexes.
#[must_use]
pub fn own_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", None),
        "arm" => ("arm", Some("v7")),
        "x86" => ("386", None),
        other => (other, None),
    };
    Platform {
        os: std::env::consts::OS.to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_platform_is_in_the_words_of_image_indexes() {
        let platform = own_platform().to_string();
        assert!(
            !platform.contains("x86_64") && !platform.contains("aarch64"),
            "{platform}"
        );
        assert!(platform.starts_with("linux/"), "{platform}");
    }

    #[test]
    fn the_machine_is_up() {
        assert!(uptime() > Duration::ZERO);
    }
}
