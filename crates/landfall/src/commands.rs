//! The commands, one module each, and the dispatch to them.

pub(crate) mod events;
pub(crate) mod status;

use crate::Context;
use crate::cli::Command;
use crate::exit::ExitStatus;

/// Runs the command that the user asked for.
pub(crate) fn dispatch(command: Command, context: &Context) -> anyhow::Result<ExitStatus> {
    match command {
        Command::Status(args) => status::run(&args, context),
        Command::Events(args) => events::run(&args, context),
    }
}
