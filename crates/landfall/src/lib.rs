//! The `landfall` program as a library: command line, commands, output.
//!
//! Start reading at [`cli`] (what the user can say), then `commands` (one module each). The decisions are made in
//! `landfall-core`; a command loads files, asks, and prints.
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

/// Runs one command and says on stderr what went wrong.
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

/// An error with its causes, one a line, and what to do about it.
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
