//! `landfall images`: lists the images that the profiles need.

use clap::Args;
use landfall_core::diagnostic::Location;
use landfall_core::report::{ImageRow, ImagesReport, images_report};

use crate::args::{ListOutputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::{load_settings, note_missing_profile};
use crate::output::structured::print_list;
use crate::output::table::{Table, TableForm};

/// List the images that the profiles need.
///
/// Lists the images that packs declare and those that are found in pod specs of manifests, each with the file and line
/// that names it.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall images --profile profile.yaml -o name")]
pub struct ImagesArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
}

pub(crate) fn run(args: &ImagesArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let checked = load_settings(&args.inputs)?;
    checked.print_findings(context);
    note_missing_profile(&args.inputs, context);
    if let Some(settings) = &checked.settings {
        print_list(
            &context.printer,
            args.output.output,
            &images_report(settings),
            |report| report.images.iter().map(|image| image.canonical.clone()).collect(),
            |report| render_images(report, args.output.table_form()),
        )?;
    }
    Ok(checked.status())
}

/// Returns the file and the line of an image. A line of several images is told apart by the key: in a profile in JSON, all
/// values of a pack are one line.
fn place(image: &ImageRow, report: &ImagesReport) -> String {
    let Location { file, line, key, .. } = &image.location;
    let is_same = |other: &&ImageRow| (&other.location.file, other.location.line) == (file, *line);
    match report.images.iter().filter(is_same).count() {
        0 | 1 => format!("{file}:{line}"),
        _ => format!("{file}:{line} {key}"),
    }
}

fn render_images(report: &ImagesReport, form: TableForm) -> String {
    let mut table = Table::new(&["IMAGE", "LAYER", "PACK", "FINDING", "WRITTEN AT"]);
    for image in &report.images {
        table.row([
            image.canonical.clone(),
            image.layer.clone(),
            image.pack.clone(),
            format!("{:?}", image.finding).to_lowercase(),
            place(image, report),
        ]);
    }
    let mut text = table.render_as(form);
    if let Some(reason) = &report.images_incomplete {
        text.push_str(&format!("\nthe list of images is not complete: {reason}\n"));
    }
    text
}
