//! `landfall bundle`: makes, shows, verifies, compares, copies and serves bundles [spec:bundles].

mod copy;
mod create;
mod create_images;
mod diff;
mod keygen;
mod load;
mod receipt;
mod repair;
mod room;
mod serve;
mod show;
mod sign_key;
mod upload;
mod verify;

use std::borrow::Cow;
use std::io;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use landfall_core::bundle::trust::{Evidence, HighestSeen, OlderBundles, Refusal, Trust, decide_trust};
use landfall_core::cosign::{CosignOutcome, ImageRefusal};
use landfall_core::failure::{Explanation, Hint as _};
use landfall_core::reference::Digest;
use landfall_oci::bundle::BundleFile;
use landfall_oci::bundle::signature::{HostKeys, PrivateKey, PublicKey};
use landfall_oci::cosign::verify_image;
use landfall_oci::image::ImageSource;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::load_text;
use crate::runtime;

/// Make and use bundles: files that carry the images of a site without a network.
#[derive(Debug, Args)]
pub struct BundleArgs {
    #[command(subcommand)]
    pub command: BundleCommand,
}

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum BundleCommand {
    Create(Box<create::BundleCreateArgs>),
    Show(show::BundleShowArgs),
    Verify(verify::BundleVerifyArgs),
    Diff(diff::BundleDiffArgs),
    Copy(copy::BundleCopyArgs),
    Upload(upload::BundleUploadArgs),
    Load(load::BundleLoadArgs),
    Receipt(receipt::BundleReceiptArgs),
    Repair(repair::BundleRepairArgs),
    Serve(Box<serve::BundleServeArgs>),
    Keygen(keygen::BundleKeygenArgs),
    SignKey(sign_key::BundleSignKeyArgs),
}

pub(crate) fn run(args: &BundleArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    match &args.command {
        BundleCommand::Create(args) => create::run(args, context),
        BundleCommand::Show(args) => show::run(args, context),
        BundleCommand::Verify(args) => verify::run(args, context),
        BundleCommand::Diff(args) => diff::run(args, context),
        BundleCommand::Copy(args) => copy::run(args, context),
        BundleCommand::Upload(args) => upload::run(args, context),
        BundleCommand::Load(args) => load::run(args, context),
        BundleCommand::Receipt(args) => receipt::run(args, context),
        BundleCommand::Repair(args) => repair::run(args, context),
        BundleCommand::Serve(args) => serve::run(args, context),
        BundleCommand::Keygen(args) => keygen::run(args, context),
        BundleCommand::SignKey(args) => sign_key::run(args, context),
    }
}

/// Keys that a bundle must be signed by.
#[derive(Debug, Clone, Args)]
pub struct BundleKeyArgs {
    /// Take only a bundle that this key signed: a public key in PEM [repeatable: any of them; default: take unsigned
    /// bundles too].
    #[arg(long = "public-key", value_name = "FILE")]
    pub public_keys: Vec<Utf8PathBuf>,
    /// Take only images that carry a signature of cosign by this key: a public key in PEM [repeatable: any of them;
    /// default: take unsigned images too].
    #[arg(long = "image-key", value_name = "FILE")]
    pub image_keys: Vec<Utf8PathBuf>,
}

/// An image whose signatures are checked.
pub(crate) struct SignedImage<'a> {
    pub(crate) name: String,
    pub(crate) source: &'a dyn ImageSource,
    pub(crate) digest: Digest,
}

impl BundleKeyArgs {
    /// Decides about a bundle. Returns the key that signed it, if keys are named.
    ///
    /// # Errors
    /// If none of the named keys signed the bundle, or a key cannot be read.
    pub(crate) fn trust(&self, file: &BundleFile) -> anyhow::Result<Option<String>> {
        let keys = load_public_keys(&self.public_keys)?;
        let keys = HostKeys::new(keys, []).context("cannot use the public keys")?;
        let refused = || format!("the bundle `{}` is refused", file.path());
        let checked = file.check_signatures(&keys).with_context(refused)?;
        let edition = file.document().edition();
        let trust = decide_trust(&Evidence {
            keys: keys.ring(),
            checks: &checked.checks,
            skipped: &checked.skipped,
            edition: edition.as_ref(),
            seen: HighestSeen::default(),
            older: OlderBundles::Refuse,
        });
        Ok(match trust.with_context(refused)? {
            Trust::Key { key, .. } => Some(key.to_string()),
            Trust::NoKey { .. } => None,
        })
    }

    /// Returns the images without a signature by one of the named keys, with the reason. Without keys, there are none.
    ///
    /// # Errors
    /// If a key or an image cannot be read.
    pub(crate) fn find_unsigned(&self, images: &[SignedImage<'_>]) -> anyhow::Result<Vec<(String, ImageRefusal)>> {
        if self.image_keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = load_public_keys(&self.image_keys)?;
        let runtime = runtime::current_thread()?;
        let mut refused = Vec::new();
        for SignedImage { name, source, digest } in images {
            let verified = runtime.block_on(verify_image(*source, digest, &keys));
            match verified.with_context(|| format!("cannot check the signatures of `{name}`"))? {
                CosignOutcome::Signed { .. } => {}
                CosignOutcome::Refused(refusal) => refused.push((name.clone(), refusal)),
            }
        }
        Ok(refused)
    }

    /// Refuses images without a signature by one of the named keys.
    ///
    /// # Errors
    /// If there is such an image. The message names all of them.
    pub(crate) fn require_signed(&self, images: &[SignedImage<'_>]) -> anyhow::Result<()> {
        let refused = self.find_unsigned(images)?;
        let Some(hint) = hint_of_unsigned(&refused) else {
            return Ok(());
        };
        let lines = refused.iter().map(|(name, refusal)| format!("\n  `{name}`: {refusal}"));
        let lines: String = lines.collect();
        bail!(Explanation::new(
            format!(
                "nothing was done, because {} of {} not signed by the given keys:{lines}",
                refused.len(),
                match images.len() {
                    1 => "1 image is".to_owned(),
                    count => format!("{count} images are"),
                }
            ),
            hint.into_owned(),
        ))
    }

    /// Refuses a file that carries no signature of its own, if keys are named.
    ///
    /// # Errors
    /// If keys are named.
    pub(crate) fn refuse_foreign(&self, path: &Utf8Path) -> anyhow::Result<()> {
        match self.public_keys.is_empty() {
            true => Ok(()),
            false => Err(anyhow::Error::from(Refusal::Unsigned).context(format!("the file `{path}` is refused"))),
        }
    }
}

/// Returns the hint about images without a signature by one of the named keys: that of the first one.
fn hint_of_unsigned(refused: &[(String, ImageRefusal)]) -> Option<Cow<'_, str>> {
    refused.first().and_then(|(_, refusal)| refusal.hint())
}

fn load_public_keys(paths: &[Utf8PathBuf]) -> anyhow::Result<Vec<PublicKey>> {
    paths.iter().map(|path| load_public_key(path)).collect()
}

fn load_public_key(path: &Utf8Path) -> anyhow::Result<PublicKey> {
    let text = load_text(path)?;
    PublicKey::parse(&text.text).with_context(|| format!("cannot use the public key `{path}`"))
}

fn load_private_keys(paths: &[Utf8PathBuf]) -> anyhow::Result<Vec<PrivateKey>> {
    let load = |path: &Utf8PathBuf| {
        let text = fs_err::read(path).map(Zeroizing::new)?;
        let text = std::str::from_utf8(&text).with_context(|| format!("the private key `{path}` is no text"))?;
        PrivateKey::parse(text).with_context(|| format!("cannot use the private key `{path}`"))
    };
    paths.iter().map(load).collect()
}

/// Returns the error of a file that could not be created.
fn new_file_error(path: &Utf8Path, error: io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists => Explanation::new(
            format!("the file `{path}` is there already, and is not replaced"),
            "give another name, or move that file away",
        )
        .into(),
        _ => error.into(),
    }
}
