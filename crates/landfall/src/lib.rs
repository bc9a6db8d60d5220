//! The `landfall` program as a library: command line, commands, output.
//!
//! Start reading at [`cli`] (the command line), then `commands` (one module each). `landfall-core` makes the decisions;
//! a command loads files, calls it, and prints the result.
//!
//! Invariants: stdout carries data and nothing else; every line passes through [`output::printer::Printer`]; no secret
//! is ever printed; no asynchronous runtime is started before a command needs one.

mod allocator;
pub mod args;
pub mod cli;
mod commands;
mod context;
pub mod credential_provider;
pub mod exit;
mod inputs;
mod interrupt;
mod logging;
pub mod output;
mod registries;
mod runtime;
pub mod schemas;
mod shell;
mod terminal;
mod transfer;

use landfall_oci::client::RegistryError;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::printer::{Printer, ReaderGone};

/// Runs one command and prints its error on stderr.
#[must_use]
pub fn run(cli: Cli) -> ExitStatus {
    let context = Context {
        printer: Printer::new(cli.global.verbosity()),
        progress: cli.global.progress,
    };
    match cli.command.run(&context) {
        Ok(status) => status,
        Err(error) if error.is::<ReaderGone>() => ExitStatus::Done,
        Err(error) => {
            context.printer.problem(error_chain(&error));
            ExitStatus::Failed
        }
    }
}

/// Renders an error: its causes, one per line, and a hint.
fn error_chain(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str("\n  because: ");
        text.push_str(&cause.to_string());
    }
    let of_registry = error.chain().find_map(|cause| cause.downcast_ref::<RegistryError>());
    if let Some(hint) = of_registry.and_then(RegistryError::hint) {
        text.push_str("\n  hint: ");
        text.push_str(hint);
    }
    text
}
