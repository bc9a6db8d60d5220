//! The engine of `landfall copy` and `landfall push`: moves images and prints the report.

pub(crate) mod bundles;
mod fix;
pub(crate) mod location;
pub(crate) mod options;
mod render;

use std::sync::Arc;

use landfall_core::failure::FailureKind;
use landfall_core::reference::{Digest, ImageReference};
use landfall_core::report::{BlobTally, TransferReport, TransferRow, TransferState};
use landfall_oci::copy::{CopyFailure, CopyReport, ImageCopy, copy_images, dry_run_images};
use landfall_oci::image::{ImageSink, ImageSource, TransferError};

use crate::allocator;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::interrupt::run_until_signalled;
use crate::output::printer::stdout_width;
use crate::output::progress::Progress;
use crate::output::structured::print_report;
use crate::registries::RegistryAccess;
use crate::runtime;
use crate::transfer::fix::find_fix;
use crate::transfer::options::TransferOptions;
use crate::transfer::render::{TransferForm, render_transfer};

/// One image to copy. `opened` holds the error if an end cannot be opened.
pub(crate) struct Transfer {
    /// Source, in the user's words.
    pub(crate) source: String,
    /// The bundle, or another file with images, that the source is read out of.
    pub(crate) bundle: Option<String>,
    /// Destination, in the user's words.
    pub(crate) destination: String,
    pub(crate) opened: Result<OpenTransfer, TransferError>,
}

/// Source and sink of a transfer, opened.
pub(crate) struct OpenTransfer {
    pub(crate) source: Arc<dyn ImageSource>,
    pub(crate) selector: String,
    pub(crate) sink: Arc<dyn ImageSink>,
    pub(crate) name: Option<ImageReference>,
    /// The digest that the user named in the destination.
    pub(crate) expected: Option<Digest>,
}

/// Copies images and prints the report. Returns [`ExitStatus::AnswerIsNo`] if one failed,
/// and [`ExitStatus::Interrupted`] if a signal left some undone.
pub(crate) fn run_transfers(
    transfers: &[Transfer],
    options: &TransferOptions,
    context: &Context,
) -> anyhow::Result<ExitStatus> {
    allocator::keep_freed();
    let runtime = runtime::current_thread()?;
    let progress = Progress::new(context.progress, &context.printer);
    let moving = async { Ok(transfer(transfers, options, &progress).await) };
    let report = runtime.block_on(run_until_signalled(moving, &options.copy.cancel));
    let told = progress.shows_bars();
    drop(progress);
    let report = report?;
    let form = TransferForm {
        width: stdout_width(),
        // The lines about each image are on the screen.
        has_rows: !(told && stdout_width().is_some() && !options.dry_run),
    };
    let printer = match options.image_to_stdout {
        true => context.printer.to_stderr(),
        false => context.printer.clone(),
    };
    print_report(&printer, options.output, &report, |report| {
        render_transfer(report, form)
    })?;
    Ok(match (report.summary.stopped, report.summary.failed) {
        (0, 0) => ExitStatus::Done,
        (0, _) => ExitStatus::AnswerIsNo,
        _ => ExitStatus::Interrupted,
    })
}

async fn transfer(transfers: &[Transfer], options: &TransferOptions, progress: &Progress) -> TransferReport {
    let opened: Vec<_> = transfers
        .iter()
        .filter_map(|transfer| transfer.opened.as_ref().ok())
        .collect();
    let copies: Vec<_> = opened
        .iter()
        .map(|ends| ImageCopy {
            source: &*ends.source,
            selector: &ends.selector,
            sink: &*ends.sink,
            name: ends.name.as_ref(),
            expected: ends.expected.as_ref(),
        })
        .collect();
    let results = match options.dry_run {
        true => dry_run_images(&copies, &options.copy, &*progress.sink).await,
        false => copy_images(&copies, &options.copy, &*progress.sink).await,
    };
    let mut results = results.into_iter();
    let rows = transfers.iter().map(|transfer| match &transfer.opened {
        Err(error) => failed_row(transfer, &options.access, error),
        Ok(_) => match results.next().expect("each copy has an answer") {
            Ok(report) => copied_row(transfer, &report),
            Err(CopyFailure { error, so_far }) => TransferRow {
                blobs: so_far.as_ref().map(tally).unwrap_or_default(),
                ..match error.kind {
                    FailureKind::Stopped => row(transfer, TransferState::Stopped),
                    _ => failed_row(transfer, &options.access, &error),
                }
            },
        },
    });
    TransferReport::new(options.dry_run, rows.collect())
}

fn row(transfer: &Transfer, state: TransferState) -> TransferRow {
    TransferRow {
        source: transfer.source.clone(),
        bundle: transfer.bundle.clone(),
        destination: transfer.destination.clone(),
        state,
        digest: None,
        lacking: Vec::new(),
        referrers: 0,
        blobs: BlobTally::default(),
        problem: None,
        fix: None,
    }
}

fn copied_row(transfer: &Transfer, report: &CopyReport) -> TransferRow {
    let state = match report.unchanged {
        true => TransferState::Unchanged,
        false => TransferState::Copied,
    };
    TransferRow {
        digest: Some(report.digest.to_string()),
        lacking: report.lacking.clone(),
        referrers: report.referrers,
        blobs: tally(report),
        ..row(transfer, state)
    }
}

fn tally(report: &CopyReport) -> BlobTally {
    BlobTally {
        moved: report.blobs_moved,
        moved_bytes: report.bytes_moved,
        mounted: report.blobs_mounted,
        mounted_bytes: report.bytes_mounted,
        skipped: report.blobs_skipped,
        skipped_bytes: report.bytes_skipped,
    }
}

fn failed_row(transfer: &Transfer, access: &RegistryAccess, error: &TransferError) -> TransferRow {
    TransferRow {
        problem: Some(error.reason()),
        fix: find_fix(&transfer.source, &transfer.destination, access, error),
        ..row(transfer, TransferState::Failed)
    }
}
