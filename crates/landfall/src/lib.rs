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
pub mod host_api;
mod host_bundles;
mod inputs;
mod interrupt;
mod logging;
pub mod output;
mod quantity;
mod registries;
mod runtime;
pub mod schemas;
mod shell;
mod terminal;
mod transfer;

use landfall_agent::failure::find_hint_in_context;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::printer::{Printer, ReaderGone};

/// Runs one command and prints its error on stderr.
#[must_use]
pub fn run(cli: Cli) -> ExitStatus {
    let context = Context {
        printer: Printer::new(cli.global.verbosity(), cli.global.color),
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
    if let Some(hint) = find_hint_in_context(error) {
        text.push_str("\n  hint: ");
        text.push_str(&hint);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use landfall_core::failure::{Explanation, FailureKind};
    use landfall_host::containerd::ContainerdError;
    use landfall_oci::client::{ConnectionProblem, Fault};
    use landfall_oci::image::TransferError;

    use super::*;

    fn transfer(source: impl std::error::Error + Send + Sync + 'static) -> TransferError {
        TransferError {
            attempt: "cannot copy".to_owned(),
            kind: FailureKind::Unreachable,
            source: Some(Box::new(source)),
        }
    }

    #[test]
    fn the_hint_of_a_fault_inside_of_a_transfer_is_printed() {
        let error = anyhow::Error::from(transfer(Fault::from(ConnectionProblem::Name)));
        assert_eq!(
            error_chain(&error),
            "error: cannot copy\n  because: the name cannot be resolved\n  \
             hint: check the registry's name and this machine's DNS"
        );
    }

    #[test]
    fn the_hint_of_containerd_is_printed() {
        let error = anyhow::Error::from(ContainerdError::Connect {
            socket: "/run/c.sock".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        });
        let text = error_chain(&error.context("cannot load"));
        assert!(
            text.ends_with("\n  hint: run as root, or give this user access to `/run/c.sock`"),
            "{text}"
        );
    }

    #[test]
    fn the_hint_of_a_setting_is_printed_on_a_line_of_its_own() {
        let explanation = Explanation::new("cannot use `/state`", "set `landfall.stateDir` in the user-data");
        let error = anyhow::Error::from(io::Error::other("it is full")).context(explanation);
        assert_eq!(
            error_chain(&error),
            "error: cannot use `/state`\n  because: it is full\n  hint: set `landfall.stateDir` in the user-data"
        );
    }
}
