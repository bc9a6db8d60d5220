//! The programs of others: where they are, and why one is absent. A row whose program is absent says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::registries::RegistryKind;

/// A program, or why it cannot be had.
pub(crate) type Found = Result<PathBuf, String>;

/// A program of Debian's packages.
pub(crate) fn find_installed(name: &str) -> Found {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&path).map(|directory| directory.join(name));
    let mut found = here.filter(|program| program.is_file());
    found
        .next()
        .ok_or_else(|| format!("`{name}` is not installed (make peers)"))
}

/// A program that `tests-interop/tools/tools.sh` builds from its Go module, once.
pub(crate) fn find_built(name: &str) -> Found {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests-interop/tools/tools.sh");
    let built = Command::new(script).arg(name).stdin(Stdio::null()).output();
    let built = built.map_err(|error| format!("tests-interop/tools/tools.sh cannot be run: {error}"))?;
    let last_line = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .trim()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    };
    if built.status.success() {
        return Ok(PathBuf::from(last_line(&built.stdout)));
    }
    Err(format!("cannot be built: {}", last_line(&built.stderr)))
}

/// A registry's program; `landfall` is the one that is measured.
pub(crate) fn find_registry(kind: RegistryKind, landfall: &Path) -> Found {
    match kind {
        RegistryKind::DockerRegistry => find_installed("docker-registry"),
        RegistryKind::Registry3 => find_built("registry"),
        RegistryKind::Olareg => find_built("olareg"),
        RegistryKind::Landfall => Ok(landfall.to_owned()),
    }
}
