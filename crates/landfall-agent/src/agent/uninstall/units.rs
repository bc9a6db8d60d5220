//! The systemd units that the package has, as their text.

/// The directory of units that an administrator installs and enables.
pub(super) const DIRECTORY: &str = "/etc/systemd/system";

macro_rules! unit {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../../packaging/systemd/", $name)))
    };
}

/// The names and texts of our units.
pub(super) const UNITS: [(&str, &str); 6] = [
    unit!("landfall-agent.service"),
    unit!("landfall-stages-boot.service"),
    unit!("landfall-stages-fs.service"),
    unit!("landfall-stages-initramfs.service"),
    unit!("landfall-stages-network.service"),
    unit!("landfall-stages-rootfs.service"),
];
