//! `landfall registry serve`: serves the embedded registry without an agent.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_agent::failure::error_line;
use landfall_core::failure::Explanation;
use landfall_core::wording::counted;
use landfall_net::certificate::load_pair;
use landfall_net::serve::tls::CertificateSlot;
use landfall_net::serve::{ServeLimits, listen, serve};
use landfall_oci::store::ContentStore;
use landfall_oci::store::error::StoreError;
use landfall_registry::admin_socket::serve_admin_socket;
use landfall_registry::directories::RegistryDirs;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{DEFAULT_REQUESTS_MAX, GRACE, MinFreeSpace, Policy, Registry, Users, registry_service};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::commands::registry::reload::WatchedFiles;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::interrupt::run_service;
use crate::logging::{self, LogFormat};
use crate::output::progress::Progress;
use crate::runtime;

/// Serve a registry from a directory.
///
/// The agent embeds the same registry as its primary registry. Any OCI client can push to it and pull from it. On an
/// address that other machines can reach, it requires TLS and a login.
///
/// It takes an image only with all of its layers, and serves it only while all of them are there: an image that lost
/// one is answered with 404 until a push has repaired it.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall registry serve --root /srv/images --listen 127.0.0.1:5000")]
pub struct RegistryServeArgs {
    /// Directory of the registry; created if it does not exist.
    #[arg(long, value_name = "DIR")]
    pub root: Utf8PathBuf,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    pub listen: SocketAddr,
    /// Users who may push and pull: a file made by `htpasswd -B` [default: no login].
    #[arg(long, value_name = "FILE")]
    pub htpasswd: Option<Utf8PathBuf>,
    /// Certificate chain of the server, PEM [default: plain HTTP].
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<Utf8PathBuf>,
    /// Key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<Utf8PathBuf>,
    /// Let everyone pull; pushes and deletions still need a login of `--htpasswd`.
    #[arg(long, requires = "htpasswd")]
    pub anonymous_pull: bool,
    /// Refuse pushes and deletions.
    #[arg(long)]
    pub read_only: bool,
    /// Take manifests whose layers or configuration the registry does not hold.
    #[arg(long)]
    pub sparse_images: bool,
    /// The default; accepted for the command lines of earlier versions.
    #[arg(long, hide = true, conflicts_with = "sparse_images")]
    pub complete_images: bool,
    /// Bytes of the disk that uploads leave free, but at most a twentieth of the disk.
    #[arg(long, value_name = "BYTES", default_value_t = MinFreeSpace::default().bytes)]
    pub min_free: u64,
    /// Seconds between two garbage collections; 0: never collect.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub gc_every: u64,
    /// Seconds between two readings of certificate, key and logins; changes apply to new connections and requests.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub reload_every: u64,
    /// Connections open at once, of which one client address has half; an idle one gives way to a new one.
    #[arg(long, value_name = "NUMBER", default_value_t = ServeLimits::default().connections,
          value_parser = parse_count)]
    pub max_connections: usize,
    /// Seconds in which a client must send or take at least 16 KiB; a slower connection is closed.
    #[arg(long, value_name = "SECONDS", default_value_t = ServeLimits::default().stall.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..))]
    pub stall_timeout: u64,
    /// Seconds in which a client must send the headers of a request; an idle connection is closed after the same time.
    #[arg(long, value_name = "SECONDS", default_value_t = ServeLimits::default().header.as_secs(),
          value_parser = clap::value_parser!(u64).range(1..))]
    pub header_timeout: u64,
    /// Requests in flight at once, of which one client address has half; further ones are answered with 429 and
    /// `Retry-After`.
    #[arg(long, value_name = "NUMBER", default_value_t = DEFAULT_REQUESTS_MAX, value_parser = parse_count)]
    pub max_requests: usize,
    /// Serve metrics for Prometheus at `/metrics`, to users who may pull.
    #[arg(long)]
    pub metrics: bool,
    /// Log every request.
    #[arg(long)]
    pub access_log: bool,
    /// Format of log lines on stderr.
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub log_format: LogFormat,
}

/// Parses a limit of at least 1: with 0, no request would be served.
fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number of at least 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

pub(super) fn run(args: &RegistryServeArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    ensure!(
        args.listen.ip().is_loopback() || (args.tls_certificate.is_some() && args.htpasswd.is_some()),
        Explanation::new(
            format!("other machines can reach `{}`", args.listen),
            "give `--tls-certificate`, `--tls-key` and `--htpasswd`, or listen on 127.0.0.1"
        )
    );
    let progress = Progress::new(context.progress, &context.printer);
    logging::start_service(args.log_format, progress.log, context)?;
    let runtime = runtime::multi_thread(None)?;
    let shutdown = CancellationToken::new();
    let serving = serve_registry(args, context, shutdown.clone());
    runtime.block_on(run_service(serving, &shutdown, || {
        tracing::info!("SIGHUP: certificate and logins are read again by themselves when they change");
    }))
}

async fn serve_registry(
    args: &RegistryServeArgs,
    context: &Context,
    shutdown: CancellationToken,
) -> anyhow::Result<ExitStatus> {
    let users = args.htpasswd.as_deref().map(load_users).transpose()?;
    let policy = Policy {
        login: users.clone(),
        anonymous_pull: args.anonymous_pull,
        read_only: args.read_only,
        incomplete_images: args.sparse_images,
        requests_max: Some(args.max_requests),
        metrics: args.metrics,
        access_log: args.access_log,
    };
    let certificate = load_certificate(args)?;
    let root = &args.root;
    let directories = RegistryDirs::standalone(root);
    let opened =
        open_registry(&directories, args.read_only).with_context(|| format!("cannot open the registry in `{root}`"))?;
    if args.htpasswd.is_some() && !args.anonymous_pull && !opened.is_unwritable {
        let restricted = opened.registry.restrict_access();
        restricted.with_context(|| format!("cannot take `{root}` away from other users"))?;
    }
    let registry = opened
        .registry
        .with_min_free_space(MinFreeSpace { bytes: args.min_free });
    let registry = Arc::new(registry);
    let listener = listen(args.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`", args.listen))?;
    let scheme = if certificate.is_some() { "https" } else { "http" };
    context
        .printer
        .data(&format!("{scheme}://{}", listener.local_addr()?))?;
    let watched = WatchedFiles {
        certificate: certificate
            .clone()
            .zip(args.tls_certificate.clone())
            .zip(args.tls_key.clone())
            .map(|((slot, certificate), key)| (slot, certificate, key)),
        users: users.zip(args.htpasswd.clone()),
    };
    let http = with_fast_path(registry_service(registry.clone(), policy));
    let limits = ServeLimits {
        connections: args.max_connections,
        stall: Duration::from_secs(args.stall_timeout),
        header: Duration::from_secs(args.header_timeout),
        ..ServeLimits::default()
    };
    let drained = tokio::select! {
        drained = serve(listener, certificate, http, limits, shutdown) => drained,
        never = watched.watch(Duration::from_secs(args.reload_every)) => match never {},
        never = maintain(registry, args.gc_every), if !opened.is_unwritable => match never {},
    };
    ensure!(
        drained.abandoned == 0,
        "{} closed before the end",
        counted(drained.abandoned, "connection")
    );
    Ok(ExitStatus::Done)
}

/// An open registry.
struct OpenRegistry {
    registry: Registry,
    /// True if its file system cannot be written: it is served as it is, without maintenance.
    is_unwritable: bool,
}

fn open_registry(directories: &RegistryDirs, read_only: bool) -> Result<OpenRegistry, StoreError> {
    let is_unwritable = |error: &StoreError| {
        let kinds = [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied];
        matches!(error, StoreError::Disk(error) if kinds.contains(&error.kind()))
    };
    match ContentStore::open(&directories.store) {
        Ok(store) => Ok(OpenRegistry {
            registry: Registry::open(store, &directories.records)?,
            is_unwritable: false,
        }),
        Err(error) if read_only && is_unwritable(&error) => {
            tracing::info!(root = %directories.store, %error, "the directory is served as it is: it cannot be written");
            let store = ContentStore::serve_read_only(&directories.store)?;
            Ok(OpenRegistry {
                registry: Registry::open_read_only(store, &directories.records),
                is_unwritable: true,
            })
        }
        Err(error) => Err(error),
    }
}

/// Collects garbage and serves the admin socket until the future is dropped.
async fn maintain(registry: Arc<Registry>, gc_every: u64) -> Infallible {
    tokio::select! {
        never = collect_garbage(registry.clone(), gc_every) => never,
        never = serve_admin_socket(registry) => never,
    }
}

/// Collects garbage every `every` seconds until the future is dropped; 0: never.
async fn collect_garbage(registry: Arc<Registry>, every: u64) -> Infallible {
    if every == 0 {
        return std::future::pending().await;
    }
    let every = Duration::from_secs(every);
    let mut tick = interval_at(Instant::now() + every, every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let registry = registry.clone();
        match tokio::task::spawn_blocking(move || registry.gc(GRACE, SystemTime::now())).await {
            Ok(Ok(report)) => tracing::info!(deleted = report.deleted, bytes = report.bytes, "garbage collected"),
            Ok(Err(error)) => tracing::error!(
                error = error_line(&error.into()),
                "garbage cannot be collected; it is tried again"
            ),
            Err(error) => tracing::error!(%error, "garbage collection ended early; it is tried again"),
        }
    }
}

fn load_users(path: &Utf8Path) -> anyhow::Result<Users> {
    let text = fs_err::read_to_string(path)?;
    Users::parse_htpasswd(&text).with_context(|| format!("cannot use `{path}`"))
}

fn load_certificate(args: &RegistryServeArgs) -> anyhow::Result<Option<Arc<CertificateSlot>>> {
    let (Some(certificate), Some(key)) = (&args.tls_certificate, &args.tls_key) else {
        return Ok(None);
    };
    let slot = load_pair(certificate, key).and_then(|pair| CertificateSlot::new(&pair));
    Ok(Some(slot.with_context(|| {
        format!("cannot use the certificate `{certificate}`")
    })?))
}
