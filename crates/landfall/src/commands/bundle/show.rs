//! `landfall bundle show`: describes a bundle by its head.

use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::bundle::trust::parse_signatures;
use landfall_core::report::BundleReport;
use landfall_core::wording::counted;
use landfall_oci::bundle::BundleFile;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::printer::stdout_width;
use crate::output::size::bytes;
use crate::output::structured::print_report;
use crate::output::table::Table;

/// Show what is in a bundle.
///
/// Reads its head only, so that a bundle of any size is shown at once. Its signatures are named, and not verified.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall bundle show site.tar.zst -o json | jq -r '.images[].name'")]
pub struct BundleShowArgs {
    /// The bundle, or any of its pieces.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn run(args: &BundleShowArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let file = BundleFile::open(&args.file)?;
    let report = describe(&file);
    print_report(&context.printer, args.output.output, &report, render)?;
    Ok(ExitStatus::Done)
}

/// Describes an open bundle.
pub(super) fn describe(file: &BundleFile) -> BundleReport {
    let mut report = BundleReport::new(
        file.path().to_string(),
        file.id(),
        file.length(),
        file.piece_count(),
        file.document(),
    );
    let signatures = file.signatures().and_then(|bytes| parse_signatures(bytes).ok());
    let signatures = signatures.map(|found| found.signatures).unwrap_or_default();
    report.signed_by = signatures.iter().map(|signature| signature.key.to_string()).collect();
    report
}

/// Renders a bundle for people.
pub(super) fn render(report: &BundleReport) -> String {
    let mut table = Table::new(&["IMAGE", "PLATFORMS", "WITHOUT", "REFERRERS", "DIGEST"]);
    for image in &report.images {
        table.row([
            image.name.clone(),
            image.platforms.join(" "),
            image.left_out.join(" "),
            image.referrers.to_string(),
            image.digest.clone(),
        ]);
    }
    let mut lines = vec![format!("bundle:   {}", report.file), format!("id:       {}", report.id)];
    if let Some(series) = &report.series {
        let sequence = report.sequence.map(|number| format!(", number {number}"));
        lines.push(format!("series:   {series}{}", sequence.unwrap_or_default()));
    }
    let signed = match report.signed_by.is_empty() {
        true => "by nobody".to_owned(),
        false => report.signed_by.join(", "),
    };
    lines.push(format!("signed:   {signed}"));
    let pieces = match report.pieces {
        1 => String::new(),
        count => format!(" in {}", counted(count, "file")),
    };
    lines.push(format!(
        "size:     {}{pieces}; {} in {}",
        bytes(report.bytes),
        bytes(report.content_bytes),
        counted(report.blobs, "blob")
    ));
    if !report.carried.is_empty() {
        lines.push(format!("carries:  {}", report.carried.join(", ")));
    }
    if let Some(base) = &report.base {
        lines.push(format!("base:     {base}"));
    }
    if !report.needs.is_empty() {
        let size = report.needs.iter().map(|need| need.bytes).sum();
        let count = counted(report.needs.len(), "blob");
        lines.push(format!("needs:    {count} at the site, {}", bytes(size)));
    }
    for row in &report.rewritten {
        lines.push(format!("new index: {}\n  {} -> {}", row.name, row.from, row.to));
        if !row.lost.is_empty() {
            lines.push(format!(
                "  without what referred to the old one: {}",
                row.lost.join(", ")
            ));
        }
    }
    if let Some(room) = &report.room {
        lines.push(super::room::render(room));
    }
    format!("{}\n\n{}", lines.join("\n"), table.render(stdout_width()))
}
