//! Work on the project itself:
//!
//! - `cargo xtask gen [--check]` writes the generated documentation and schemas, or reports which of them have drifted.
//! - `cargo xtask check-layers` checks the structure of the code: dependencies between crates, import circles inside a
//!   crate, references to the specification, first words of doc comments, paths of the registry's API, hints
//!   that no test follows.
//! - `cargo xtask check-layers --report [--root DIRECTORY]` prints the figures of each crate. Both forms take another
//!   checkout, so that two commits can be compared by the same rules.
//! - `cargo xtask check-commits BASE` checks the subjects of the commits since `BASE`. `make lint` does not run it,
//!   because a shallow clone has no `BASE`.
//! - `cargo run -p xtask --features proto -- proto` generates the client of containerd's API.

mod check;
mod circles;
mod comments;
mod commits;
mod crates;
mod folders;
mod generated;
mod hints;
mod imports;
mod layers;
mod product;
#[cfg(feature = "proto")]
mod proto;
mod registry_paths;
mod report;
mod sources;
mod spec_anchors;
mod tokens;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

const USAGE: &str =
    "usage: cargo xtask gen [--check] | check-layers [--report] [--root DIRECTORY] | check-commits BASE";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("this crate lies in the workspace")?;
    match arguments {
        ["gen"] => generated::write(root),
        ["gen", "--check"] => generated::check(root),
        ["check-layers"] => check::check(root),
        ["check-layers", "--root", other] => check::check(Path::new(other)),
        ["check-layers", "--report"] => report(root),
        ["check-layers", "--report", "--root", other] | ["check-layers", "--root", other, "--report"] => {
            report(Path::new(other))
        }
        ["check-commits", base] => commits::check(root, base),
        #[cfg(feature = "proto")]
        ["proto"] => proto::generate(root),
        _ => bail!(USAGE),
    }
}

#[expect(clippy::print_stdout, reason = "the report is data, and may be written to a file")]
fn report(root: &Path) -> anyhow::Result<()> {
    print!("{}", check::report(root)?);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a tool for developers, without levels of output")]
fn say(text: &str) {
    eprintln!("{text}");
}
