//! `landfall webhook serve`: serves the agent's webhook without an agent, for a pod of the cluster.

use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use landfall_agent::Role;

use crate::args::RequiredInputArgs;
use crate::commands::agent::{AgentArgs, run_role};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::logging::LogFormat;

/// Serve the admission webhook without an agent.
#[derive(Debug, Args)]
pub struct WebhookArgs {
    #[command(subcommand)]
    pub command: WebhookCommand,
}

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    Serve(WebhookServeArgs),
}

/// Serve the admission webhook, without the rest of the agent.
///
/// The Helm chart runs this in the cluster. The webhook decides as the agent on a host does. It registers itself with
/// the API server and repairs pods that were created without it. It fetches no image, and asks the
/// primary registry which images it holds. A host that runs `landfall agent` does not need it.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall webhook serve --user-data /etc/landfall/user-data.yaml --state-dir /var/lib/landfall"
)]
pub struct WebhookServeArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    /// Directory for certificates and the last valid configuration; overrides `landfall.stateDir` of the user-data.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    /// Root of the file system.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: Utf8PathBuf,
    /// Format of log lines on stderr.
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
