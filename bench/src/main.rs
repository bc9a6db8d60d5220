//! Speed and memory against their limits: `landfall-bench core [--binary PATH]`.
//!
//! Every number is measured here and now; what cannot be measured is left out and said. Prints a table and writes
//! `target/bench/core.json`. Status 1 means that a limit is missed.

mod idle;
mod plan;
mod process;
mod report;

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use report::Row;

const USAGE: &str = "usage: landfall-bench [core] [--binary PATH-OF-LANDFALL]";

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = env::args().skip(1);
    let mut binary = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "core" => {}
            "--binary" => binary = Some(PathBuf::from(arguments.next().context(USAGE)?)),
            other => bail!("`{other}` is not known; {USAGE}"),
        }
    }
    let mut stderr = std::io::stderr().lock();
    let mut rows = plan::measure()?;
    let binary = match binary {
        Some(binary) => binary,
        None => beside_this_program()?,
    };
    if binary.exists() {
        rows.extend(measure_binary(&binary, &mut stderr)?);
    } else {
        writeln!(
            stderr,
            "left out: `{}` is not built (cargo build --profile dist --bin landfall)",
            binary.display()
        )?;
    }
    std::io::stdout()
        .lock()
        .write_all(report::render_table(&rows).as_bytes())?;
    report::write_json(&rows, Path::new("target/bench/core.json"))?;
    Ok(if rows.iter().all(|row| row.reach) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn measure_binary(binary: &Path, stderr: &mut impl std::io::Write) -> anyhow::Result<Vec<Row>> {
    let mut rows = vec![process::measure_help(binary)?];
    match idle::measure(binary) {
        Ok(row) => rows.push(row),
        Err(error) => writeln!(stderr, "left out: the agent's idle memory: {error:#}")?,
    }
    Ok(rows)
}

/// The `landfall` that was built in the same profile.
fn beside_this_program() -> anyhow::Result<PathBuf> {
    let here = env::current_exe().context("cannot find this program")?;
    Ok(here.with_file_name("landfall"))
}
