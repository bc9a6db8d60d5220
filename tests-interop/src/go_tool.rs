//! Programs from Go modules, built once by `tests-interop/tools/tools.sh`.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use crate::program::run;

/// Returns the path of a program of `tests-interop/tools/tools.tsv`, and builds it if it is missing.
///
/// # Panics
/// Panics with the output of the build if it fails.
#[must_use]
pub fn tool(name: &str) -> Utf8PathBuf {
    let mut command = Command::new(Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/tools.sh"));
    command.arg(name);
    Utf8PathBuf::from(run(command).succeeded().stdout().trim())
}
