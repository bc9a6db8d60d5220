//! `landfall inventory`: lists the blobs of a site, for bundles that leave them out.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use landfall_core::failure::Explanation;
use landfall_core::reference::Digest;
use landfall_core::report::Inventory;
use landfall_core::wording::counted;
use landfall_net::durable;
use landfall_oci::bundle::BundleFile;
use landfall_oci::store::ContentStore;
use qrcode::render::svg;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

use crate::commands::registry::directories::find_registry;
use crate::context::Context;
use crate::exit::ExitStatus;

/// List the blobs of a site, so that a bundle leaves them out.
#[derive(Debug, Args)]
pub struct InventoryArgs {
    #[command(subcommand)]
    pub command: InventoryCommand,
}

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum InventoryCommand {
    Export(InventoryExportArgs),
}

/// Write the inventory of a site.
///
/// Lists the digests of the blobs that the site has, and nothing else of it. Carry the file to the desk:
/// `landfall bundle create --for` leaves these blobs out of the next bundle.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall inventory export --root /var/lib/landfall --site shop7 --to shop7.json"
)]
pub struct InventoryExportArgs {
    /// Directory of a registry: the `--root` of `landfall registry serve`, or the state directory of an agent
    /// [repeatable; default: /var/lib/landfall if no bundle is named].
    #[arg(long = "root", value_name = "DIR")]
    pub roots: Vec<Utf8PathBuf>,
    /// Bundle that is at the site, or any of its pieces [repeatable; default: none].
    #[arg(long = "bundle", value_name = "FILE")]
    pub bundles: Vec<Utf8PathBuf>,
    /// Name of the site in the inventory [default: the name of this host].
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// Write only the first 8 bytes of each digest: small enough to be carried by hand.
    #[arg(long)]
    pub short: bool,
    /// Draw a QR code with the first 8 bytes of each digest: to the terminal, or with `--to` as an SVG image.
    ///
    /// A photograph of it carries the inventory out of a site that lets nothing else out. Write the text that the camera
    /// reads into a file for `landfall bundle create --for`. It holds about 330 blobs.
    #[arg(long, conflicts_with = "short")]
    pub qr: bool,
    /// File to write [default: stdout].
    #[arg(long, value_name = "FILE")]
    pub to: Option<Utf8PathBuf>,
}

pub(crate) fn run(args: &InventoryArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    match &args.command {
        InventoryCommand::Export(args) => export(args, context),
    }
}

fn export(args: &InventoryExportArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut roots = args.roots.clone();
    if roots.is_empty() && args.bundles.is_empty() {
        roots.push("/var/lib/landfall".into());
    }
    let mut blobs = BTreeSet::new();
    for root in &roots {
        let store = find_registry(root)?.store;
        let found = ContentStore::read_only(&store).blobs();
        blobs.extend(found.with_context(|| format!("cannot list the blobs of `{root}`"))?);
    }
    for path in &args.bundles {
        let file = BundleFile::open(path)?;
        blobs.extend(file.document().blobs.iter().map(|blob| blob.digest.clone()));
    }
    write(args, blobs, context)
}

fn write(args: &InventoryExportArgs, blobs: BTreeSet<Digest>, context: &Context) -> anyhow::Result<ExitStatus> {
    if blobs.is_empty() {
        bail!(Explanation::new(
            "there are no blobs",
            "make a whole bundle for this site: `landfall bundle create` without `--for`"
        ));
    }
    let site = args.site.clone().unwrap_or_else(host_name);
    let count = blobs.len();
    let mut inventory = Inventory::new(site, blobs);
    if args.short {
        inventory = inventory.shortened();
    }
    let text = match args.qr {
        true => draw_code(&inventory.qr_text()?, args.to.is_some())?,
        false => serde_json::to_string_pretty(&inventory)?,
    };
    match &args.to {
        None => context.printer.data(&text)?,
        Some(path) => {
            durable::replace_file(path, text.as_bytes()).with_context(|| format!("cannot write `{path}`"))?;
            context
                .printer
                .note(format_args!("`{path}` lists {}", counted(count, "blob")));
        }
    }
    Ok(ExitStatus::Done)
}

/// Draws a QR code: as an image, or with the characters of a terminal.
fn draw_code(text: &str, as_image: bool) -> anyhow::Result<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).context("cannot make a QR code")?;
    Ok(match as_image {
        true => code.render::<svg::Color<'_>>().build(),
        // Most terminals are dark: the light modules are drawn.
        false => {
            let mut drawn = code.render::<Dense1x2>();
            drawn.dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build() + "\n"
        }
    })
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
