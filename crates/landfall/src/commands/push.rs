//! `landfall push`: copies the images of the profiles from their origin to the external registry.

use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::failure::Explanation;
use landfall_core::plan::{PlannedImage, plan_images};
use landfall_core::reference::{ImageReference, RegistryHost};
use landfall_core::resolve::{Candidate, CandidateKind, Resolver};
use landfall_core::settings::{ImageRole, Settings};
use landfall_core::wording::counted;
use landfall_oci::image::{ImageSource, TransferError};

use crate::args::{InputArgs, TransferArgs};
use crate::commands::bundle::BundleKeyArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::{load_settings, note_missing_profile, settings_without_inputs};
use crate::registries::Registries;
use crate::transfer::bundles::{OpenBundles, staging_in_registry};
use crate::transfer::location::{ImageLocation, OpenDestination};
use crate::transfer::options::TransferOptions;
use crate::transfer::{OpenTransfer, Transfer, run_transfers};

/// Push every image of the profiles to the external registry.
///
/// Copies each image from its origin, as the profiles name it, to the reference that the plan pulls. Run the command
/// where both registries can be reached; `landfall check` lists the images that are still missing. Blobs that are there
/// already are skipped, so that the command can be run again at any time. It uses the logins of the user-data and the
/// profiles, then those of docker and podman on this machine.
///
/// With `--bundle` the images are read out of bundles, in place, and no origin is asked. A compressed archive of another
/// program is pushed in one pass while it is read. With `--image`, `--platform` or `--dry-run`, and where the plan names
/// several registries, a decompressed copy of it is made first, in the directory for temporary files (`TMPDIR`): its
/// manifests may come last. `--to` pushes all images of the bundles to a registry without a configuration, below their
/// original hosts.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  landfall push --user-data user-data.yaml --profile profile.yaml --dry-run\n  \
                       landfall push --bundle site.tar.zst --user-data user-data.yaml --profile profile.yaml\n  \
                       landfall push --bundle site.tar.zst --to registry.local:5000/shop"
)]
pub struct PushArgs {
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Push only this image, as the profiles or the bundles name it [repeatable; default: all].
    #[arg(long = "image", value_name = "IMAGE")]
    pub images: Vec<ImageReference>,
    /// Read the images out of this bundle, or another file with images; of pieces, name any one [repeatable; default: their
    /// origins].
    #[arg(long = "bundle", value_name = "FILE")]
    pub bundles: Vec<Utf8PathBuf>,
    /// Push all images of the bundles to this registry.
    #[arg(long, value_name = "HOST[:PORT][/PROJECT]", requires = "bundles", conflicts_with_all = ["user_data", "profiles"])]
    pub to: Option<String>,
    #[command(flatten)]
    pub keys: BundleKeyArgs,
    #[command(flatten)]
    pub transfer: TransferArgs,
}

pub(crate) fn run(args: &PushArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let options = TransferOptions::resolve(&args.transfer);
    let Some(inputs) = args.inputs.if_named() else {
        return push_bundles(args, &options, context);
    };
    let checked = load_settings(inputs)?;
    checked.print_findings(context);
    note_missing_profile(inputs, context);
    let settings = checked.complete_settings()?;
    if let Some(unknown) = settings.unknown.images.first() {
        context
            .printer
            .note(format_args!("the list of images is not complete: {unknown}"));
    }
    let resolver = Resolver::new(settings);
    let registries = options.registries(settings, context);
    let mut planned = plan_images(settings, &resolver);
    select_images(&mut planned, &args.images)?;
    let staging = match (args.takes_all(), only_registry(&planned)) {
        (true, Some(target)) => {
            let staging = staging_in_registry(&target.reference, target.registry, &registries)?;
            Some(staging.with_bandwidth(options.copy.bandwidth.clone()))
        }
        _ => None,
    };
    let bundles = OpenBundles::open(&args.bundles, &args.keys, staging.as_ref(), context)?;
    let sources = PushSources {
        settings,
        resolver: &resolver,
        registries: &registries,
        bundles: &bundles,
    };
    let transfers: Vec<_> = planned.iter().filter_map(|image| sources.plan_push(image)).collect();
    let stay = planned.len() - transfers.len();
    if stay > 0 {
        context.printer.note(format_args!(
            "nothing to push for {stay} of {}: the plan pulls from the origin",
            counted(planned.len(), "image")
        ));
    }
    // A registry answers for the blobs that it has.
    bundles.check_needs(&transfers, |_| true)?;
    let moved = run_transfers(&transfers, &options, context)?;
    Ok(match moved {
        ExitStatus::Done => checked.status(),
        status => status,
    })
}

/// Repository below `--to` for the blobs of archives that can be read only once. It gets no manifest.
const STAGING_REPOSITORY: &str = "landfall-staging";

impl PushArgs {
    /// Returns true if all content of the bundles is pushed. Then a file that can be read only once is pushed while it is
    /// read, and no decompressed copy of it is made. Images that no named key signed get no manifest and no tag.
    fn takes_all(&self) -> bool {
        let is_selective = !self.images.is_empty() || !self.transfer.platforms.is_empty();
        !(is_selective || self.transfer.dry_run)
    }
}

/// Returns the first destination, if all images go to one registry.
fn only_registry(planned: &[PlannedImage]) -> Option<&Candidate> {
    let mut targets = planned.iter().filter_map(push_target);
    let first = targets.next()?;
    let is_same =
        |target: &Candidate| target.reference.host == first.reference.host && target.registry == first.registry;
    targets.all(is_same).then_some(first)
}

/// Returns the external registry to which an image is pushed: under another name than its own.
fn push_target(image: &PlannedImage) -> Option<&Candidate> {
    let is_external = |candidate: &&Candidate| candidate.kind == CandidateKind::External;
    let target = image.pull.iter().find(is_external)?;
    (target.reference != image.canonical).then_some(target)
}

/// Pushes all images of the bundles to the registry of `--to`.
fn push_bundles(args: &PushArgs, options: &TransferOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let Some(to) = &args.to else {
        bail!(Explanation::new(
            "it is not said which images are pushed to where",
            "name a user-data and a profile, or a bundle with `--bundle` and a registry with `--to`"
        ));
    };
    let (host, project) = to.split_once('/').unwrap_or((to, ""));
    let host: RegistryHost = host.parse().with_context(|| format!("`{to}` is no registry"))?;
    let settings = settings_without_inputs()?;
    let registries = options.registries(&settings, context);
    let staging = match args.takes_all() {
        true => {
            let path = match project {
                "" => STAGING_REPOSITORY.to_owned(),
                _ => format!("{project}/{STAGING_REPOSITORY}"),
            };
            let place = ImageReference {
                host: host.clone(),
                repository: path.parse().with_context(|| format!("`{to}` is no registry"))?,
                tag: None,
                digest: None,
            };
            let staging = staging_in_registry(&place, None, &registries)?;
            Some(staging.with_bandwidth(options.copy.bandwidth.clone()))
        }
        false => None,
    };
    let bundles = OpenBundles::open(&args.bundles, &args.keys, staging.as_ref(), context)?;
    let named: Vec<_> = args.images.iter().map(ImageReference::canonical).collect();
    let mut transfers = Vec::new();
    for (name, image) in bundles.images() {
        if !named.is_empty() && !named.contains(&name) {
            continue;
        }
        let mut path = name.path_with_host();
        if !project.is_empty() {
            path = format!("{project}/{path}");
        }
        let target = name
            .in_repository(&host, &path)
            .with_context(|| format!("`{name}` has no name below `{to}`"))?;
        let to = ImageLocation::Registry(target);
        let open = || {
            let OpenDestination { sink, name, expected } = to.open_sink(&registries, None)?;
            Ok(OpenTransfer {
                source: image.source.clone(),
                selector: image.root.digest.to_string(),
                sink,
                name,
                expected,
            })
        };
        transfers.push(Transfer {
            source: name.to_string(),
            bundle: bundles.path_of(&name),
            destination: to.to_string(),
            opened: open(),
        });
    }
    ensure!(!transfers.is_empty(), "the bundles have none of the images");
    // A registry answers for the blobs that it has.
    bundles.check_needs(&transfers, |_| true)?;
    run_transfers(&transfers, options, context)
}

/// Keeps only the named images, or all if none is named.
fn select_images(planned: &mut Vec<PlannedImage>, named: &[ImageReference]) -> anyhow::Result<()> {
    let named: Vec<_> = named.iter().map(ImageReference::canonical).collect();
    for name in &named {
        let is_known = planned.iter().any(|image| image.canonical == *name);
        ensure!(
            is_known,
            "the profiles have no image `{name}`: `landfall images` lists them"
        );
    }
    planned.retain(|image| named.is_empty() || named.contains(&image.canonical));
    Ok(())
}

/// Sources and destinations of the images of the profiles.
struct PushSources<'a> {
    settings: &'a Settings,
    resolver: &'a Resolver<'a>,
    registries: &'a Registries<'a>,
    bundles: &'a OpenBundles,
}

impl PushSources<'_> {
    /// Returns the transfer of an image that the plan pulls from an external registry under another name than its own.
    fn plan_push(&self, image: &PlannedImage) -> Option<Transfer> {
        let target = push_target(image)?;
        let from = ImageLocation::Registry(image.canonical.clone());
        let to = ImageLocation::Registry(target.reference.clone());
        let open = || {
            let (source, selector) = self.open_source(image, &from)?;
            let OpenDestination { sink, name, expected } = to.open_sink(self.registries, target.registry)?;
            Ok(OpenTransfer {
                source,
                selector,
                sink,
                name,
                expected,
            })
        };
        Some(Transfer {
            source: from.to_string(),
            bundle: self.bundles.path_of(&image.canonical),
            destination: to.to_string(),
            opened: open(),
        })
    }

    fn open_source(
        &self,
        image: &PlannedImage,
        origin: &ImageLocation,
    ) -> Result<(Arc<dyn ImageSource>, String), TransferError> {
        if self.bundles.is_empty() {
            let role: ImageRole = self.settings.images[image.image].role;
            return origin.open_source(self.registries, self.resolver.registry_for(&image.canonical, role));
        }
        self.bundles.find(&image.canonical)
    }
}
