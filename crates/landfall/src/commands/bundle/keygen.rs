//! `landfall bundle keygen`: makes a key pair that signs bundles.

use anyhow::Context as _;
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_net::durable;
use landfall_oci::bundle::signature::PrivateKey;

use super::new_file_error;
use crate::context::Context;
use crate::exit::ExitStatus;

/// Make a key that signs bundles.
///
/// It is in two files in PEM, which `openssl` reads too. Keep the private half at the desk; only its
/// owner can read the file. The public half goes into `landfall.bundles.publicKeys` of the hosts. No file is replaced.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall bundle keygen key.pem")]
pub struct BundleKeygenArgs {
    /// File for the private half, e.g. `key.pem`.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// File for the public half [default: FILE with the ending `.pub`].
    #[arg(long, value_name = "FILE")]
    pub public: Option<Utf8PathBuf>,
    /// Kind of the key. Ed25519 makes no detached signatures (`bundle create --detached`).
    #[arg(long, value_enum, value_name = "KIND", default_value_t)]
    pub algorithm: Algorithm,
}

/// Kind of a new key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Algorithm {
    /// Ed25519.
    #[default]
    Ed25519,
    /// ECDSA on the curve P-256.
    EcdsaP256,
}

pub(super) fn run(args: &BundleKeygenArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let public = match &args.public {
        Some(public) => public.clone(),
        None => args.file.with_extension("pub"),
    };
    let made = match args.algorithm {
        Algorithm::Ed25519 => PrivateKey::generate(),
        Algorithm::EcdsaP256 => PrivateKey::generate_ecdsa(),
    };
    let (key, text) = made.context("cannot make a key")?;
    // The public half can be made again out of the private one.
    refuse_taken(&public)?;
    durable::create_private_file(&args.file, text.as_bytes()).map_err(|error| new_file_error(&args.file, error))?;
    durable::create_file(&public, key.public_key().to_pem().as_bytes())
        .map_err(|error| new_file_error(&public, error))?;
    let id = key.public_key().id();
    context.printer.data(&format!("{id}  {public}"))?;
    context.printer.note(format_args!(
        "keep `{}` at the desk: `bundle create --key` signs with it; put `{public}` into `landfall.bundles.publicKeys`",
        args.file
    ));
    Ok(ExitStatus::Done)
}

fn refuse_taken(path: &Utf8Path) -> anyhow::Result<()> {
    match fs_err::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(new_file_error(path, std::io::ErrorKind::AlreadyExists.into())),
    }
}
