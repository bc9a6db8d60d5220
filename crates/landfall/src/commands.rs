//! The commands, one module each, and the dispatch to them.

pub(crate) mod agent;
pub(crate) mod check;
pub(crate) mod copy;
pub(crate) mod demo;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod images;
pub(crate) mod login;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod push;
pub(crate) mod redirect;
pub(crate) mod registry;
pub(crate) mod schema;
pub(crate) mod stages;
pub(crate) mod status;
pub(crate) mod transfer;
pub(crate) mod validate;
pub(crate) mod webhook;

use crate::Context;
use crate::cli::Command;
use crate::exit::ExitStatus;

/// Runs the command that the user asked for.
pub(crate) fn dispatch(command: Command, context: &Context) -> anyhow::Result<ExitStatus> {
    match command {
        Command::Demo(args) => demo::run(&args, context),
        Command::Validate(args) => validate::run(&args, context),
        Command::Plan(args) => plan::run(&args, context),
        Command::Images(args) => images::run(&args, context),
        Command::Explain(args) => explain::run(&args, context),
        Command::Check(args) => check::run(&args, context),
        Command::Push(args) => push::run(&args, context),
        Command::Copy(args) => copy::run(&args, context),
        Command::Schema(args) => schema::run(&args, context),
        Command::Profile(args) => profile::run(&args, context),
        Command::Agent(args) => agent::run(&args, context),
        Command::Stages(args) => stages::run(&args, context),
        Command::Status(args) => status::run(&args, context),
        Command::Events(args) => events::run(&args, context),
        Command::Redirect(args) => redirect::run(&args, context),
        Command::Registry(args) => registry::run(&args, context),
        Command::Webhook(args) => webhook::run(&args, context),
        Command::Login(args) => login::run_login(&args, context),
        Command::Logout(args) => login::run_logout(&args, context),
    }
}
