//! Runs the checks of `cargo xtask check-layers`.

use std::path::Path;

use anyhow::ensure;

use crate::layers::check_dependencies;
use crate::say;

/// Runs every check. Fails with a line for each violation.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let dependencies = check_dependencies(root)?;
    for line in &dependencies {
        say(line);
    }
    ensure!(
        dependencies.is_empty(),
        "{} dependencies go the wrong way",
        dependencies.len()
    );
    Ok(())
}
