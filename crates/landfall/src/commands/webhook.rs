//! `landfall webhook serve`: the agent's webhook on its own, for a pod of the cluster.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use landfall_agent::Role;

use crate::args::InputArgs;
use crate::commands::agent::{AgentArgs, run_role};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::logging::LogFormat;

/// Serve the admission webhook alone.
#[derive(Debug, Args)]
pub struct WebhookArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: WebhookCommand,
}

/// What can be done with the webhook.
// A line of help here would hide what the arguments' types say.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    Serve(ServeArgs),
}

/// Serve the webhook, without the rest of the agent.
///
/// What the Helm chart runs in the cluster. It decides as the agent on a host does, registers itself at the API server
/// and mends pods that slipped through; it fetches no image, and asks the primary registry what it holds. A host that
/// runs `landfall agent` needs none of this.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall webhook serve --user-data /etc/landfall/user-data.yaml --state-dir /var/lib/landfall"
)]
pub struct ServeArgs {
    /// What decides.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Where certificates and the last good configuration are kept; beats `landfall.stateDir` of the user-data.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    /// The root of the file system.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: Utf8PathBuf,
    /// How log lines are written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

pub(crate) fn run(args: &WebhookArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let WebhookCommand::Serve(args) = &args.command;
    let agent = AgentArgs {
        inputs: args.inputs.clone(),
        once: false,
        state_dir: args.state_dir.clone(),
        root: args.root.clone(),
        log_format: args.log_format,
    };
    run_role(&agent, Role::Webhook, context)
}
