//! Secrets that are easy to find again. No output of the program and no file of its state may hold one.

use std::os::unix::fs::PermissionsExt as _;

use camino::{Utf8Path, Utf8PathBuf};

pub const EXTERNAL_PASSWORD: &str = "canary-external-4f1c2a";

pub const PROVIDER_PASSWORD: &str = "canary-provider-8b3e6d";

pub const PRIMARY_PASSWORD: &str = "canary-primary-27d9f0";

/// Name of the only file of the agent that holds secrets: the last valid inputs, for a start with invalid ones.
pub const LAST_GOOD: &str = "last-good.json";
/// Directory of the kubelet's login files.
pub const KUBELET_LOGINS: &str = "etc/kubernetes/registries";

/// Prefix of all passwords of these tests.
const MARK: &str = "canary-";

/// Returns the lines that hold a secret, in clear or as base64 of `user:password` for `user`.
#[must_use]
pub fn leaks<'a>(text: &'a str, user: &str) -> Vec<&'a str> {
    use base64::Engine as _;
    let encoded = [EXTERNAL_PASSWORD, PROVIDER_PASSWORD, PRIMARY_PASSWORD]
        .map(|password| base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")));
    text.lines()
        .filter(|line| line.contains(MARK) || encoded.iter().any(|token| line.contains(token)))
        .collect()
}

/// Returns the files below a directory that hold a secret. A file in `may_hold`, or directly in a directory of
/// `may_hold`, is allowed if only its owner may read it.
///
/// # Panics
/// Panics if a file's mode cannot be read.
#[must_use]
pub fn leaking_files(directory: &Utf8Path, user: &str, may_hold: &[&str]) -> Vec<Utf8PathBuf> {
    let is_private = |file: &Utf8Path| {
        let mode = fs_err::metadata(file)
            .expect("a file that was just read")
            .permissions()
            .mode();
        may_hold
            .iter()
            .any(|name| file.ends_with(name) || file.parent().is_some_and(|parent| parent.ends_with(name)))
            && mode & 0o077 == 0
    };
    files_below(directory)
        .into_iter()
        .filter(|file| {
            // The file has disappeared: it was a temporary file that was renamed meanwhile.
            let bytes = fs_err::read(file).unwrap_or_default();
            !leaks(&String::from_utf8_lossy(&bytes), user).is_empty()
        })
        .filter(|file| !is_private(file))
        .collect()
}

/// Returns every regular file below a directory, none if the directory does not exist.
///
/// # Panics
/// Panics if a name is not UTF-8.
#[must_use]
pub fn files_below(directory: &Utf8Path) -> Vec<Utf8PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(next) = pending.pop() {
        let Ok(entries) = next.read_dir_utf8() else { continue };
        for entry in entries.flatten() {
            // Symbolic links are not followed: the directories of containerd and Landfall have none that
            // matter.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.into_path()),
                Ok(kind) if kind.is_file() => files.push(entry.into_path()),
                _ => {}
            }
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_in_clear_and_in_an_authorization_header() {
        let text = "a\nAuthorization: Basic YWRtaW46Y2FuYXJ5LWV4dGVybmFsLTRmMWMyYQ==\nb: canary-external-4f1c2a\n";
        assert_eq!(leaks(text, "admin").len(), 2);
    }
}
