//! Decisions, start-up and memory at rest.

use std::io::{Write as _, stderr};
use std::path::Path;

use crate::report::Row;
use crate::{Subject, idle, plan, process};

/// Measures what needs no network. What needs the program is left out when it is not built, and that is said.
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
