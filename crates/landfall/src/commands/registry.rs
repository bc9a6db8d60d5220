//! `landfall registry`: serves the embedded registry without an agent, and maintains its directory.

pub(crate) mod directories;
pub(crate) mod listen;
mod maintenance;
mod reload;
mod serve;

use clap::{Args, Subcommand};

use crate::commands::registry::maintenance::{GcArgs, ListArgs, RegistryRemoveArgs, StatsArgs, VerifyArgs};
use crate::commands::registry::serve::RegistryServeArgs;
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
    Serve(RegistryServeArgs),
    Gc(GcArgs),
    Verify(VerifyArgs),
    Ls(ListArgs),
    #[command(visible_alias = "remove")]
    Rm(RegistryRemoveArgs),
    Stats(StatsArgs),
}

pub(crate) fn run(args: &RegistryArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    match &args.command {
        RegistryCommand::Serve(args) => serve::run(args, context),
        RegistryCommand::Gc(args) => maintenance::run_gc(args, context),
        RegistryCommand::Verify(args) => maintenance::run_verify(args, context),
        RegistryCommand::Ls(args) => maintenance::run_list(args, context),
        RegistryCommand::Rm(args) => maintenance::run_remove(args, context),
        RegistryCommand::Stats(args) => maintenance::run_stats(args, context),
    }
}
