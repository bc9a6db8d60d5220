//! The command line as types. `docs/reference/cli.md` is generated from it.

use clap::{CommandFactory as _, Parser, Subcommand, ValueHint};

use crate::args::GlobalArgs;
use crate::commands::{
    agent, bundle, check, completion, copy, demo, events, explain, images, inventory, login, man, plan, profile, push,
    redirect, registry, reload, schema, stages, status, uninstall, validate, version, webhook,
};
use crate::context::Context;
use crate::exit::ExitStatus;

/// Decides where every container image of an edge Kubernetes cluster comes from, and gets it there.
///
/// Landfall reads the user-data and the cluster profiles that an edge site has already. On a workstation it reports
/// their errors and shows where each image would come from. On the host, its agent fetches the images, fills the
/// primary registry and makes the cluster pull from there.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, propagate_version = true, max_term_width = 100, after_long_help = EXIT_STATUS)]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0: done; 1: the answer is no (an input has errors, an image is missing, the agent is degraded); \
2: the command could not do its work.

Environment: NO_COLOR turns colours off, FORCE_COLOR and CLICOLOR_FORCE turn them on where there is no terminal; \
LANDFALL_LOG filters the log of services, e.g. `debug` or `landfall_oci=trace`; \
MALLOC_MMAP_THRESHOLD_=131072 makes glibc give the memory of services back to the system (the shipped systemd unit and \
manifests set it).";

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(demo::DemoArgs),
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Images(images::ImagesArgs),
    Explain(explain::ExplainArgs),
    Check(check::CheckArgs),
    Push(push::PushArgs),
    Copy(copy::CopyArgs),
    Bundle(bundle::BundleArgs),
    Inventory(inventory::InventoryArgs),
    Schema(schema::SchemaArgs),
    Profile(profile::ProfileArgs),
    Agent(agent::AgentArgs),
    Reload(reload::ReloadArgs),
    Stages(stages::StagesArgs),
    Status(status::StatusArgs),
    Events(events::EventsArgs),
    Redirect(redirect::RedirectArgs),
    Uninstall(uninstall::UninstallArgs),
    Registry(registry::RegistryArgs),
    Webhook(webhook::WebhookArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Completion(completion::CompletionArgs),
    Man(man::ManArgs),
    Version(version::VersionArgs),
}

impl Command {
    pub(crate) fn run(self, context: &Context) -> anyhow::Result<ExitStatus> {
        match self {
            Command::Demo(args) => demo::run(&args, context),
            Command::Validate(args) => validate::run(&args, context),
            Command::Plan(args) => plan::run(&args, context),
            Command::Images(args) => images::run(&args, context),
            Command::Explain(args) => explain::run(&args, context),
            Command::Check(args) => check::run(&args, context),
            Command::Push(args) => push::run(&args, context),
            Command::Copy(args) => copy::run(&args, context),
            Command::Bundle(args) => bundle::run(&args, context),
            Command::Inventory(args) => inventory::run(&args, context),
            Command::Schema(args) => schema::run(&args, context),
            Command::Profile(args) => profile::run(&args, context),
            Command::Agent(args) => agent::run(&args, context),
            Command::Reload(args) => reload::run(&args, context),
            Command::Stages(args) => stages::run(&args, context),
            Command::Status(args) => status::run(&args, context),
            Command::Events(args) => events::run(&args, context),
            Command::Redirect(args) => redirect::run(&args, context),
            Command::Uninstall(args) => uninstall::run(&args, context),
            Command::Registry(args) => registry::run(&args, context),
            Command::Webhook(args) => webhook::run(&args, context),
            Command::Login(args) => login::run_login(&args, context),
            Command::Logout(args) => login::run_logout(&args, context),
            Command::Completion(args) => completion::run(&args, command_with_hints(), context),
            Command::Man(args) => man::run(&args, command_with_hints(), context),
            Command::Version(args) => version::run(&args, context),
        }
    }
}

/// Returns the whole command line with what shells need to complete values: which of them are files and directories.
fn command_with_hints() -> clap::Command {
    hint_values(Cli::command())
}

fn hint_values(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        let names = arg.get_value_names().unwrap_or_default();
        let hint = match names.first().map(|name| name.as_str()) {
            Some("FILE") => ValueHint::FilePath,
            Some("DIR") => ValueHint::DirPath,
            _ => return arg,
        };
        arg.value_hint(hint)
    });
    command.mut_subcommands(hint_values)
}
