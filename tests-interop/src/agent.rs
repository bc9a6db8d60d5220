//! The binary under test.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};

use crate::program::{Finished, run};

static BINARY: OnceLock<Utf8PathBuf> = OnceLock::new();

/// The path of `landfall`, built by the first caller with the profile of the running test.
///
/// # Panics
/// When the build fails.
pub fn binary() -> &'static Utf8Path {
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test knows its own path");
        // target/<profile>/deps/<test>
        let profile_directory = test.ancestors().nth(2).expect("a test lies in target/<profile>/deps");
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args([
            "build",
            "--quiet",
            "--package",
            "landfall",
            "--bin",
            "landfall",
            "--target-dir",
        ]);
        command.arg(
            profile_directory
                .parent()
                .expect("a profile lies in a target directory"),
        );
        if profile_directory.ends_with("release") {
            command.arg("--release");
        }
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        drop(run(command).succeeded());
        Utf8PathBuf::from_path_buf(profile_directory.join("landfall")).expect("a target directory with a UTF-8 name")
    })
}

/// A command of the binary, with no configuration from this machine's environment.
#[must_use]
pub fn landfall(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(arguments);
    command
}

/// Runs a command of the binary to its end.
#[must_use]
pub fn run_landfall(arguments: &[&str]) -> Finished {
    run(landfall(arguments))
}
