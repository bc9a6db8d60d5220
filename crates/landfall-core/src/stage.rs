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

/// Kairos' stages, without `.before` and `.after`.
pub const STAGES: [&str; 15] = [
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
];

/// The file for a step's variables if the step names none.
pub const ENVIRONMENT_FILE: &str = "/etc/environment";
/// Files below this directory hold logins, whatever their content looks like.
pub const CREDENTIAL_DIRECTORY: &str = "/etc/kubernetes/registries/";

/// Returns the parts of a stage in the order in which they run: `boot` has `boot.before`, `boot`, `boot.after`. A name
/// of a part returns only that part. `None` if there is no such stage.
#[must_use]
pub fn parts_of(stage: &str) -> Option<Vec<String>> {
    if STAGES.contains(&stage) {
        return Some(vec![
            format!("{stage}.before"),
            stage.to_owned(),
            format!("{stage}.after"),
        ]);
    }
    STAGES.contains(&base_of(stage)).then(|| vec![stage.to_owned()])
}

/// Returns a stage's name without `.before` or `.after`.
#[must_use]
pub fn base_of(stage: &str) -> &str {
    stage
        .strip_suffix(".before")
        .or_else(|| stage.strip_suffix(".after"))
        .unwrap_or(stage)
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
        let parts = |stage| parts_of(stage).map(|parts| parts.join(" "));
        for (stage, expected) in [
            ("boot", Some("boot.before boot boot.after")),
            (
                "after-install",
                Some("after-install.before after-install after-install.after"),
            ),
            ("boot.after", Some("boot.after")),
            ("boots", None),
            ("boot.after.before", None),
            ("", None),
        ] {
            assert_eq!(parts(stage).as_deref(), expected, "{stage}");
        }
    }
}
