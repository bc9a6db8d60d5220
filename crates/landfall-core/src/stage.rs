//! Stages: actions of the host at a point of its boot or its life [spec:stages].
//!
//! This module has only types and decisions: the list of stages, the order of their parts, and the changes of a step to
//! shared files ([`accounts`], [`environment`]). The configuration reads stages from user-data, and the host crate runs
//! them.

pub mod accounts;
pub mod diff;
pub mod environment;

use secrecy::SecretString;

use crate::diagnostic::Location;

/// Kairos' stages, without their parts `.before` and `.after`: those of Kairos' documentation (cloud-init, boot stages),
/// and those that its agent runs (`pkg/action`, `pkg/uki`). Kairos runs `NAME.before` and `NAME.after` around each.
pub const STAGES: [&str; 27] = [
    "rootfs",
    "initramfs",
    "boot",
    "fs",
    "network",
    "reconcile",
    "before-install",
    "before-upgrade",
    "before-reset",
    "after-install",
    "after-install-chroot",
    "after-upgrade",
    "after-upgrade-chroot",
    "after-reset",
    "after-reset-chroot",
    "kairos-install.pre",
    "kairos-install.after",
    "kairos-upgrade.pre",
    "kairos-upgrade.after",
    "kairos-reset.pre",
    "kairos-reset.after",
    "kairos-uki-install.pre",
    "kairos-uki-install.after",
    "kairos-uki-upgrade.pre",
    "kairos-uki-upgrade.after",
    "kairos-uki-reset.pre",
    "kairos-uki-reset.after",
];
/// Stages that Kairos' provider runs around the start of Kubernetes, without the role of the node at their end, e.g.
/// `provider-kairos.bootstrap.after.master`.
pub const PROVIDER_STAGES: [&str; 2] = ["provider-kairos.bootstrap.before.", "provider-kairos.bootstrap.after."];
/// The parts of a stage that run before and after it.
const PARTS: [&str; 2] = [".before", ".after"];

/// The file for a step's variables if the step names none.
pub const ENVIRONMENT_FILE: &str = "/etc/environment";
/// Files below this directory hold logins, whatever their content looks like.
pub const CREDENTIAL_DIRECTORY: &str = "/etc/kubernetes/registries/";

/// Returns the parts of a stage in the order in which they run: `boot` has `boot.before`, `boot`, `boot.after`. A name
/// of a part returns only that part. A name that Kairos does not have is treated alike: its steps run under that name.
#[must_use]
pub fn parts_of(stage: &str) -> Vec<String> {
    if base_of(stage) != stage {
        return vec![stage.to_owned()];
    }
    let [before, after] = PARTS;
    vec![format!("{stage}{before}"), stage.to_owned(), format!("{stage}{after}")]
}

/// Returns true if Kairos runs a stage or part of this name.
#[must_use]
pub fn is_stage(name: &str) -> bool {
    is_whole_stage(base_of(name))
}

fn is_whole_stage(name: &str) -> bool {
    let has_role = |prefix: &str| {
        let role = name.strip_prefix(prefix).unwrap_or_default();
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !role.is_empty() && role.bytes().all(good)
    };
    STAGES.contains(&name) || PROVIDER_STAGES.into_iter().any(has_role)
}

/// Returns a stage's name without `.before` or `.after` of a part. `kairos-install.after` is no part.
#[must_use]
pub fn base_of(stage: &str) -> &str {
    if is_whole_stage(stage) {
        return stage;
    }
    let base = PARTS.iter().find_map(|part| stage.strip_suffix(part));
    base.unwrap_or(stage)
}

/// Returns the name of a stage or part that was probably meant by an unknown name.
#[must_use]
pub fn nearest_stage(name: &str) -> Option<String> {
    let parts = |stage: &str| {
        let [before, after] = PARTS;
        [stage.to_owned(), format!("{stage}{before}"), format!("{stage}{after}")]
    };
    let known: Vec<String> = STAGES.into_iter().flat_map(parts).collect();
    // A name with other separators is nearer than one with other letters.
    let plain = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    let same = known.iter().find(|stage| plain(stage) == plain(name));
    let near = || crate::wording::nearest(name, known.iter().map(String::as_str));
    same.cloned().or_else(|| near().map(str::to_owned))
}

/// One step of a stage, as the user wrote it. Its actions run in the order of the fields, as in Kairos.
#[derive(Debug, Clone)]
pub struct StageStep {
    /// The key `name`, with a suffix if it is not unique.
    pub name: String,
    /// The key `if`: a command for `sh -c`. The step runs if it exits with 0.
    pub condition: Option<String>,
    pub directories: Vec<StageDirectory>,
    pub files: Vec<StageFile>,
    /// Commands for `sh -c`, in order.
    pub commands: Vec<String>,
    /// Users to create, by name.
    pub users: Vec<StageUser>,
    pub systemctl: Systemctl,
    /// Variables to set in a file.
    pub environment: Option<Environment>,
    pub location: Location,
}

#[derive(Debug, Clone)]
pub struct StageFile {
    /// The absolute path.
    pub path: String,
    pub mode: u32,
    /// The numeric owner.
    pub owner: u32,
    /// The numeric group.
    pub group: u32,
    /// The owner as `user[:group]`, which takes precedence over the numbers.
    pub owner_name: Option<String>,
    /// The decoded content.
    pub content: SecretBytes,
}

/// Bytes that may hold a secret; `Debug` does not print them.
#[derive(Clone)]
pub struct SecretBytes(pub Vec<u8>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

#[derive(Debug, Clone)]
pub struct StageDirectory {
    /// The absolute path.
    pub path: String,
    pub mode: u32,
    /// The numeric owner.
    pub owner: u32,
    /// The numeric group.
    pub group: u32,
}

/// A user that a step creates, or whose password and keys it sets.
#[derive(Debug, Clone)]
pub struct StageUser {
    pub name: String,
    /// The key `passwd`: a hash as in `/etc/shadow`, or the password itself.
    pub password: Option<SecretString>,
    /// The key `lock_passwd`: no password opens the account.
    pub lock_password: bool,
    /// The key `ssh_authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// The key `gecos`: the user's full name or description.
    pub gecos: String,
    /// The key `homedir`; default `/home/<name>`.
    pub home: Option<String>,
    /// True if the home directory is created; false with `no_create_home`.
    pub create_home: bool,
    /// The key `primary_group`; default is a group of the user's name.
    pub primary_group: Option<String>,
    /// The key `groups`: groups besides the primary one.
    pub groups: Vec<String>,
    /// The key `shell`; default `/bin/sh`.
    pub shell: Option<String>,
    /// The key `uid`; default is the first free number.
    pub uid: Option<u32>,
    /// The key `system`: the number is below 1000.
    pub system: bool,
}

/// Changes to systemd units, in the order in which they are made. Overrides come first, because they are files.
#[derive(Debug, Clone, Default)]
pub struct Systemctl {
    pub overrides: Vec<StageFile>,
    pub enable: Vec<String>,
    pub disable: Vec<String>,
    pub mask: Vec<String>,
    pub start: Vec<String>,
}

/// Variables for a file of `KEY=value` lines; its other lines stay.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The absolute path; [`ENVIRONMENT_FILE`] if the step names none.
    pub path: String,
    /// Names and values, as written.
    pub variables: Vec<(String, SecretString)>,
    /// The mode of a new file: 0644, or 0600 if a variable holds a credential.
    pub mode: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_its_three_parts_and_a_part_is_itself() {
        for (stage, is_known, expected) in [
            ("boot", true, "boot.before boot boot.after"),
            (
                "after-install",
                true,
                "after-install.before after-install after-install.after",
            ),
            ("boot.after", true, "boot.after"),
            (
                "kairos-install.after",
                true,
                "kairos-install.after.before kairos-install.after kairos-install.after.after",
            ),
            ("kairos-install.pre.before", true, "kairos-install.pre.before"),
            ("kairos-uki-upgrade.after.after", true, "kairos-uki-upgrade.after.after"),
            (
                "provider-kairos.bootstrap.after.k3s-ready",
                true,
                "provider-kairos.bootstrap.after.k3s-ready.before provider-kairos.bootstrap.after.k3s-ready \
                 provider-kairos.bootstrap.after.k3s-ready.after",
            ),
            (
                "provider-kairos.bootstrap.before.master.after",
                true,
                "provider-kairos.bootstrap.before.master.after",
            ),
            (
                "provider-kairos.bootstrap.before",
                false,
                "provider-kairos.bootstrap.before",
            ),
            ("site", false, "site.before site site.after"),
            ("boot.after.before", false, "boot.after.before"),
        ] {
            assert_eq!(parts_of(stage).join(" "), expected, "{stage}");
            assert_eq!(is_stage(stage), is_known, "{stage}");
        }
    }

    #[test]
    fn a_stage_that_was_probably_meant_is_found() {
        for (name, expected) in [
            ("initramfz", Some("initramfs")),
            ("Initramfs", Some("initramfs")),
            ("boot.befor", Some("boot.before")),
            ("reconcile_after", Some("reconcile.after")),
            ("after_install_chroot", Some("after-install-chroot")),
            ("kairos-install-pre.before", Some("kairos-install.pre.before")),
            ("kairos-install.pree", Some("kairos-install.pre")),
            ("site-setup", None),
            ("post-install", None),
        ] {
            assert_eq!(nearest_stage(name).as_deref(), expected, "{name}");
        }
    }
}
