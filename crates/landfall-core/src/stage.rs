//! Stages: what the host does when it reaches a point of its boot or its life (SPEC section 10.1).
//!
//! Types and decisions only: which stages there are and in what order their parts run, and what a step makes of the files
//! that it shares with others ([`accounts`], [`environment`]). Reading them from user-data is the configuration's job,
//! running them the host's.

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

/// The file that a step's variables go to when it names none.
pub const ENVIRONMENT_FILE: &str = "/etc/environment";
/// Files below hold logins, whatever their content looks like.
pub const CREDENTIAL_DIRECTORY: &str = "/etc/kubernetes/registries/";

/// The parts of a stage in the order in which they run: `boot` is `boot.before`, `boot`, `boot.after`; a part by its own
/// name is only itself. `None` when there is no such stage.
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

/// A stage's name without `.before` or `.after`.
#[must_use]
pub fn base_of(stage: &str) -> &str {
    stage
        .strip_suffix(".before")
        .or_else(|| stage.strip_suffix(".after"))
        .unwrap_or(stage)
}

/// One step of a stage, as the user wrote it. What it does is done in the order of the fields, as Kairos does it.
#[derive(Debug, Clone)]
pub struct StageStep {
    /// `name`, unique after a suffix where needed.
    pub name: String,
    /// `if`: run by `sh -c`; the step runs when it exits 0.
    pub condition: Option<String>,
    /// Directories to make.
    pub directories: Vec<StageDirectory>,
    /// Files to write.
    pub files: Vec<StageFile>,
    /// Commands for `sh -c`, in order.
    pub commands: Vec<String>,
    /// Users to make, by name.
    pub users: Vec<StageUser>,
    /// Units to enable, disable, mask, start or override.
    pub systemctl: Systemctl,
    /// Variables to set in a file.
    pub environment: Option<Environment>,
    /// Where it is written.
    pub location: Location,
}

/// A file of a stage.
#[derive(Debug, Clone)]
pub struct StageFile {
    /// Absolute path.
    pub path: String,
    /// Mode bits.
    pub mode: u32,
    /// Numeric owner.
    pub owner: u32,
    /// Numeric group.
    pub group: u32,
    /// `user[:group]`, which beats the numbers.
    pub owner_name: Option<String>,
    /// The content, decoded.
    pub content: SecretBytes,
}

/// Bytes that may hold a secret: not printed.
#[derive(Clone)]
pub struct SecretBytes(pub Vec<u8>);

impl std::fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.0.len())
    }
}

/// A directory of a stage.
#[derive(Debug, Clone)]
pub struct StageDirectory {
    /// Absolute path.
    pub path: String,
    /// Mode bits.
    pub mode: u32,
    /// Numeric owner.
    pub owner: u32,
    /// Numeric group.
    pub group: u32,
}

/// A user that a step makes, or whose password and keys it sets.
#[derive(Debug, Clone)]
pub struct StageUser {
    /// The login name.
    pub name: String,
    /// `passwd`: a hash as in `/etc/shadow`, or the password itself.
    pub password: Option<SecretString>,
    /// `lock_passwd`: no password opens the account.
    pub lock_password: bool,
    /// `ssh_authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// `gecos`: who it is.
    pub gecos: String,
    /// `homedir`; `/home/<name>`.
    pub home: Option<String>,
    /// Whether the home directory is made: not with `no_create_home`.
    pub create_home: bool,
    /// `primary_group`; a group of the user's name.
    pub primary_group: Option<String>,
    /// `groups`, beside the primary one.
    pub groups: Vec<String>,
    /// `shell`; `/bin/sh`.
    pub shell: Option<String>,
    /// `uid`; the first that is free.
    pub uid: Option<u32>,
    /// `system`: with a number below 1000.
    pub system: bool,
}

/// What a step wants of systemd's units, in the order in which it is done; overrides come first, as they are files.
#[derive(Debug, Clone, Default)]
pub struct Systemctl {
    /// Drop-ins, as the files that they are.
    pub overrides: Vec<StageFile>,
    /// Units to enable.
    pub enable: Vec<String>,
    /// Units to disable.
    pub disable: Vec<String>,
    /// Units to mask.
    pub mask: Vec<String>,
    /// Units to start.
    pub start: Vec<String>,
}

/// Variables for a file of `KEY=value` lines, whose other lines stay.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Absolute path; [`ENVIRONMENT_FILE`] where the step names none.
    pub path: String,
    /// Names and values, as written.
    pub variables: Vec<(String, SecretString)>,
    /// The mode of a file that is not there yet: 0644, or 0600 when a variable holds a credential.
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
