//! `landfall bundle serve`: serves the images of bundles out of their files.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::failure::Explanation;
use landfall_core::reference::Digest;
use landfall_oci::bundle::{BundleFile, BundleSource};
use landfall_oci::content::names::plain_names;
use landfall_oci::content::place::Place;
use landfall_oci::content::places::Places;
use landfall_registry::fast_path::with_fast_path;
use landfall_registry::place_service;
use tokio_util::sync::CancellationToken;

use super::BundleKeyArgs;
use crate::commands::registry::listen::ListenArgs;
use crate::context::Context;
use crate::exit::ExitStatus;

/// Serve bundles as a registry that can be pulled from.
///
/// Nothing is unpacked and nothing is copied: blobs are read out of the file. A client that pulls a whole blob gets the
/// right bytes or an error. Each image has the name REPOSITORY, and the name HOST/REPOSITORY with `host_5000` for a
/// host with a port. As a mirror in containerd's `hosts.toml`, the server answers for each registry with the images of
/// that registry.
///
/// Of several bundles, the first that has a tag wins, and a delta is served together with the bundles that have the
/// rest of its blobs. On an address that other machines can reach, it requires TLS and a login.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  landfall bundle serve site.tar.zst\n  \
    landfall bundle serve base.tar.zst delta.tar.zst --listen 0.0.0.0:5000 --anonymous")]
pub struct BundleServeArgs {
    /// The bundles, each by its file or any of its pieces.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<Utf8PathBuf>,
    #[command(flatten)]
    pub keys: BundleKeyArgs,
    /// Let everyone pull who reaches the address, also without TLS.
    #[arg(long, conflicts_with = "htpasswd")]
    pub anonymous: bool,
    #[command(flatten)]
    pub listen: ListenArgs,
}

pub(super) fn run(args: &BundleServeArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    ensure!(
        args.anonymous || args.listen.is_loopback() || args.listen.has_tls_and_login(),
        Explanation::new(
            format!("other machines can reach `{}`", args.listen.address),
            "give `--tls-certificate`, `--tls-key` and `--htpasswd`, or `--anonymous`, or listen on 127.0.0.1"
        )
    );
    let bundles = open_bundles(args)?;
    args.listen
        .run_service(context, |shutdown| serve_bundles(args, bundles, context, shutdown))
}

/// Opens the bundles, each once: two pieces may name the same one.
fn open_bundles(args: &BundleServeArgs) -> anyhow::Result<Vec<Arc<BundleFile>>> {
    let mut seen: HashSet<Digest> = HashSet::new();
    let mut bundles = Vec::new();
    for path in &args.files {
        let file = BundleFile::open(path)?;
        args.keys.trust(&file)?;
        if seen.insert(file.id().clone()) {
            bundles.push(file);
        }
    }
    Ok(bundles)
}

async fn serve_bundles(
    args: &BundleServeArgs,
    bundles: Vec<Arc<BundleFile>>,
    context: &Context,
    shutdown: CancellationToken,
) -> anyhow::Result<ExitStatus> {
    let files = args.listen.load_files()?;
    let places = Arc::new(Places::default());
    for file in bundles {
        let path = file.path().to_owned();
        let (id, images) = (file.id().clone(), file.document().images.len());
        let place = Place::open(Arc::new(BundleSource::new(file)), plain_names).await;
        places
            .add(&place)
            .with_context(|| format!("cannot serve the bundle `{path}`"))?;
        tracing::info!(bundle = %path, %id, images, "the bundle is served");
    }
    let http = with_fast_path(place_service(places, args.listen.policy(&files)));
    args.listen.serve(files, http, context, shutdown).await
}
