//! `landfall bundle sign-key`: makes the document that brings a new key to hosts [spec:bundles.signing.rotation].

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::bundle::trust::render_key_document;
use landfall_core::failure::Explanation;
use landfall_net::durable;
use landfall_oci::bundle::signature::PublicKey;

use super::{load_private_keys, new_file_error};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::load_text;

/// Sign a new public key with an old one, for hosts that have the old one.
///
/// The document goes beside the bundles, onto a stick or into the directory of bundles. A host that uses one of the
/// signing keys takes the new one into use, without new user-data. No file is replaced.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall bundle sign-key new.pub --key key.pem --to new-key.json")]
pub struct BundleSignKeyArgs {
    /// The new public key, in PEM.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// Private key in PEM that hosts have the public half of [repeatable].
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub keys: Vec<Utf8PathBuf>,
    /// File for the document; its name ends with `.json`.
    #[arg(long, value_name = "FILE")]
    pub to: Utf8PathBuf,
}

pub(super) fn run(args: &BundleSignKeyArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    if args.to.extension() != Some("json") {
        bail!(Explanation::new(
            format!("hosts would not find a key document called `{}`", args.to),
            "end its name with `.json`",
        ));
    }
    let text = load_text(&args.file)?.text;
    let new = PublicKey::parse(&text).with_context(|| format!("cannot use the public key `{}`", args.file))?;
    if new.kind().bundle_algorithm().is_none() {
        bail!(Explanation::new(
            format!("the public key `{}` is of a kind that signs no bundles", args.file),
            "make one with `landfall bundle keygen`; RSA and ECDSA P-256 are taken, too",
        ));
    }
    // The document has this text, and begins with the line of a PEM file, whatever was before it in the file.
    let text = new.to_pem();
    let keys = load_private_keys(&args.keys)?;
    let signatures = keys.iter().map(|key| key.sign(text.as_bytes()));
    let signatures = signatures.collect::<Result<Vec<_>, _>>()?;
    let document = render_key_document(&text, &signatures);
    durable::create_file(&args.to, document.as_bytes()).map_err(|error| new_file_error(&args.to, error))?;
    for signature in &signatures {
        let (id, signer) = (new.id(), &signature.key);
        context
            .printer
            .data(&format!("{id}  signed by {signer}  {}", args.to))?;
    }
    Ok(ExitStatus::Done)
}
