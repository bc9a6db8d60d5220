//! Facts about this machine.

use std::io;
use std::time::Duration;

use camino::Utf8Path;
use landfall_core::oci_types::Platform;

use crate::root::HostRoot;

/// There when systemd is the init system (sd_booted(3)).
const SYSTEMD_MARKER: &str = "run/systemd/system";

/// What this machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Operating system and processor, in the words of image indexes.
    pub platform: Platform,
    /// Time since boot. Stages `reconcile` begin five minutes after it.
    pub uptime: Duration,
    /// Whether systemd is the init system of the root.
    pub has_systemd: bool,
}

/// Gathers the facts. Platform and uptime are those of the running machine whatever the root.
#[must_use]
pub fn gather_facts(root: &HostRoot) -> HostFacts {
    let uptime = u64::try_from(rustix::system::sysinfo().uptime).unwrap_or(0);
    HostFacts {
        platform: own_platform(),
        uptime: Duration::from_secs(uptime),
        has_systemd: root.as_path().join(SYSTEMD_MARKER).is_dir(),
    }
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

/// Bytes that an unprivileged user may still write to the file system of `path`.
///
/// # Errors
/// When there is no such path.
pub fn free_space(path: &Utf8Path) -> io::Result<u64> {
    let file_system = rustix::fs::statvfs(path.as_str())?;
    Ok(file_system.f_bavail.saturating_mul(file_system.f_frsize))
}

#[cfg(test)]
mod tests {
    use landfall_testkit::host_fixture::HostFixture;

    use super::*;

    #[test]
    fn systemd_is_told_by_its_directory() {
        let host = HostFixture::mk();
        assert!(!gather_facts(&HostRoot::new(host.root())).has_systemd);
        host.put("/run/systemd/system/unit", 0o644, "");
        assert!(gather_facts(&HostRoot::new(host.root())).has_systemd);
    }

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
    fn the_machine_is_up_and_its_temporary_directory_has_room() {
        let host = HostFixture::mk();
        assert!(gather_facts(&HostRoot::new("/")).uptime > Duration::ZERO);
        assert!(free_space(host.root()).unwrap() > 0);
        assert_eq!(
            free_space(&host.path("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }
}
