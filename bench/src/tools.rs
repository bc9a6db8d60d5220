//! Programs of other projects: their paths, or the reasons of their absence, which rows report.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::registries::RegistryKind;

/// The path of a program, or the reason of its absence.
pub(crate) type Found = Result<PathBuf, String>;

/// Finds a program of Debian's packages.
pub(crate) fn find_installed(name: &str) -> Found {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&path).map(|directory| directory.join(name));
    let mut found = here.filter(|program| program.is_file());
    found
        .next()
        .ok_or_else(|| format!("`{name}` is not installed (make peers)"))
}

/// Builds a program from its Go module with `tests-interop/tools/tools.sh`, once.
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

/// Finds the program of a registry; `landfall` is the measured one.
pub(crate) fn find_registry(kind: RegistryKind, landfall: &Path) -> Found {
    match kind {
        RegistryKind::DockerRegistry => find_installed("docker-registry"),
        RegistryKind::Registry3 => find_built("registry"),
        RegistryKind::Olareg => find_built("olareg"),
        RegistryKind::Landfall => Ok(landfall.to_owned()),
    }
}
