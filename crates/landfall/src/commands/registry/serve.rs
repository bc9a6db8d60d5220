//! `landfall registry serve`: serves the embedded registry without an agent.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};
use camino::Utf8PathBuf;
use clap::Args;
use landfall_agent::failure::error_line;
use landfall_core::failure::Explanation;
use landfall_core::quantity::{ByteSize, Seconds};
use landfall_oci::store::ContentStore;
use landfall_oci::store::error::StoreError;
use landfall_registry::admin_socket::serve_admin_socket;
use landfall_registry::directories::RegistryDirs;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::{GRACE, MinFreeSpace, Policy, Registry, registry_service};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use crate::commands::registry::listen::ListenArgs;
use crate::context::Context;
use crate::exit::ExitStatus;

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
    #[command(flatten)]
    pub listen: ListenArgs,
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
    /// Space of the disk that uploads leave free, but at most a twentieth of the disk.
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::new(MinFreeSpace::default().bytes))]
    pub min_free: ByteSize,
    /// Time between two garbage collections; 0: never collect.
    #[arg(long, value_name = "TIME", default_value_t = Seconds::new(3600))]
    pub gc_every: Seconds,
}

pub(super) fn run(args: &RegistryServeArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    ensure!(
        args.listen.is_loopback() || args.listen.has_tls_and_login(),
        Explanation::new(
            format!("other machines can reach `{}`", args.listen.address),
            "give `--tls-certificate`, `--tls-key` and `--htpasswd`, or listen on 127.0.0.1"
        )
    );
    args.listen
        .run_service(context, |shutdown| serve_registry(args, context, shutdown))
}

async fn serve_registry(
    args: &RegistryServeArgs,
    context: &Context,
    shutdown: CancellationToken,
) -> anyhow::Result<ExitStatus> {
    let files = args.listen.load_files()?;
    let policy = Policy {
        anonymous_pull: args.anonymous_pull,
        read_only: args.read_only,
        incomplete_images: args.sparse_images,
        ..args.listen.policy(&files)
    };
    let root = &args.root;
    let directories = RegistryDirs::standalone(root);
    let opened =
        open_registry(&directories, args.read_only).with_context(|| format!("cannot open the registry in `{root}`"))?;
    if args.listen.htpasswd.is_some() && !args.anonymous_pull && !opened.is_unwritable {
        let restricted = opened.registry.restrict_access();
        restricted.with_context(|| format!("cannot take `{root}` away from other users"))?;
    }
    let registry = opened.registry.with_min_free_space(MinFreeSpace {
        bytes: args.min_free.bytes(),
    });
    let registry = Arc::new(registry);
    let http = with_fast_path(registry_service(registry.clone(), policy));
    tokio::select! {
        served = args.listen.serve(files, http, context, shutdown) => served,
        never = maintain(registry, args.gc_every.get()), if !opened.is_unwritable => match never {},
    }
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
