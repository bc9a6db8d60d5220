//! `landfall demo`: the whole path on one machine, in one process, with nothing installed.
//!
//! The demonstration runs the parts that a host runs: the embedded registry as upstream and as primary, the agent with
//! its phases, and its webhook over HTTPS. Only the images are generated, and there is no containerd.

mod bundle;
mod pull;
mod review;
mod site;
mod upstream;

use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_agent::status::read_status;
use landfall_agent::{AgentOptions, Listeners, Offer, OfferedBundles, run_agent};
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::{NamedText, render_text};
use landfall_core::plan::plan_images;
use landfall_core::reference::parse_reference;
use landfall_core::registry_path::API_ROOT;
use landfall_core::report::plan_report;
use landfall_core::resolve::Resolver;
use landfall_core::settings::{ImageRole, Settings};
use landfall_core::status::{AgentStatus, BundleStatus, Phase};
use landfall_core::wording::counted;
use landfall_host::files::write_atomic;
use landfall_net::serve::listen;
use landfall_oci::bundle::BundleFile;
use landfall_oci::bundle::signature::PrivateKey;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::pull::Puller;
use crate::commands::agent::exit_status_of;
use crate::commands::plan::render_plan;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::interrupt::run_until_signalled;
use crate::logging::{self, LogFormat};
use crate::output::printer::{Printer, stdout_width};
use crate::output::progress::Progress;
use crate::output::table::TableForm;
use crate::runtime;

/// Interval at which the demonstration reads the status that the agent keeps on disk.
const POLL: Duration = Duration::from_millis(100);

/// Directory that the agent takes for the root of the host.
const HOST: &str = "host";
/// Directory of bundles on the host, below its root.
const BUNDLES: &str = "opt/spectrocloud/content";

/// Demonstrate the whole path on this machine, with nothing installed.
///
/// Starts an upstream registry with generated images on loopback, writes a user-data file and a profile, and runs the
/// agent through every phase: provider image, core images, all others, primary registry, redirection. Then it sends a
/// pod to the agent's webhook and shows the answer. It needs no root, no network and no container runtime. All files
/// are in a temporary directory, which is removed at the end. The exit status is 1 if a phase fails.
///
/// With `--offline` there is no upstream registry. The host gets the same images in a signed bundle of several pieces,
/// takes all of them from there, and serves them from its primary registry before it has copied them.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  landfall demo --exit\n  landfall demo --offline --exit")]
pub struct DemoArgs {
    /// Bring everything by a bundle: no registry outside of the host.
    #[arg(long)]
    pub offline: bool,
    /// End once everything is in place [default: stay up until Ctrl-C].
    #[arg(long)]
    pub exit: bool,
}

pub(crate) fn run(args: &DemoArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let progress = Progress::new(context.progress, &context.printer);
    logging::start(LogFormat::Text, progress.log.clone(), "error", context)?;
    let runtime = runtime::multi_thread(None)?;
    let shutdown = CancellationToken::new();
    let demonstration = demonstrate(args, context, &progress, &shutdown);
    let ended = runtime.block_on(run_until_signalled(demonstration, &shutdown));
    runtime.shutdown_background();
    // Without `--exit` the demonstration is a server, which a signal ends as intended.
    match ended {
        Ok(_) if args.exit && shutdown.is_cancelled() => Ok(ExitStatus::Interrupted),
        ended => ended,
    }
}

async fn demonstrate(
    args: &DemoArgs,
    context: &Context,
    progress: &Progress,
    shutdown: &CancellationToken,
) -> anyhow::Result<ExitStatus> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let path = Utf8Path::from_path(directory.path()).context("the temporary directory's name is not UTF-8")?;
    if args.offline {
        let site = Box::pin(Site::set_up_offline(path)).await?;
        print_introduction(&site, &context.printer)?;
        return run_site(site, args.exit, context, progress, shutdown).await;
    }
    let upstream_listener = bind().await?;
    let upstream = upstream_listener.local_addr()?;
    let serving = upstream::serve_upstream(&path.join("upstream"), upstream_listener)?;
    let scenario = async {
        let site = Site::set_up(path, upstream).await?;
        print_introduction(&site, &context.printer)?;
        Box::pin(upstream::push_images(upstream, &site::all_images())).await?;
        run_site(site, args.exit, context, progress, shutdown).await
    };
    // The upstream registry serves until the demonstration ends.
    tokio::select! {
        ended = Box::pin(scenario) => ended,
        () = serving => bail!("the upstream registry ended before the demonstration"),
    }
}

/// Origin of the images.
enum Origin {
    Upstream(SocketAddr),
    Bundle(Arc<BundleFile>),
}

/// Files of the demonstration, and the addresses of its agent.
struct Site {
    directory: Utf8PathBuf,
    origin: Origin,
    user_data: NamedText,
    profile: NamedText,
    api: SocketAddr,
    primary: SocketAddr,
    listeners: Listeners,
}

impl Site {
    async fn set_up(directory: &Utf8Path, upstream: SocketAddr) -> anyhow::Result<Site> {
        let user_data = |primary| site::user_data(upstream, primary);
        Site::write(directory, Origin::Upstream(upstream), user_data).await
    }

    async fn set_up_offline(directory: &Utf8Path) -> anyhow::Result<Site> {
        let (key, _) = PrivateKey::generate()?;
        let content = directory.join(HOST).join(BUNDLES);
        let images = site::bundled_images();
        let bundle = bundle::write_bundle(&content, "site.tar.zst", &images, &key).await?;
        let public_key = key.public_key().to_pem();
        let user_data = |primary| site::offline_user_data(primary, &public_key);
        Site::write(directory, Origin::Bundle(bundle), user_data).await
    }

    async fn write(
        directory: &Utf8Path,
        origin: Origin,
        user_data: impl FnOnce(SocketAddr) -> String,
    ) -> anyhow::Result<Site> {
        let (api, webhook, primary) = (bind().await?, bind().await?, bind().await?);
        let primary_address = primary.local_addr()?;
        Ok(Site {
            directory: directory.to_owned(),
            origin,
            user_data: write_input(directory, "user-data.yaml", &user_data(primary_address))?,
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
        let host = self.directory.join(HOST);
        fs_err::create_dir_all(&host)?;
        Ok(host)
    }

    /// Returns the bundles that the host has.
    fn offered(&self) -> OfferedBundles {
        match &self.origin {
            Origin::Upstream(_) => OfferedBundles::default(),
            Origin::Bundle(file) => OfferedBundles::new(iter::once(Offer::of(file))),
        }
    }

    fn settings(&self) -> anyhow::Result<Settings> {
        let inputs = Inputs {
            user_data: vec![self.user_data.clone()],
            profiles: vec![self.profile.clone()],
            bundles: self.offered().offers().clone(),
            ..Inputs::default()
        };
        let (settings, diagnostics) = parse_settings(&inputs);
        if diagnostics.has_errors() {
            bail!(
                "the demonstration's own inputs have errors\n{}",
                render_text(&diagnostics, false)
            );
        }
        settings.context("the demonstration's own inputs give no settings")
    }

    /// Returns the name in the primary registry of the image that no profile names.
    fn extra_in_primary(&self) -> anyhow::Result<String> {
        let settings = self.settings()?;
        let image = parse_reference(site::EXTRA.0)?;
        let target = Resolver::new(&settings).primary_target(&image, ImageRole::Application);
        Ok(target
            .context("the image has no name in the primary registry")?
            .to_string())
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
fn print_introduction(site: &Site, printer: &Printer) -> anyhow::Result<()> {
    let origin = match &site.origin {
        Origin::Upstream(upstream) => format!("upstream registry  {upstream}, with made-up images, behind a login"),
        Origin::Bundle(file) => format!(
            "bundle             {}, signed, in {}, with made-up images",
            file.path(),
            counted(file.piece_count(), "piece")
        ),
    };
    printer.note(format_args!(
        "{origin}\n\
         user-data          {}\n\
         profile            {}\n\
         primary registry   {}, embedded\n\
         containerd         none: the core images are kept in the content store\n",
        site.user_data.name, site.profile.name, site.primary
    ));
    let settings = site.settings()?;
    let resolver = Resolver::new(&settings).offering(site.offered().offers().clone());
    let report = plan_report(&resolver, &plan_images(&settings, &resolver));
    printer.data(&(render_plan(&report, TableForm::of_width(stdout_width())) + "\n\n"))
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
    let puller = Puller::new(site.primary)?;
    let extra = site.extra_in_primary()?;
    let state_dir = site.state_dir();
    // Before the bundle is adopted, the primary registry serves it in place.
    let pulling = async {
        Ok(match site.origin {
            Origin::Upstream(_) => None,
            Origin::Bundle(_) => Some(puller.pull_when_served(&extra).await),
        })
    };
    let (status, pulled) = match tokio::try_join!(wait_until_settled(&state_dir), pulling) {
        Ok(settled) => settled,
        Err(Unsettled::Failed(failure)) => {
            printer.problem(format_args!("error: {failure}"));
            return Ok(ExitStatus::AnswerIsNo);
        }
        Err(Unsettled::Unknown(error)) => return Err(error),
    };
    let webhook = status.webhook.context("the agent runs and serves no webhook")?;
    let answer = review::ask_webhook(&webhook).await?;
    printer.data(&answer.text)?;
    if let Some(extra) = pulled {
        let mut lines = extra.line();
        for image in &answer.images {
            lines.push_str(&puller.pull(image).await?.line());
        }
        let adopted = wait_until_adopted(&state_dir).await?;
        printer.data(&format!(
            "\npulls from the primary registry, the first of them before the bundle was adopted:\n{lines}\
             the bundle is adopted: {} of {} are in the host's store, and a receipt is written\n",
            adopted.adopted,
            counted(adopted.images, "image")
        ))?;
    }
    if !exit {
        let api = site.api;
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

/// Waits until all of the bundle is in the host's store.
async fn wait_until_adopted(state_dir: &Utf8Path) -> anyhow::Result<BundleStatus> {
    loop {
        let status = read_status(state_dir)?;
        let bundles = status.map(|status| status.bundles).unwrap_or_default();
        if let Some(problem) = bundles.iter().find_map(|bundle| bundle.problem.as_ref()) {
            bail!("the bundle is not adopted: {problem}");
        }
        let is_done = |bundle: &BundleStatus| bundle.phase == BundlePhase::Receipt;
        if let Some(done) = bundles.into_iter().find(is_done) {
            return Ok(done);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// End of the agent's first pass that is no success.
enum Unsettled {
    /// The phase that failed, with its message.
    Failed(String),
    /// The status cannot be read.
    Unknown(anyhow::Error),
}

/// Waits until the agent's first pass through its phases has succeeded.
async fn wait_until_settled(state_dir: &Utf8Path) -> Result<AgentStatus, Unsettled> {
    loop {
        let status = read_status(state_dir).map_err(Unsettled::Unknown)?;
        match status {
            Some(status) if status.phase == Phase::Running => return Ok(status),
            Some(status) if status.phase == Phase::Degraded => {
                let failed = status.failed_phase.unwrap_or(Phase::Degraded);
                let message = status.message.unwrap_or_default();
                return Err(Unsettled::Failed(format!("phase {failed} failed: {message}")));
            }
            _ => tokio::time::sleep(POLL).await,
        }
    }
}
