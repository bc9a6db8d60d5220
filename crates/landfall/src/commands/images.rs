//! `landfall images`: lists the images that the profiles need.

use clap::Args;
use landfall_core::report::{ImagesReport, images_report};

use crate::args::{OutputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::load_settings;
use crate::output::printer::stdout_width;
use crate::output::structured::print_report;
use crate::output::table::Table;

/// List the images that the profiles need.
///
/// Lists the images that packs declare and those that are found in pod specs of manifests, each with the file and line
/// that names it.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall images --profile profile.yaml -o json | jq -r '.images[].canonical'")]
pub struct ImagesArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &ImagesArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let checked = load_settings(&args.inputs)?;
    checked.print_findings(context);
    if let Some(settings) = &checked.settings {
        print_report(
            &context.printer,
            args.output.output,
            &images_report(settings),
            render_images,
        )?;
    }
    Ok(checked.status())
}

fn render_images(report: &ImagesReport) -> String {
    let mut table = Table::new(&["IMAGE", "LAYER", "PACK", "FINDING", "WRITTEN AT"]);
    for image in &report.images {
        table.row([
            image.canonical.clone(),
            image.layer.clone(),
            image.pack.clone(),
            format!("{:?}", image.finding).to_lowercase(),
            format!("{}:{}", image.location.file, image.location.line),
        ]);
    }
    let mut text = table.render(stdout_width());
    if let Some(reason) = &report.images_incomplete {
        text.push_str(&format!("\nthe list of images is not complete: {reason}\n"));
    }
    text
}
