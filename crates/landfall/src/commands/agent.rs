//! `landfall agent`: the long-running role. This module only starts and stops it.

use std::sync::Arc;

use anyhow::bail;
use camino::Utf8PathBuf;
use clap::Args;
use landfall_agent::{AgentOptions, AgentOutcome, Role, run_agent};
use landfall_core::diagnostic::render_text;
use landfall_core::status::FailedPhase;
use landfall_oci::client::{AmbientAccess, Proxies};
use tokio_util::sync::CancellationToken;

use crate::args::{InputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::{compat_of, load_values};
use crate::interrupt::run_service;
use crate::logging::{self, LogFormat};
use crate::output::progress::Progress;
use crate::runtime;

/// Worker threads of the agent. Transfers wait for the network, and hashing and disk work run on blocking threads: one
/// worker per core would only cost memory on an edge host.
const WORKERS: usize = 2;
/// Worker threads of the webhook. Reviews take microseconds. On a host with busy cores, a second thread makes reviews
/// wait for each other.
const WEBHOOK_WORKERS: usize = 1;

/// Fetch the images, fill the primary registry, redirect the cluster's pulls.
///
/// Runs on an edge host, under systemd. The agent goes through its phases until everything is in place. Then it watches
/// its input files and reconciles each change; SIGHUP makes it do so at once. SIGTERM shuts it down gracefully. After any interruption, the next run
/// resumes the work. With `--once` the agent ends when everything is in place (status 0) or a phase failed permanently
/// (status 1).
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall agent --user-data /oem/90_custom.yaml --profile /etc/landfall/profile.yaml"
)]
pub struct AgentArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    /// End when everything is in place, or a phase failed permanently.
    #[arg(long)]
    pub once: bool,
    /// State directory of the agent; overrides `landfall.stateDir` of the user-data.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    /// Root of the host's file system.
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    pub root: Utf8PathBuf,
    /// Format of log lines on stderr.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

pub(crate) fn run(args: &AgentArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    run_role(args, Role::Host, context)
}

/// Runs an agent in one of its roles.
pub(crate) fn run_role(args: &AgentArgs, role: Role, context: &Context) -> anyhow::Result<ExitStatus> {
    let progress = Progress::new(context.progress, &context.printer);
    logging::start_service(args.log_format, progress.log.clone(), context)?;
    let (values, findings) = load_values(&args.inputs.values)?;
    if findings.has_errors() {
        let text = render_text(&findings, context.printer.colors_messages());
        context.printer.problem(text);
        return Ok(ExitStatus::AnswerIsNo);
    }
    let mut options = options_of(args)?;
    options.values = values;
    options.role = role;
    let workers = match role {
        Role::Host => WORKERS,
        Role::Webhook => WEBHOOK_WORKERS,
    };
    let runtime = runtime::multi_thread(Some(workers))?;
    let shutdown = CancellationToken::new();
    let reload = options.reload.clone();
    let agent = run_agent(options, Arc::clone(&progress.sink), shutdown.clone());
    let outcome = runtime.block_on(run_service(agent, &shutdown, || {
        tracing::info!("SIGHUP: the input files are read again");
        reload.notify_one();
    }));
    // Tasks that have not ended yet must not keep the process alive.
    runtime.shutdown_background();
    exit_status_of(outcome?, context)
}

/// Maps the outcome of an agent's run to an exit status.
pub(crate) fn exit_status_of(outcome: AgentOutcome, context: &Context) -> anyhow::Result<ExitStatus> {
    match outcome {
        AgentOutcome::Running | AgentOutcome::Drained => Ok(ExitStatus::Done),
        AgentOutcome::Failed { failures } => {
            for FailedPhase { phase, message } in failures {
                context
                    .printer
                    .problem(format_args!("error: phase {phase} failed: {message}"));
            }
            Ok(ExitStatus::AnswerIsNo)
        }
        AgentOutcome::GaveUp => {
            bail!("some work was still running when the time limit of the graceful shutdown was over")
        }
    }
}

fn options_of(args: &AgentArgs) -> anyhow::Result<AgentOptions> {
    let InputArgs {
        user_data, profiles, ..
    } = &*args.inputs;
    if user_data.iter().chain(profiles).any(|path| path.as_str() == "-") {
        bail!("the agent watches its input files: stdin (`-`) cannot be watched");
    }
    let mut options = AgentOptions::new(user_data.clone(), profiles.clone());
    options.compat = compat_of(args.inputs.compat);
    options.state_dir.clone_from(&args.state_dir);
    options.root.clone_from(&args.root);
    options.once = args.once;
    // The user-data names the proxies of a host. Proxies from a service's environment would be invisible to the
    // operator.
    options.ambient = AmbientAccess {
        proxies: Proxies::default(),
        ..AmbientAccess::of_environment()
    };
    Ok(options)
}
