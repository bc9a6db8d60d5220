//! `landfall bundle copy`: copies a bundle to a stick or a directory.

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_core::bundle::pieces::{PlannedPiece, SplitSize, plan_pieces};
use landfall_core::report::BundleReport;
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_net::durable::directory_of;
use landfall_oci::bundle::{BundleFile, copy_bundle};

use super::{BundleKeyArgs, room, show};
use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::progress::Progress;
use crate::output::structured::print_report;

/// Copy a bundle to a stick or another directory, and read it back.
///
/// A copy that was interrupted goes on where it ended: at most 64 MiB are written again. At the end every byte is read
/// from the device, not from memory, and verified: a stick that pretends to be larger than it is is found here.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall bundle copy site.tar.zst /media/stick --split fat32")]
pub struct BundleCopyArgs {
    /// The bundle, or any of its pieces.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// The directory, or the new path.
    #[arg(value_name = "TO")]
    pub to: Utf8PathBuf,
    /// Write pieces of at most this size: `3GB`, `fat32`, or bytes with a unit [default: one file].
    #[arg(long, value_name = "SIZE")]
    pub split: Option<SplitSize>,
    /// Report space and time, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub keys: BundleKeyArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn run(args: &BundleCopyArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let file = BundleFile::open(&args.file)?;
    args.keys.trust(&file)?;
    let target = target_of(&args.file, &args.to)?;
    let name = target.file_name().context("the copy has no file name")?.to_owned();
    let pieces = match args.split {
        Some(size) => plan_pieces(&name, file.length(), size)?,
        None => vec![PlannedPiece {
            name,
            size: file.length(),
        }],
    };
    if args.dry_run {
        let mut report: BundleReport = show::describe(&file);
        report.file = target.to_string();
        report.dry_run = true;
        report.pieces = pieces.len();
        report.room = Some(room::measure(directory_of(&target), file.length()));
        print_report(&context.printer, args.output.output, &report, show::render)?;
        return Ok(ExitStatus::Done);
    }
    let progress = Progress::new(context.progress, &context.printer);
    let shown = CopyProgress {
        sink: &*progress.sink,
        digest: file.id().to_string(),
    };
    shown.sink.progress(ProgressEvent::BlobPlanned {
        digest: shown.digest.clone(),
        size: file.length(),
    });
    shown.sink.progress(ProgressEvent::BlobStarted {
        image: target.to_string(),
        digest: shown.digest.clone(),
        size: file.length(),
        offset: 0,
    });
    let copied = copy_bundle(&file, &target, &pieces, &|bytes| shown.advance(bytes));
    drop(progress);
    let copied = copied?;
    print_report(
        &context.printer,
        args.output.output,
        &show::describe(&copied),
        show::render,
    )?;
    Ok(ExitStatus::Done)
}

struct CopyProgress<'a> {
    sink: &'a dyn ProgressSink,
    digest: String,
}

impl CopyProgress<'_> {
    fn advance(&self, bytes: u64) {
        self.sink.progress(ProgressEvent::BlobAdvanced {
            digest: self.digest.clone(),
            bytes,
        });
    }
}

/// Returns the path of the copy: that of the whole file, without the number of a piece.
fn target_of(file: &Utf8Path, to: &Utf8Path) -> anyhow::Result<Utf8PathBuf> {
    if !to.is_dir() {
        return Ok(to.to_owned());
    }
    let name = file.file_name().context("the bundle has no file name")?;
    let whole = landfall_core::bundle::pieces::parse_piece_name(name).map_or(name, |piece| piece.whole);
    Ok(to.join(whole))
}
