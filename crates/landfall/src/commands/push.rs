//! `landfall push`: copies the images of the profiles from their origin to the external registry.

use anyhow::ensure;
use clap::Args;
use landfall_core::plan::{PlannedImage, plan_images};
use landfall_core::reference::ImageReference;
use landfall_core::resolve::{CandidateKind, Resolver};
use landfall_core::settings::{ImageRole, Settings};
use landfall_core::wording::counted;

use crate::args::{InputArgs, TransferArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::load_settings;
use crate::registries::Registries;
use crate::transfer::location::{ImageLocation, OpenDestination};
use crate::transfer::options::TransferOptions;
use crate::transfer::{OpenTransfer, Transfer, run_transfers};

/// Push every image of the profiles to the external registry.
///
/// Copies each image from its origin, as the profiles name it, to the reference that the plan pulls. Run the command
/// where both registries can be reached; `landfall check` lists the images that are still missing. Blobs that are there
/// already are skipped, so that the command can be run again at any time. It uses the logins of the user-data and the
/// profiles, then those of docker and podman on this machine.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall push --user-data user-data.yaml --profile profile.yaml --dry-run")]
pub struct PushArgs {
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Push only this image, as the profiles name it [repeatable; default: all].
    #[arg(long = "image", value_name = "IMAGE")]
    pub images: Vec<ImageReference>,
    #[command(flatten)]
    pub transfer: TransferArgs,
}

pub(crate) fn run(args: &PushArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let checked = load_settings(&args.inputs)?;
    checked.print_findings(context);
    let settings = checked.complete_settings()?;
    if let Some(unknown) = settings.unknown.images.first() {
        context
            .printer
            .note(format_args!("the list of images is not complete: {unknown}"));
    }
    let resolver = Resolver::new(settings);
    let options = TransferOptions::resolve(&args.transfer);
    let registries = options.registries(settings, context);
    let mut planned = plan_images(settings, &resolver);
    select_images(&mut planned, &args.images)?;
    let transfers: Vec<_> = planned
        .iter()
        .filter_map(|image| plan_push(settings, &resolver, &registries, image))
        .collect();
    let stay = planned.len() - transfers.len();
    if stay > 0 {
        context.printer.note(format_args!(
            "nothing to push for {stay} of {}: the plan pulls from the origin",
            counted(planned.len(), "image")
        ));
    }
    let moved = run_transfers(&transfers, &options, context)?;
    Ok(match moved {
        ExitStatus::Done => checked.status(),
        status => status,
    })
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

/// Returns the transfer of an image that the plan pulls from an external registry under another name than its own.
fn plan_push(
    settings: &Settings,
    resolver: &Resolver<'_>,
    registries: &Registries<'_>,
    image: &PlannedImage,
) -> Option<Transfer> {
    let target = image
        .pull
        .iter()
        .find(|candidate| candidate.kind == CandidateKind::External)?;
    if target.reference == image.canonical {
        return None;
    }
    let role: ImageRole = settings.images[image.image].role;
    let from = ImageLocation::Registry(image.canonical.clone());
    let to = ImageLocation::Registry(target.reference.clone());
    let open = || {
        let (source, selector) = from.open_source(registries, resolver.registry_for(&image.canonical, role))?;
        let OpenDestination { sink, name, expected } = to.open_sink(registries, target.registry)?;
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
        destination: to.to_string(),
        opened: open(),
    })
}
