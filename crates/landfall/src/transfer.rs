//! What `landfall copy` and `landfall push` have in common: their options, the work, and the table at the end.

pub(crate) mod location;

use std::sync::Arc;

use anyhow::Context as _;
use camino::Utf8PathBuf;
use landfall_core::config::Settings;
use landfall_core::reference::ImageReference;
use landfall_core::report::{BlobTally, TransferReport, TransferRow, TransferState, TransferSummary};
use landfall_core::retry::FailureKind;
use landfall_core::wording::{counted, quoted};
use landfall_oci::client::{Fault, UploadJournal};
use landfall_oci::copy::{
    BandwidthLimit, CopyFailure, CopyOptions, CopyReport, ForeignRefused, ImageCopy, PartsMissing, PartsRefused,
    PlatformMissing, copy_images, survey_images,
};
use landfall_oci::image::{ImageSink, ImageSource, TransferError};

use crate::allocator;
use crate::args::TransferArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::interrupt::run_until_signalled;
use crate::output::printer::stdout_width;
use crate::output::progress::Progress;
use crate::output::structured::print_report;
use crate::output::table::Table;
use crate::registries::Registries;
use crate::shell::command_line;
use crate::transfer::location::Location;

impl TransferArgs {
    /// The registries of these settings, as these options say. Without a journal nothing is lost but the bytes of an
    /// upload that a later run could have gone on with.
    pub(crate) fn registries<'a>(&self, settings: &'a Settings, context: &Context) -> Registries<'a> {
        let mut registries = Registries::new(settings, &self.access);
        let Some(directory) = self
            .state_dir
            .clone()
            .or_else(usual_state_dir)
            .filter(|_| !self.dry_run)
        else {
            return registries;
        };
        let directory = directory.join("uploads");
        match UploadJournal::open(&directory) {
            Ok(Some(journal)) => registries.journal = Some(journal),
            Ok(None) => context.printer.detail(format_args!(
                "another run has `{directory}`: uploads of this one are not remembered"
            )),
            Err(error) => context
                .printer
                .note(format_args!("uploads are not remembered in `{directory}`: {error}")),
        }
        registries
    }
}

/// Where the XDG base directory specification keeps the state of programs.
fn usual_state_dir() -> Option<Utf8PathBuf> {
    let variable = |name| std::env::var(name).ok().map(Utf8PathBuf::from);
    let base = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| variable("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("landfall"))
}

/// One image to move, opened at both ends; or why it cannot be.
pub(crate) struct Transfer {
    /// What the user calls the one end.
    pub(crate) source: String,
    /// What the user calls the other end.
    pub(crate) destination: String,
    /// Both ends.
    pub(crate) ends: Result<Ends, TransferError>,
}

/// Both ends of a transfer.
pub(crate) struct Ends {
    pub(crate) source: Arc<dyn ImageSource>,
    pub(crate) selector: String,
    pub(crate) sink: Arc<dyn ImageSink>,
    pub(crate) name: Option<ImageReference>,
}

/// Moves images, prints the report, and says whether all of them are there now.
pub(crate) fn run_transfers(
    transfers: &[Transfer],
    args: &TransferArgs,
    context: &Context,
) -> anyhow::Result<ExitStatus> {
    allocator::keep_freed();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let mut options = CopyOptions::new(args.concurrency);
    options.platforms = args.platforms.as_slice().into();
    options.referrers = args.referrers;
    options.bandwidth = args.bandwidth.map(|limit| Arc::new(BandwidthLimit::new(limit)));
    let progress = Progress::new(context.progress, &context.printer);
    let moving = async { Ok(transfer(transfers, args, &options, &progress).await) };
    let report = runtime.block_on(run_until_signalled(moving, &options.cancel));
    drop(progress);
    let (report, width) = (report?, stdout_width());
    print_report(&context.printer, args.output.output, &report, |report| {
        render_transfer(report, width)
    })?;
    Ok(match report.summary.failed {
        0 => ExitStatus::Done,
        _ => ExitStatus::AnswerIsNo,
    })
}

async fn transfer(
    transfers: &[Transfer],
    args: &TransferArgs,
    options: &CopyOptions,
    progress: &Progress,
) -> TransferReport {
    let opened: Vec<_> = transfers
        .iter()
        .filter_map(|transfer| transfer.ends.as_ref().ok())
        .collect();
    let copies: Vec<_> = opened
        .iter()
        .map(|ends| ImageCopy {
            source: &*ends.source,
            selector: &ends.selector,
            sink: &*ends.sink,
            name: ends.name.as_ref(),
        })
        .collect();
    let results = match args.dry_run {
        true => survey_images(&copies, options, &*progress.sink).await,
        false => copy_images(&copies, options, &*progress.sink).await,
    };
    let mut results = results.into_iter();
    let rows = transfers.iter().map(|transfer| match &transfer.ends {
        Err(error) => failed_row(transfer, args, error),
        Ok(_) => match results.next().expect("each copy has an answer") {
            Ok(report) => copied_row(transfer, &report),
            Err(CopyFailure { error, so_far }) => TransferRow {
                blobs: so_far.as_ref().map(tally).unwrap_or_default(),
                ..failed_row(transfer, args, &error)
            },
        },
    });
    TransferReport::new(args.dry_run, rows.collect())
}

fn row(transfer: &Transfer, state: TransferState) -> TransferRow {
    TransferRow {
        source: transfer.source.clone(),
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
        referrers: report.companions,
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

fn failed_row(transfer: &Transfer, args: &TransferArgs, error: &TransferError) -> TransferRow {
    let fix = Fault::of(error).and_then(Fault::hint).map(str::to_owned);
    let fix = fix.or_else(|| copy_parts_alone(transfer, args, error));
    let fix = fix.or_else(|| copy_what_is_there(error));
    let fix = fix.or_else(|| match error.kind {
        _ if is_because::<PlatformMissing>(error) => {
            Some("name one of these with `--platform`, or none for all".to_owned())
        }
        _ if is_because::<ForeignRefused>(error) => Some(
            "allow the layers' addresses in the registry (`validation.manifests.urls.allow` of Docker's), or use another"
                .to_owned(),
        ),
        FailureKind::NotFound => Some("check the name and the tag".to_owned()),
        FailureKind::Full => Some("free space in the registry, or give it a larger disk".to_owned()),
        FailureKind::Unreachable | FailureKind::GivenUp => {
            Some("run it again: what has arrived is not moved a second time".to_owned())
        }
        _ => None,
    });
    TransferRow {
        problem: Some(error.chain()),
        fix,
        ..row(transfer, TransferState::Failed)
    }
}

fn is_because<T: std::error::Error + 'static>(error: &TransferError) -> bool {
    error.source.as_deref().is_some_and(|source| source.is::<T>())
}

/// What to do where a registry wants the platforms that were left out.
fn copy_parts_alone(transfer: &Transfer, args: &TransferArgs, error: &TransferError) -> Option<String> {
    let refused: &PartsRefused = error.source.as_deref()?.downcast_ref()?;
    let whole = match refused.lacking.is_empty() {
        true => "copy it whole, without `--platform`".to_owned(),
        false => format!("copy it from a place that has {} too", quoted(&refused.lacking)),
    };
    let (Ok(source), Some(part)) = (transfer.source.parse::<Location>(), refused.copied.first()) else {
        return Some(whole);
    };
    let mut words = vec!["landfall".to_owned(), "copy".to_owned()];
    words.push(source.part(part).to_string());
    words.push(transfer.destination.clone());
    words.extend(args.access.repeated());
    Some(format!(
        "{whole}, or one platform in its place: `{}`",
        command_line(&words)
    ))
}

/// What to do where the source has a part of an index only.
fn copy_what_is_there(error: &TransferError) -> Option<String> {
    let PartsMissing { held, .. } = error.source.as_deref()?.downcast_ref()?;
    if held.is_empty() {
        return Some("bring the image to the source once more: nothing that it has can be copied".to_owned());
    }
    let options: Vec<_> = held.iter().map(|platform| format!("--platform {platform}")).collect();
    Some(format!(
        "bring the rest to the source, or copy what is there with `{}`",
        options.join(" ")
    ))
}

fn render_transfer(report: &TransferReport, width: Option<usize>) -> String {
    let with_referrers = report.summary.referrers > 0;
    let mut columns = vec!["STATE", "FROM", "TO", "MOVED", "MOUNTED", "THERE"];
    columns.extend(with_referrers.then_some("REFERRERS"));
    let mut table = Table::new(&columns);
    for row in &report.images {
        let BlobTally {
            moved_bytes,
            mounted_bytes,
            skipped_bytes,
            ..
        } = row.blobs;
        let mut cells = vec![
            state_word(row.state, report.dry_run).to_owned(),
            row.source.clone(),
            row.destination.clone(),
            bytes(moved_bytes),
            bytes(mounted_bytes),
            bytes(skipped_bytes),
        ];
        cells.extend(with_referrers.then(|| row.referrers.to_string()));
        table.row(cells);
    }
    let mut text = table.render(width);
    for row in report.images.iter().filter(|row| !row.lacking.is_empty()) {
        let (destination, lacking) = (&row.destination, quoted(&row.lacking));
        text.push_str(&format!(
            "\nin part: {destination}\n  without: {lacking}, which `{}` does not hold\n",
            row.source
        ));
    }
    for row in report.images.iter().filter(|row| row.state == TransferState::Failed) {
        text.push_str(&format!("\nfailed: {}\n", row.destination));
        for (word, line) in [("why", &row.problem), ("fix", &row.fix)] {
            if let Some(line) = line {
                text.push_str(&format!("  {word}: {line}\n"));
            }
        }
    }
    text.push_str(&totals(report));
    text
}

fn totals(report: &TransferReport) -> String {
    let TransferSummary {
        copied,
        unchanged,
        failed,
        referrers,
        blobs,
    } = &report.summary;
    let (done, were) = if report.dry_run {
        ("to copy", "would be ")
    } else {
        ("copied", "")
    };
    let with_referrers = match referrers {
        0 => String::new(),
        count => format!(", with {} and the like", counted(*count, "signature")),
    };
    let images = counted(report.images.len(), "image");
    format!(
        "\n{images}: {copied} {done}, {unchanged} unchanged, {failed} failed{with_referrers}; {} {were}moved, {} mounted, {} there already\n",
        bytes(blobs.moved_bytes),
        bytes(blobs.mounted_bytes),
        bytes(blobs.skipped_bytes),
    )
}

fn state_word(state: TransferState, dry_run: bool) -> &'static str {
    match state {
        TransferState::Copied if dry_run => "to copy",
        TransferState::Copied => "copied",
        TransferState::Unchanged => "unchanged",
        TransferState::Failed => "failed",
    }
}

/// A size as people read it.
fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
