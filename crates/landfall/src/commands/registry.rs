//! `landfall registry serve`: the embedded registry on its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use landfall_oci::certificate::load_pair;
use landfall_oci::serve::tls::CertificateSlot;
use landfall_oci::serve::{ServeLimits, serve};
use landfall_oci::server::{Policy, Registry, Users, registry_service};
use landfall_oci::store::ContentStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::exit::ExitStatus;
use crate::interrupt::run_until_signalled;
use crate::logging::{self, LogFormat};
use crate::output::progress::Progress;
use crate::{Context, allocator};

/// Serve images.
#[derive(Debug, Args)]
pub struct RegistryArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RegistryCommand,
}

/// What can be done with a registry.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Serve a registry from a directory.
    Serve(ServeArgs),
}

/// Serve a registry from a directory.
///
/// The same registry that the agent embeds as the primary one: any OCI client pushes to it and pulls from it. On an
/// address that others can reach it wants TLS and a login.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry serve --root /srv/images --listen 127.0.0.1:5000")]
pub struct ServeArgs {
    /// Where the images are kept; made when it is not there.
    #[arg(long, value_name = "DIR")]
    pub root: Utf8PathBuf,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Who may push and pull: a file made by `htpasswd -B`. Without it, everybody may.
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<Utf8PathBuf>,
    /// The server's certificate chain, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<Utf8PathBuf>,
    /// The certificate's key, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<Utf8PathBuf>,
    /// Refuse pushes and deletions.
    #[arg(long)]
    pub read_only: bool,
    /// How log lines are written.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

pub(crate) fn run(args: &RegistryArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let RegistryCommand::Serve(args) = &args.command;
    ensure!(
        args.listen.ip().is_loopback() || (args.tls_certificate.is_some() && args.htpasswd.is_some()),
        "others can reach `{}`: give `--tls-certificate`, `--tls-key` and `--htpasswd`, or listen on 127.0.0.1",
        args.listen
    );
    allocator::settle();
    let progress = Progress::new(context.progress, &context.printer);
    logging::start(args.log_format, progress.log, "info")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let shutdown = CancellationToken::new();
    runtime.block_on(run_until_signalled(
        serve_registry(args, context, shutdown.clone()),
        &shutdown,
    ))
}

async fn serve_registry(
    args: &ServeArgs,
    context: &Context,
    shutdown: CancellationToken,
) -> anyhow::Result<ExitStatus> {
    let policy = Policy {
        login: args.htpasswd.as_deref().map(load_users).transpose()?,
        read_only: args.read_only,
        incomplete_images: true,
        ..Policy::default()
    };
    let certificate = load_certificate(args)?;
    let store = ContentStore::open(&args.root).with_context(|| format!("cannot open the store in `{}`", args.root))?;
    let registry = Registry::open(store, &args.root.join("repositories"))
        .with_context(|| format!("cannot open the registry in `{}`", args.root))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`", args.listen))?;
    let scheme = if certificate.is_some() { "https" } else { "http" };
    context
        .printer
        .data(&format!("{scheme}://{}", listener.local_addr()?))?;
    let router = registry_service(Arc::new(registry), policy);
    let drained = serve(listener, certificate, router, ServeLimits::default(), shutdown).await;
    ensure!(
        drained.abandoned == 0,
        "{} connections were closed before they were done",
        drained.abandoned
    );
    Ok(ExitStatus::Done)
}

fn load_users(path: &Utf8Path) -> anyhow::Result<Users> {
    let text = fs_err::read_to_string(path)?;
    Users::parse_htpasswd(&text).with_context(|| format!("cannot use `{path}`"))
}

fn load_certificate(args: &ServeArgs) -> anyhow::Result<Option<Arc<CertificateSlot>>> {
    let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_key) else {
        return Ok(None);
    };
    let slot = load_pair(certificate, key).and_then(|pair| CertificateSlot::new(&pair));
    Ok(Some(slot.with_context(|| {
        format!("cannot use the certificate `{certificate}`")
    })?))
}
