//! `landfall bundle repair`: mends a damaged bundle in place.

use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::report::BundleVerificationReport;
use landfall_core::wording::counted;
use landfall_oci::bundle::{BundleFile, repair_bundle};

use super::BundleKeyArgs;
use super::verify::{describe, render};
use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::structured::print_report;

/// Repair a damaged bundle in place.
///
/// Takes damaged blobs out of another bundle, e.g. one that `landfall bundle create --only-blobs` made; headers and the
/// seek table need none. Whole parts are never written to. The exit status is 1 if damage is left.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall bundle verify site.tar.zst --repair-list damaged.txt\n  \
                             landfall bundle create patch.tar.zst --profile profile.yaml --only-blobs damaged.txt\n  \
                             landfall bundle repair site.tar.zst --from patch.tar.zst"
)]
pub struct BundleRepairArgs {
    /// The damaged bundle, or any of its pieces.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// A bundle that has the damaged blobs.
    #[arg(long, value_name = "FILE")]
    pub from: Option<Utf8PathBuf>,
    /// Report the damage, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub keys: BundleKeyArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn run(args: &BundleRepairArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let file = BundleFile::open(&args.file)?;
    let trusted_key = args.keys.trust(&file)?;
    let patch = args.from.as_deref().map(BundleFile::open).transpose()?;
    let left = match args.dry_run {
        true => file.verify()?,
        false => {
            let repair = repair_bundle(&args.file, patch.as_deref())?;
            let count = counted(repair.repaired.len(), "blob");
            context.printer.note(format_args!("{count} repaired"));
            repair.left
        }
    };
    let rows = left.iter().map(describe).collect();
    let mut report = BundleVerificationReport::new(args.file.to_string(), file.id(), file.length(), rows);
    report.trusted_key = trusted_key;
    print_report(&context.printer, args.output.output, &report, render)?;
    Ok(match left.is_empty() {
        true => ExitStatus::Done,
        false => ExitStatus::AnswerIsNo,
    })
}
