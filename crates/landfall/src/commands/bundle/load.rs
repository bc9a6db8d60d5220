//! `landfall bundle load`: takes the images of bundles into a content store.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::bundle::document::NeededBlob;
use landfall_core::reference::ImageReference;
use landfall_host::facts::own_platform;
use landfall_oci::archive::ArchiveImage;
use landfall_oci::archive::stream::Staging;
use landfall_oci::store::ContentStore;
use landfall_oci::store::source_and_sink::StoreSink;
use landfall_registry::directories::RegistryDirs;

use super::BundleKeyArgs;
use crate::args::TransferArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::transfer::bundles::OpenBundles;
use crate::transfer::options::TransferOptions;
use crate::transfer::{OpenTransfer, Transfer, run_transfers};

/// Take the images of bundles into the content store of this host.
///
/// The agent finds them there when it starts, and fetches nothing that is there. It must not run meanwhile: a running
/// agent takes bundles in by itself. What the store has already is skipped, so that an interrupted run goes on.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall bundle load /media/stick/site.tar.zst_part00 --public-key key.pub")]
pub struct BundleLoadArgs {
    /// The bundles, or other files with images; of pieces, name any one.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<Utf8PathBuf>,
    /// Take only this image [repeatable; default: all].
    #[arg(long = "image", value_name = "IMAGE")]
    pub images: Vec<ImageReference>,
    /// State directory of the agent, or directory of a registry.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/landfall")]
    pub root: Utf8PathBuf,
    #[command(flatten)]
    pub keys: BundleKeyArgs,
    #[command(flatten)]
    pub transfer: TransferArgs,
}

pub(super) fn run(args: &BundleLoadArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let directory = match args.transfer.dry_run {
        true => RegistryDirs::find(&args.root),
        false => RegistryDirs::find_or_make_agents(&args.root)
            .with_context(|| format!("cannot make the directories of a store in `{}`", args.root))?,
    };
    let directory = directory.store;
    let store = match args.transfer.dry_run {
        true => ContentStore::read_only(&directory),
        false => ContentStore::open(&directory).with_context(|| format!("cannot open the store `{directory}`"))?,
    };
    let staging = (!args.transfer.dry_run).then(|| Staging::in_store(&store));
    let bundles = OpenBundles::open(&args.files, &args.keys, staging.as_ref(), context)?;
    // An index whose other platforms were left out of the bundle keeps its digest.
    let sink = |image: &ArchiveImage| StoreSink::omitting(store.clone(), image.source.clone(), own_platform());
    let wanted: Vec<_> = args.images.iter().map(ImageReference::canonical).collect();
    let images = bundles.images();
    let transfers: Vec<Transfer> = images
        .filter(|(name, _)| wanted.is_empty() || wanted.contains(name))
        .map(|(name, image)| Transfer {
            source: name.to_string(),
            bundle: bundles.path_of(&name),
            destination: directory.to_string(),
            opened: Ok(OpenTransfer {
                source: image.source.clone(),
                selector: image.root.digest.to_string(),
                sink: Arc::new(sink(image)),
                name: Some(name),
                expected: None,
            }),
        })
        .collect();
    ensure!(!transfers.is_empty(), "the bundles have none of the images");
    // A damaged one goes, so that the next bundle brings it.
    let is_right = |need: &NeededBlob| args.transfer.dry_run || matches!(store.delete_damaged(&need.digest), Ok(false));
    bundles.check_needs(&transfers, is_right)?;
    run_transfers(&transfers, &TransferOptions::resolve(&args.transfer), context)
}
