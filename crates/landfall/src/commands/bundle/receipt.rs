//! `landfall bundle receipt`: shows the receipt of a bundle, and verifies its signature.

use std::io::Read as _;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_core::bundle::trust::{KeyId, parse_signatures};
use landfall_core::report::{BundleReceiptReport, INVENTORY_SIZE_MAX, RawReceipt};
use landfall_core::wording::counted;
use landfall_oci::bundle::signature::{HostKeys, receipt_signature_name, verify_receipt};

use super::load_public_keys;
use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::structured::print_report;

/// Show the receipt of a bundle: what a site has of it.
///
/// The host writes it beside the bundle once it has taken everything in, with its signature in a file with the ending
/// `.sig`. The exit status is 1 if the site lacks an image. The receipt is also an inventory: `landfall bundle create
/// --for` leaves out of the next bundle what the site has.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall bundle receipt site.tar.zst.receipt.json --public-key host-key.pub -o json"
)]
pub struct BundleReceiptArgs {
    /// The receipt, or the bundle that it lies beside.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// Take only a receipt that this key signed: the public key of the host, in PEM [repeatable: any of them; default:
    /// take unsigned receipts too].
    #[arg(long = "public-key", value_name = "FILE")]
    pub public_keys: Vec<Utf8PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(super) fn run(args: &BundleReceiptArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let path = receipt_of(&args.file);
    let signed = SignedFile::load(&path, &args.public_keys)?;
    let receipt = RawReceipt::parse(&signed.bytes).with_context(|| format!("cannot use `{path}`"))?;
    let mut report = BundleReceiptReport::new(path.to_string(), receipt);
    report.signed_by = signed.signed_by;
    report.trusted_key = signed.trusted_key.map(|key| key.to_string());
    print_report(&context.printer, args.output.output, &report, render)?;
    Ok(match report.missing.is_empty() && report.bad.is_empty() {
        true => ExitStatus::Done,
        false => ExitStatus::AnswerIsNo,
    })
}

/// Returns the path of the receipt: the file itself, or that beside a bundle.
fn receipt_of(file: &Utf8Path) -> Utf8PathBuf {
    let beside = Utf8PathBuf::from(format!("{file}.receipt.json"));
    match file.extension() != Some("json") && beside.is_file() {
        true => beside,
        false => file.to_owned(),
    }
}

/// A receipt or an inventory, with the signature in the file beside it.
pub(super) struct SignedFile {
    pub(super) bytes: Vec<u8>,
    /// The keys that signed it, as the signature says.
    signed_by: Vec<String>,
    /// The key that verified it, if keys are named.
    trusted_key: Option<KeyId>,
}

impl SignedFile {
    /// Loads a file. If keys are named, one of them must have signed it.
    ///
    /// # Errors
    /// If a file cannot be read, or none of the keys signed it.
    pub(super) fn load(path: &Utf8Path, public_keys: &[Utf8PathBuf]) -> anyhow::Result<SignedFile> {
        let bytes = read_bounded(path)?;
        let beside = Utf8PathBuf::from(receipt_signature_name(path.as_str()));
        let signatures = beside.is_file().then(|| read_bounded(&beside)).transpose()?;
        let listed = signatures.as_deref().and_then(|list| parse_signatures(list).ok());
        let listed = listed.map(|listed| listed.signatures).unwrap_or_default();
        let trusted_key = match public_keys {
            [] => None,
            paths => {
                let keys = HostKeys::new(load_public_keys(paths)?, []).context("cannot use the public keys")?;
                let verified = verify_receipt(&keys, &bytes, signatures.as_deref());
                Some(verified.with_context(|| format!("`{path}` is refused"))?)
            }
        };
        Ok(SignedFile {
            bytes,
            signed_by: listed.iter().map(|signature| signature.key.to_string()).collect(),
            trusted_key,
        })
    }
}

fn read_bounded(path: &Utf8Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs_err::File::open(path)?;
    file.take(INVENTORY_SIZE_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn render(report: &BundleReceiptReport) -> String {
    let mut lines = vec![
        format!("site:     {}", report.site),
        format!("bundle:   {}", report.bundle),
    ];
    if let Some(series) = &report.series {
        let sequence = report.sequence.map(|number| format!(", number {number}"));
        lines.push(format!("series:   {series}{}", sequence.unwrap_or_default()));
    }
    lines.push(match (&report.trusted_key, report.signed_by.is_empty()) {
        (Some(key), _) => format!("signed:   by {key}, verified"),
        (None, true) => "signed:   by nobody".to_owned(),
        (None, false) => format!("signed:   by {}, not verified", report.signed_by.join(", ")),
    });
    lines.push(format!(
        "images:   {} there, {} missing, {} damaged in the bundle",
        report.present.len(),
        report.missing.len(),
        report.bad.len()
    ));
    lines.push(format!("site has: {}", counted(report.blobs, "blob")));
    for (word, images) in [("missing", &report.missing), ("damaged", &report.bad)] {
        lines.extend(images.iter().map(|image| format!("  {word}: {image}")));
    }
    lines.join("\n")
}
