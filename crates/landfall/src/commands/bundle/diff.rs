//! `landfall bundle diff`: compares two bundles by their heads.

use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::report::BundleDiffReport;
use landfall_core::wording::counted;
use landfall_oci::bundle::BundleFile;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::size::bytes;
use crate::output::structured::print_report;

/// Compare two bundles.
///
/// Reads their heads only. The exit status is 1 if their images differ.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall bundle diff may.tar.zst june.tar.zst")]
pub struct BundleDiffArgs {
    /// The first bundle, or any of its pieces.
    #[arg(value_name = "FROM")]
    pub from: Utf8PathBuf,
    /// The second bundle, or any of its pieces.
    #[arg(value_name = "TO")]
    pub to: Utf8PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn run(args: &BundleDiffArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let (from, to) = (BundleFile::open(&args.from)?, BundleFile::open(&args.to)?);
    let report = BundleDiffReport::new((from.id(), from.document()), (to.id(), to.document()));
    print_report(&context.printer, args.output.output, &report, render)?;
    let is_same = report.added.is_empty() && report.removed.is_empty() && report.changed.is_empty();
    Ok(match is_same {
        true => ExitStatus::Done,
        false => ExitStatus::AnswerIsNo,
    })
}

fn render(report: &BundleDiffReport) -> String {
    let mut lines = Vec::new();
    lines.extend(report.added.iter().map(|name| format!("added:   {name}")));
    lines.extend(report.removed.iter().map(|name| format!("removed: {name}")));
    let changed = report.changed.iter();
    lines.extend(changed.map(|image| format!("changed: {}\n  from {}\n  to   {}", image.name, image.from, image.to)));
    lines.push(format!(
        "{} unchanged; {} new, {}",
        counted(report.unchanged, "image"),
        counted(report.new_blobs, "blob"),
        bytes(report.new_bytes)
    ));
    lines.join("\n") + "\n"
}
