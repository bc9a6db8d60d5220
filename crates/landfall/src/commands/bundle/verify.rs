//! `landfall bundle verify`: checks signature, head and every byte of a bundle.

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::report::{BundleDamageRow, BundleVerificationReport};
use landfall_core::wording::counted;
use landfall_net::durable;
use landfall_oci::bundle::{BundleDamage, BundleFile, BundleSource, DamagedPart};

use super::{BundleKeyArgs, SignedImage, hint_of_unsigned};
use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::size::bytes;
use crate::output::structured::print_report;

/// Check a bundle: who signed it, and if every byte is right.
///
/// `--head` reads the head only: enough to decide about trust. Without it every byte is read, on all processors, and each
/// damaged blob is named with its images. The exit status is 1 if something is damaged, or an image is not signed as
/// `--image-key` wants.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Examples:\n  landfall bundle verify site.tar.zst --public-key key.pub\n  \
                       landfall bundle verify site.tar.zst_part00 --repair-list damaged.txt"
)]
pub struct BundleVerifyArgs {
    /// The bundle, or any of its pieces.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// Check the head only.
    #[arg(long)]
    pub head: bool,
    /// Write the digests of the damaged blobs to this file, for `landfall bundle create --only-blobs`.
    #[arg(long, value_name = "FILE", conflicts_with = "head")]
    pub repair_list: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub keys: BundleKeyArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn run(args: &BundleVerifyArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let file = BundleFile::open(&args.file)?;
    let trusted_key = args.keys.trust(&file)?;
    let source = BundleSource::new(file.clone());
    let images = file.roots().map(|(name, root)| SignedImage {
        name: name.to_string(),
        source: &source,
        digest: root.digest,
    });
    let unsigned = args.keys.find_unsigned(&images.collect::<Vec<_>>())?;
    for (name, refusal) in &unsigned {
        context.printer.problem(format_args!("not signed: `{name}`: {refusal}"));
    }
    if let Some(hint) = hint_of_unsigned(&unsigned) {
        context.printer.problem(format_args!("  hint: {hint}"));
    }
    let (read, damages) = match args.head {
        true => (0, file.verify_head()),
        false => (file.length(), file.verify()?),
    };
    if let Some(path) = &args.repair_list {
        let damaged = damages.iter().filter_map(|damage| match &damage.part {
            DamagedPart::Blob { digest, .. } => Some(format!("{digest}\n")),
            _ => None,
        });
        let list: String = damaged.collect();
        durable::replace_file(path, list.as_bytes()).with_context(|| format!("cannot write `{path}`"))?;
    }
    let rows: Vec<BundleDamageRow> = damages.iter().map(describe).collect();
    let mut report = BundleVerificationReport::new(args.file.to_string(), file.id(), read, rows);
    report.trusted_key = trusted_key;
    print_report(&context.printer, args.output.output, &report, render)?;
    Ok(match report.damages.is_empty() && unsigned.is_empty() {
        true => ExitStatus::Done,
        false => ExitStatus::AnswerIsNo,
    })
}

pub(super) fn describe(damage: &BundleDamage) -> BundleDamageRow {
    let (part, blob) = match &damage.part {
        DamagedPart::Blob { digest, size } => ("blob".to_owned(), Some((digest, *size))),
        DamagedPart::File { path } => (format!("file `{path}`"), None),
        DamagedPart::Header { digest } => (format!("header before `{digest}`"), None),
        DamagedPart::End => ("end mark".to_owned(), None),
        DamagedPart::SeekTable(problem) => {
            let why = problem.map(|problem| format!(": {problem}"));
            (format!("seek table{}", why.unwrap_or_default()), None)
        }
    };
    BundleDamageRow {
        part,
        digest: blob.map(|(digest, _)| digest.to_string()),
        bytes: blob.map(|(_, size)| size),
        images: damage.images.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn render(report: &BundleVerificationReport) -> String {
    let mut lines = Vec::new();
    if let Some(key) = &report.trusted_key {
        lines.push(format!("signed by `{key}`"));
    }
    for damage in &report.damages {
        let blob = damage.digest.as_ref().map(|digest| format!(" `{digest}`"));
        lines.push(format!("damaged: {}{}", damage.part, blob.unwrap_or_default()));
        lines.extend(damage.images.iter().map(|image| format!("  needed by: {image}")));
    }
    let read = bytes(report.bytes);
    lines.push(match report.damages.len() {
        0 if report.bytes == 0 => "the head is whole".to_owned(),
        0 => format!("everything is whole; {read} read"),
        count => format!("{} damaged; {read} read", counted(count, "part")),
    });
    lines.join("\n") + "\n"
}
