//! `landfall bundle`: makes, shows, verifies, compares, copies and serves bundles [spec:bundles].

mod copy;
mod create;
mod create_images;
mod diff;
mod room;
mod serve;
mod show;
mod verify;

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use landfall_core::bundle::trust::{Edition, Evidence, HighestSeen, OlderBundles, Trust, decide_trust};
use landfall_oci::bundle::BundleFile;
use landfall_oci::bundle::signature::{HostKeys, PublicKey};

use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::load_text;

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
    Serve(Box<serve::BundleServeArgs>),
}

pub(crate) fn run(args: &BundleArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    match &args.command {
        BundleCommand::Create(args) => create::run(args, context),
        BundleCommand::Show(args) => show::run(args, context),
        BundleCommand::Verify(args) => verify::run(args, context),
        BundleCommand::Diff(args) => diff::run(args, context),
        BundleCommand::Copy(args) => copy::run(args, context),
        BundleCommand::Serve(args) => serve::run(args, context),
    }
}

/// Keys that a bundle must be signed by.
#[derive(Debug, Clone, Args)]
pub struct BundleKeyArgs {
    /// Take only a bundle that this key signed: a public key in PEM [repeatable: any of them; default: take unsigned
    /// bundles too].
    #[arg(long = "public-key", value_name = "FILE")]
    pub public_keys: Vec<Utf8PathBuf>,
}

impl BundleKeyArgs {
    /// Decides about a bundle. Returns the key that signed it, if keys are named.
    ///
    /// # Errors
    /// If none of the named keys signed the bundle, or a key cannot be read.
    pub(crate) fn trust(&self, file: &BundleFile) -> anyhow::Result<Option<String>> {
        let keys = self.public_keys.iter().map(|path| load_public_key(path));
        let keys = keys.collect::<anyhow::Result<Vec<PublicKey>>>()?;
        let keys = HostKeys::new(keys, []).context("cannot use the public keys")?;
        let refused = || format!("the bundle `{}` is refused", file.path());
        let signatures = file.signatures().map(|bytes| &bytes[..]);
        let checked = keys
            .check_bundle(file.document_bytes(), signatures)
            .with_context(refused)?;
        let document = file.document();
        let edition = document.series.clone().zip(document.sequence);
        let edition = edition.map(|(series, sequence)| Edition { series, sequence });
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
}

fn load_public_key(path: &Utf8Path) -> anyhow::Result<PublicKey> {
    let text = load_text(path)?;
    PublicKey::parse(&text.text).with_context(|| format!("cannot use the public key `{path}`"))
}
