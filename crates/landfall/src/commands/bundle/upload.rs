//! `landfall bundle upload`: sends bundles to a host, in ranges, over the status API of its agent [spec:bundles.upload].

mod client;
mod local_file;

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use clap::Args;
use futures_util::{StreamExt as _, stream};
use landfall_core::bundle::upload::{RANGE_SIZE_MAX, RANGE_SIZE_MIN, UploadRequest, UploadState, UploadStatus};
use landfall_core::failure::Explanation;
use landfall_core::quantity::ByteSize;
use landfall_core::report::{BundleUploadReport, BundleUploadRow};
use landfall_core::status::{ProgressEvent, ProgressSink};
use landfall_net::random::random_bytes;
use tokio_util::sync::CancellationToken;

use self::client::{RangeEnd, UploadClient};
use self::local_file::{LocalFile, files_of};
use super::BundleKeyArgs;
use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_api::{ApiAddress, ApiTrustArgs};
use crate::interrupt::run_until_signalled;
use crate::output::printer::stdout_width;
use crate::output::progress::Progress;
use crate::output::size::bytes;
use crate::output::structured::print_report;
use crate::output::table::Table;
use crate::quantity;
use crate::runtime;

/// Ranges of each connection after which the host is asked again for what is missing.
const RANGES_BETWEEN_LOOKS: usize = 4;

/// Send bundles to a host, over the status API of its agent.
///
/// A file is sent in ranges, and the host keeps the list of those that it has: an interrupted upload goes on where it
/// ended, from whatever machine has the file, also after the host was restarted. The agent finds the complete file as it
/// finds one on a stick.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall bundle upload site.tar.zst --to https://till-7:5080 --fingerprint sha256:0f1e… \\\n      --token-file upload-token"
)]
pub struct BundleUploadArgs {
    /// The bundles; any piece names all of them.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<Utf8PathBuf>,
    /// Status API of the agent, e.g. `https://till-7:5080`.
    #[arg(long, value_name = "URL")]
    pub to: ApiAddress,
    /// File with the token: the content of `upload-token` in the agent's state directory.
    #[arg(long, value_name = "FILE")]
    pub token_file: Utf8PathBuf,
    #[command(flatten)]
    pub trust: ApiTrustArgs,
    /// Replace a file of the same name on the host.
    #[arg(long)]
    pub replace: bool,
    /// End an upload of another file under the same name, and begin again.
    #[arg(long)]
    pub restart: bool,
    /// Size of a range: what a broken connection costs at most.
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::new(16 * 1024 * 1024),
          value_parser = quantity::size_in(RANGE_SIZE_MIN, RANGE_SIZE_MAX))]
    pub range_size: ByteSize,
    /// Ranges in flight at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub connections: u8,
    /// Ask the host if it takes the files, and send nothing.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub keys: BundleKeyArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn run(args: &BundleUploadArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut files: Vec<LocalFile> = Vec::new();
    for path in &args.files {
        for file in files_of(path, &args.keys)? {
            // Two pieces of one bundle may be named.
            if !files.iter().any(|known| known.path == file.path) {
                files.push(file);
            }
        }
    }
    let client = UploadClient::new(&args.to, &args.token_file, &args.trust)?;
    let progress = Progress::new(context.progress, &context.printer);
    let cancel = CancellationToken::new();
    let upload = Upload {
        args,
        client: &client,
        sink: &*progress.sink,
    };
    let work = async {
        let uploaded = cancel.run_until_cancelled(upload.send_all(&files)).await;
        uploaded.transpose()
    };
    let rows = runtime::current_thread()?.block_on(run_until_signalled(work, &cancel));
    drop(progress);
    let Some(rows) = rows? else {
        context
            .printer
            .problem("stopped; the same command goes on where it ended");
        return Ok(ExitStatus::Interrupted);
    };
    let report = BundleUploadReport::new(args.to.to_string(), args.dry_run, rows);
    print_report(&context.printer, args.output.output, &report, render)?;
    Ok(ExitStatus::Done)
}

struct Upload<'a> {
    args: &'a BundleUploadArgs,
    client: &'a UploadClient,
    sink: &'a dyn ProgressSink,
}

impl Upload<'_> {
    async fn send_all(&self, files: &[LocalFile]) -> anyhow::Result<Vec<BundleUploadRow>> {
        for file in files {
            self.sink.progress(ProgressEvent::BlobPlanned {
                digest: file.progress_name(),
                size: file.size,
            });
        }
        let mut rows = Vec::new();
        for file in files {
            // The files go to one disk of one host: what stops one stops the next.
            let row = self.send_file(file).await;
            rows.push(row.with_context(|| format!("cannot upload `{}` to {}", file.path, self.args.to))?);
        }
        Ok(rows)
    }

    async fn send_file(&self, file: &LocalFile) -> anyhow::Result<BundleUploadRow> {
        let mut begun = self.client.begin(&self.request(file)).await?;
        if let Some(number) = find_other(file, &begun).await? {
            let id = begun.id.clone().unwrap_or_default();
            if !self.args.restart || self.args.dry_run {
                bail!(Explanation::new(
                    format!(
                        "range {number} of `{}` on the host has other bytes than this file: another file is being \
                         uploaded, or was",
                        begun.name
                    ),
                    "give the file another name, or end that upload and begin again with `--restart` (and `--replace`, \
                     if that file is complete)",
                ));
            }
            self.client.end(&id).await?;
            begun = self.client.begin(&self.request(file)).await?;
        }
        let there = begun.received_bytes;
        let sent = AtomicU64::new(0);
        let done = match begun.state {
            UploadState::Receiving if !self.args.dry_run => self.send_ranges(file, &begun, &sent).await?,
            _ => begun,
        };
        if done.state == UploadState::Blocked {
            bail!(Explanation::new(
                format!("all of `{}` is on the host, where another file has the name", done.name),
                "remove that file there, or replace it with `--replace`",
            ));
        }
        Ok(BundleUploadRow {
            name: done.name,
            bytes: file.size,
            bytes_before: there,
            bytes_sent: sent.into_inner(),
            state: done.state,
            path: done.path,
        })
    }

    fn request(&self, file: &LocalFile) -> UploadRequest {
        UploadRequest {
            name: file.name.clone(),
            size: file.size,
            range_size: Some(self.args.range_size.bytes()),
            bundle: file.bundle.clone(),
            replace: self.args.replace,
            dry_run: self.args.dry_run,
        }
    }

    /// Sends the missing ranges. Ranges that another client sends meanwhile are not waited for in line: their turn comes
    /// again.
    async fn send_ranges(
        &self,
        file: &LocalFile,
        begun: &UploadStatus,
        sent: &AtomicU64,
    ) -> anyhow::Result<UploadStatus> {
        let id = begun.id.as_deref().context("the host's answer names no upload")?;
        let digest = file.progress_name();
        self.sink.progress(ProgressEvent::BlobStarted {
            image: file.path.to_string(),
            digest: digest.clone(),
            size: file.size,
            offset: begun.received_bytes,
        });
        let mut status = begun.clone();
        while status.state == UploadState::Receiving {
            let missing = status.ranges.iter().zip(0_u64..).filter(|(range, _)| range.is_none());
            let mut missing: Vec<u64> = missing.map(|(_, number)| number).collect();
            if missing.is_empty() {
                bail!("the host's answer has no missing range, and the upload is not complete");
            }
            // Several clients begin at different places, and look often at what the others have sent.
            let place = usize::try_from(u64::from_le_bytes(random_bytes()) % missing.len() as u64);
            missing.rotate_left(place.unwrap_or_default());
            missing.truncate(usize::from(self.args.connections) * RANGES_BETWEEN_LOOKS);
            let range_size = status.range_size;
            let requests = missing.into_iter().map(|number| {
                let digest = &digest;
                async move {
                    let (_, length) = file.span(number, range_size);
                    let end = self.client.send_range(id, number, file, range_size, self.sink).await?;
                    if end == RangeEnd::Taken {
                        sent.fetch_add(length, Ordering::Relaxed);
                    }
                    if end != RangeEnd::Left {
                        self.sink.progress(ProgressEvent::BlobAdvanced {
                            digest: digest.clone(),
                            bytes: length,
                        });
                    }
                    anyhow::Ok(())
                }
            });
            let mut answers = stream::iter(requests).buffer_unordered(usize::from(self.args.connections));
            while let Some(answer) = answers.next().await {
                answer?;
            }
            status = self.client.show(id).await?;
        }
        self.sink.progress(ProgressEvent::BlobFinished { digest });
        Ok(status)
    }
}

/// Returns the first range on the host that has other bytes than the file.
async fn find_other(file: &LocalFile, status: &UploadStatus) -> anyhow::Result<Option<u64>> {
    for (range, number) in status.ranges.iter().zip(0_u64..) {
        if let Some(range) = range
            && file.hash_range(number, status.range_size).await? != *range
        {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn render(report: &BundleUploadReport) -> String {
    let mut table = Table::new(&["FILE", "SIZE", "THERE BEFORE", "SENT", "STATE", "PATH"]);
    for row in &report.files {
        let state = match row.state {
            UploadState::Receiving => "not complete",
            UploadState::Blocked => "blocked",
            UploadState::Complete => "complete",
            UploadState::Planned => "would be sent",
        };
        table.row([
            row.name.clone(),
            bytes(row.bytes),
            bytes(row.bytes_before),
            bytes(row.bytes_sent),
            state.to_owned(),
            row.path.clone().unwrap_or_default(),
        ]);
    }
    table.render(stdout_width())
}
