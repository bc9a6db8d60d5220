//! `landfall registry`: serves the embedded registry without an agent, and maintains its directory.

mod care;
mod reload;
mod serve;

use clap::{Args, Subcommand};

use crate::commands::registry::care::{GcArgs, ListArgs, RemoveArgs, StatsArgs, VerifyArgs};
use crate::commands::registry::serve::ServeArgs;
use crate::context::Context;
use crate::exit::ExitStatus;

/// Serve a registry from a directory, and maintain it.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    #[command(subcommand)]
    pub command: RegistryCommand,
}

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    Serve(ServeArgs),
    Gc(GcArgs),
    Verify(VerifyArgs),
    Ls(ListArgs),
    Rm(RemoveArgs),
    Stats(StatsArgs),
}

pub(crate) fn run(args: &RegistryArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    match &args.command {
        RegistryCommand::Serve(args) => serve::run(args, context),
        RegistryCommand::Gc(args) => care::run_gc(args, context),
        RegistryCommand::Verify(args) => care::run_verify(args, context),
        RegistryCommand::Ls(args) => care::run_list(args, context),
        RegistryCommand::Rm(args) => care::run_remove(args, context),
        RegistryCommand::Stats(args) => care::run_stats(args, context),
    }
}
