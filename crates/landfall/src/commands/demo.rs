//! `landfall demo`: the whole path on one machine, in one process, with nothing installed.
//!
//! The demonstration runs the parts that a host runs: the embedded registry as upstream and as primary, the agent with
//! its phases, and its webhook over HTTPS. Only the images are generated, and there is no containerd.

mod review;
mod site;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_agent::status::read_status;
use landfall_agent::{AgentOptions, Listeners, run_agent};
use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::{NamedText, render_text};
use landfall_core::plan::plan_images;
use landfall_core::registry_path::API_ROOT;
use landfall_core::report::plan_report;
use landfall_core::resolve::Resolver;
use landfall_core::status::{AgentStatus, Phase};
use landfall_host::files::write_atomic;
use landfall_net::serve::listen;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::commands::agent::exit_status_of;
use crate::commands::plan::render_plan;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::interrupt::run_until_signalled;
use crate::logging::{self, LogFormat};
use crate::output::printer::{Printer, stdout_width};
use crate::output::progress::Progress;
use crate::runtime;

/// Interval at which the demonstration reads the status that the agent keeps on disk.
const POLL: Duration = Duration::from_millis(100);

/// Demonstrate the whole path on this machine, with nothing installed.
///
/// Starts an upstream registry with generated images on loopback, writes a user-data file and a profile, and runs the
/// agent through every phase: provider image, core images, all others, primary registry, redirection. Then it sends a
/// pod to the agent's webhook and shows the answer. It needs no root, no network and no container runtime. All files
/// are in a temporary directory, which is removed at the end. The exit status is 1 if a phase fails.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall demo --exit")]
pub struct DemoArgs {
    /// End once everything is in place [default: stay up until Ctrl-C].
    #[arg(long)]
    pub exit: bool,
}

pub(crate) fn run(args: &DemoArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let progress = Progress::new(context.progress, &context.printer);
    logging::start(LogFormat::Text, progress.log.clone(), "error")?;
    let runtime = runtime::multi_thread(None)?;
    let shutdown = CancellationToken::new();
    let demonstration = demonstrate(args.exit, context, &progress, &shutdown);
    let ended = runtime.block_on(run_until_signalled(demonstration, &shutdown));
    runtime.shutdown_background();
    // Without `--exit` the demonstration is a server, which a signal ends as intended.
    match ended {
        Ok(_) if args.exit && shutdown.is_cancelled() => Ok(ExitStatus::Interrupted),
        ended => ended,
    }
}

async fn demonstrate(
    exit: bool,
    context: &Context,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> anyhow::Result<ExitStatus> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let path = Utf8Path::from_path(directory.path()).context("the temporary directory's name is not UTF-8")?;
    let upstream_listener = bind().await?;
    let upstream = upstream_listener.local_addr()?;
    let serving = upstream::serve_upstream(&path.join("upstream"), upstream_listener)?;
    let scenario = async {
        let site = Site::set_up(path, upstream).await?;
        print_introduction(&site, upstream, &context.printer)?;
        Box::pin(upstream::push_images(upstream, &site::upstream_images())).await?;
        run_site(site, exit, context, progress, shutdown).await
    };
    // The upstream registry serves until the demonstration ends.
    tokio::select! {
        ended = Box::pin(scenario) => ended,
        () = serving => bail!("the upstream registry ended before the demonstration"),
    }
}

/// Files of the demonstration, and the addresses of its agent.
struct Site {
    directory: Utf8PathBuf,
    user_data: NamedText,
    profile: NamedText,
    api: SocketAddr,
    primary: SocketAddr,
    listeners: Listeners,
}

impl Site {
    async fn set_up(directory: &Utf8Path, upstream: SocketAddr) -> anyhow::Result<Site> {
        let (api, webhook, primary) = (bind().await?, bind().await?, bind().await?);
        let primary_address = primary.local_addr()?;
        fs_err::create_dir(directory.join("host"))?;
        Ok(Site {
            directory: directory.to_owned(),
            user_data: write_input(directory, "user-data.yaml", &site::user_data(upstream, primary_address))?,
            profile: write_input(directory, "profile.yaml", site::PROFILE)?,
            api: api.local_addr()?,
            primary: primary_address,
            listeners: Listeners {
                status: Some(api),
                webhook: Some(webhook),
                primary: Some(primary),
                mirror: None,
            },
        })
    }

    fn state_dir(&self) -> Utf8PathBuf {
        self.directory.join("state")
    }

    /// Returns the directory that the agent takes for the root of the host: it writes the kubelet's files there.
    fn host(&self) -> anyhow::Result<Utf8PathBuf> {
        let host = self.directory.join("host");
        fs_err::create_dir_all(&host)?;
        Ok(host)
    }

    fn agent_options(&mut self) -> anyhow::Result<AgentOptions> {
        let path = |input: &NamedText| Utf8PathBuf::from(&*input.name);
        let mut options = AgentOptions::new(vec![path(&self.user_data)], vec![path(&self.profile)]);
        options.root = self.host()?;
        options.state_dir = Some(self.state_dir());
        options.listeners = std::mem::take(&mut self.listeners);
        Ok(options)
    }
}

async fn bind() -> anyhow::Result<TcpListener> {
    let bound = listen(("127.0.0.1", 0)).await;
    bound.context("cannot listen on a free port of 127.0.0.1")
}

fn write_input(directory: &Utf8Path, name: &str, text: &str) -> anyhow::Result<NamedText> {
    let path = directory.join(name);
    // The user-data holds a password, as on a real host.
    write_atomic(&path, 0o600, text.as_bytes()).with_context(|| format!("cannot write `{path}`"))?;
    Ok(NamedText::new(path.as_str(), text))
}

/// Prints the addresses and files of the site, and the plan.
fn print_introduction(site: &Site, upstream: SocketAddr, printer: &Printer) -> anyhow::Result<()> {
    printer.note(format_args!(
        "upstream registry  {upstream}, with made-up images, behind a login\n\
         user-data          {}\n\
         profile            {}\n\
         primary registry   {}, embedded\n\
         containerd         none: the core images are kept in the content store\n",
        site.user_data.name, site.profile.name, site.primary
    ));
    let inputs = Inputs {
        user_data: vec![site.user_data.clone()],
        profiles: vec![site.profile.clone()],
        ..Inputs::default()
    };
    let (settings, diagnostics) = parse_settings(&inputs);
    if diagnostics.has_errors() {
        bail!(
            "the demonstration's own inputs have errors\n{}",
            render_text(&diagnostics, false)
        );
    }
    let settings = settings.context("the demonstration's own inputs give no settings")?;
    let resolver = Resolver::new(&settings);
    let report = plan_report(&resolver, &plan_images(&settings, &resolver));
    printer.data(&(render_plan(&report, stdout_width()) + "\n\n"))
}

/// Runs the agent, and shows its result.
async fn run_site(
    mut site: Site,
    exit: bool,
    context: &Context,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> anyhow::Result<ExitStatus> {
    let stop = shutdown.child_token();
    let options = site.agent_options()?;
    let mut agent = Box::pin(run_agent(options, Arc::clone(&progress.sink), stop.clone()));
    let shown = tokio::select! {
        ended = &mut agent => return exit_status_of(ended?, context),
        shown = show_result(&site, exit, &context.printer) => shown,
    };
    stop.cancel();
    let ended = agent.await?;
    match shown? {
        ExitStatus::Done => exit_status_of(ended, context),
        status => Ok(status),
    }
}

/// Waits until everything is in place, asks the webhook, and stays up unless `exit` is set.
async fn show_result(site: &Site, exit: bool, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let status = wait_until_settled(&site.state_dir()).await?;
    if status.phase == Phase::Degraded {
        let failed = status.failed_phase.unwrap_or(Phase::Degraded);
        printer.problem(format_args!(
            "error: phase {failed} failed: {}",
            status.message.unwrap_or_default()
        ));
        return Ok(ExitStatus::AnswerIsNo);
    }
    let webhook = status.webhook.context("the agent runs and serves no webhook")?;
    printer.data(&review::ask_webhook(&webhook).await?)?;
    if !exit {
        let (api, state_dir) = (site.api, site.state_dir());
        printer.note(format_args!(
            "everything is in place; Ctrl-C ends it. Meanwhile, in another terminal:\n  \
             landfall status --state-dir {state_dir}\n  landfall events --state-dir {state_dir}\n  \
             curl http://{api}/metrics\n  curl http://{}{API_ROOT}_catalog",
            site.primary
        ));
        // Ctrl-C ends the agent, and the end of the agent drops this future.
        std::future::pending::<()>().await;
    }
    Ok(ExitStatus::Done)
}

/// Waits until the agent's first pass through its phases has succeeded or failed.
async fn wait_until_settled(state_dir: &Utf8Path) -> anyhow::Result<AgentStatus> {
    loop {
        if let Some(status) = read_status(state_dir)?
            && matches!(status.phase, Phase::Running | Phase::Degraded)
        {
            return Ok(status);
        }
        tokio::time::sleep(POLL).await;
    }
}
