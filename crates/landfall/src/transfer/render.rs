//! The report of a transfer as text for people.

use std::borrow::Cow;

use landfall_core::report::{BlobTally, TransferReport, TransferRow, TransferState, TransferSummary};
use landfall_core::wording::{counted, quoted};

use crate::output::failures::{FailedImage, render_failures};
use crate::output::size::bytes;
use crate::output::table::Table;

/// Form of the report.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransferForm {
    /// Width of the terminal on stdout.
    pub(super) width: Option<usize>,
    /// False if the reader was told of each image already.
    pub(super) has_rows: bool,
}

/// Renders the table, then the failures, then the totals.
pub(super) fn render_transfer(report: &TransferReport, form: TransferForm) -> String {
    let with_referrers = report.summary.referrers > 0;
    let mut columns = vec!["STATE", "FROM", "TO", "MOVED", "MOUNTED", "THERE"];
    columns.extend(with_referrers.then_some("REFERRERS"));
    let mut table = Table::new(&columns);
    // A stopped image has nothing to tell: one line counts them all.
    for row in report.images.iter().filter(|row| row.state != TransferState::Stopped) {
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
    let mut text = match form.has_rows {
        true => table.render(form.width),
        false => String::new(),
    };
    for row in report.images.iter().filter(|row| !row.lacking.is_empty()) {
        let (destination, lacking) = (&row.destination, quoted(&row.lacking));
        text.push_str(&format!(
            "\nin part: {destination}\n  without: {lacking}, which `{}` does not hold\n",
            row.source
        ));
    }
    if report.dry_run && report.images.iter().any(|row| !row.lacking.is_empty()) {
        text.push_str(
            "\na registry of distribution 2.x refuses an index without some of its platforms: for one, make the bundle with \
             `--narrow rewrite`\n",
        );
    }
    let failed: Vec<(&TransferRow, Cow<'_, str>)> = report
        .images
        .iter()
        .filter(|row| row.state == TransferState::Failed)
        .map(|row| (row, failed_name(row)))
        .collect();
    text.push_str(&render_failures(failed.iter().map(|(row, name)| FailedImage {
        state: state_word(row.state, report.dry_run),
        name,
        problem: row.problem.as_deref(),
        reason: row.problem.clone(),
        fix: row.fix.as_deref(),
    })));
    text.push_str(&totals(report));
    text
}

/// Returns the name of a failed image. The store is the destination of all images of a bundle, and the bundle is what
/// can be mended.
fn failed_name(row: &TransferRow) -> Cow<'_, str> {
    match &row.bundle {
        Some(bundle) => Cow::Owned(format!("{} of {bundle}", row.source)),
        None => Cow::Borrowed(&row.destination),
    }
}

fn totals(report: &TransferReport) -> String {
    let TransferSummary {
        copied,
        unchanged,
        failed,
        stopped,
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
        count => format!(", with {}", counted(*count, "referrer")),
    };
    let images = counted(report.images.len() - stopped, "image");
    let stopped = match stopped {
        0 => String::new(),
        _ => format!(
            "stopped: {} of {} done; run the same command again to go on\n",
            copied + unchanged,
            report.images.len()
        ),
    };
    format!(
        "\n{images}: {copied} {done}, {unchanged} unchanged, {failed} failed{with_referrers}; {} {were}moved, \
         {} mounted, {} there already\n{stopped}",
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
        TransferState::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use landfall_core::report::TransferRow;

    use super::*;

    #[test]
    fn images_of_which_the_reader_was_told_have_no_rows() {
        let row = |name: &str, state, problem: Option<&str>| TransferRow {
            bundle: None,
            source: name.to_owned(),
            destination: format!("reg/{name}"),
            state,
            digest: None,
            lacking: Vec::new(),
            referrers: 0,
            blobs: BlobTally::default(),
            problem: problem.map(str::to_owned),
            fix: None,
        };
        let rows = vec![
            row("a:1", TransferState::Copied, None),
            row("b:1", TransferState::Failed, Some("not found")),
        ];
        let report = TransferReport::new(false, rows);
        let render = |has_rows| render_transfer(&report, TransferForm { width: None, has_rows });
        insta::assert_snapshot!(render(true), @r"
        STATE   FROM  TO       MOVED  MOUNTED  THERE
        copied  a:1   reg/a:1  0 B    0 B      0 B
        failed  b:1   reg/b:1  0 B    0 B      0 B

        failed: reg/b:1
          why: not found

        2 images: 1 copied, 0 unchanged, 1 failed; 0 B moved, 0 B mounted, 0 B there already
        ");
        insta::assert_snapshot!(render(false), @r"
        failed: reg/b:1
          why: not found

        2 images: 1 copied, 0 unchanged, 1 failed; 0 B moved, 0 B mounted, 0 B there already
        ");
    }
}
