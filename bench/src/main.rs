//! Side-by-side benchmarks: `landfall-bench bundle|core|copy|credential|registry|webhook`.
//!
//! Every number is measured in the same run; a missing measurement has a remark. The program prints a table and
//! writes `target/bench/NAME.json`. Exit status 1 means that a limit is missed.

mod bundle;
mod content;
mod copy;
mod core;
mod credential;
mod fill;
mod http;
mod idle;
mod plan;
mod process;
mod registries;
mod registry;
mod report;
mod tools;
mod webhook;
mod workload;

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Side-by-side benchmarks
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    suite: Suite,
}

#[derive(Debug, Subcommand)]
enum Suite {
    /// Bundles: made, loaded, verified, copied
    Bundle(bundle::BundleArgs),
    /// Decisions, start-up time and memory at rest, against their limits
    Core(Subject),
    /// Copies from registry to registry
    Copy(copy::CopyArgs),
    /// The kubelet's credential provider, call by call
    Credential(Subject),
    /// The admission webhook under load
    Webhook(Subject),
    /// Registries: pulls, pushes, start-up time and memory
    Registry(registry::RegistryArgs),
}

/// The cases of a benchmark.
#[derive(Debug, Args)]
pub(crate) struct Cases<C: ValueEnum + Send + Sync + 'static> {
    /// Run only these cases
    #[arg(
        long = "case",
        value_enum,
        ignore_case = true,
        value_delimiter = ',',
        value_name = "CASE"
    )]
    cases: Vec<C>,
}

impl<C: ValueEnum + PartialEq + Send + Sync + 'static> Cases<C> {
    /// Returns true if a case is to be run.
    pub(crate) fn has(&self, case: &C) -> bool {
        self.cases.is_empty() || self.cases.contains(case)
    }
}

/// The measured program.
#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// Path of the `landfall` to measure [default: the one built in the same profile as this program]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
}

impl Subject {
    /// Returns the path of the program.
    pub(crate) fn landfall(&self) -> anyhow::Result<PathBuf> {
        match &self.binary {
            Some(binary) => Ok(binary.clone()),
            None => {
                let here = env::current_exe().context("cannot find this program")?;
                Ok(here.with_file_name("landfall"))
            }
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let (name, rows) = match Cli::parse().suite {
        Suite::Bundle(args) => ("bundle", bundle::measure(&args)?),
        Suite::Core(subject) => ("core", core::measure(&subject)?),
        Suite::Copy(args) => ("copy", copy::measure(&args)?),
        Suite::Credential(subject) => ("credential", credential::measure(&subject.landfall()?)?),
        Suite::Webhook(subject) => ("webhook", webhook::measure(&subject.landfall()?)?),
        Suite::Registry(args) => ("registry", registry::measure(&args)?),
    };
    std::io::stdout()
        .lock()
        .write_all(report::render_table(&rows).as_bytes())?;
    report::write_json(&rows, &Path::new("target/bench").join(name).with_extension("json"))?;
    Ok(if rows.iter().all(|row| row.reach) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
