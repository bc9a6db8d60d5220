//! Decisions, start-up time and memory at rest.

use std::io::{Write as _, stderr};
use std::path::Path;

use crate::report::Row;
use crate::{Subject, idle, plan, process};

/// Measures everything that needs no network. Rows that need the program are left out with a remark if it is
/// not built.
pub(crate) fn measure(subject: &Subject) -> anyhow::Result<Vec<Row>> {
    let mut rows = plan::measure()?;
    let binary = subject.landfall()?;
    if binary.exists() {
        rows.extend(measure_binary(&binary)?);
    } else {
        writeln!(
            stderr(),
            "left out: `{}` is not built (cargo build --profile dist --bin landfall)",
            binary.display()
        )?;
    }
    Ok(rows)
}

fn measure_binary(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![process::measure_help(binary)?];
    match idle::measure(binary) {
        Ok(row) => rows.push(row),
        Err(error) => writeln!(stderr(), "left out: the agent's idle memory: {error:#}")?,
    }
    Ok(rows)
}
