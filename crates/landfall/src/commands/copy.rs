//! `landfall copy`: copies images between registries, layouts and archives.

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;

use crate::args::TransferArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::{load_text, settings_without_inputs};
use crate::transfer::location::{ImageLocation, OpenDestination};
use crate::transfer::options::TransferOptions;
use crate::transfer::{OpenTransfer, Transfer, run_transfers};

/// Copy images between registries, layouts and archives.
///
/// Images are copied whole, with all their platforms, so that digests and signatures stay valid. A layer that several
/// images share crosses the link once, and blobs that the destination has are skipped. The command uses the logins of
/// docker and podman on this machine. An interrupted transfer is resumed.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct CopyArgs {
    /// Source: an image reference, `oci:DIR[:NAME]`, `oci-archive:FILE[:NAME]`, `docker-archive:FILE[:NAME]` or
    /// `bundle:FILE[:NAME]`. NAME is a name, a tag, a digest, or `@N` for the image with this number, from 0 on. FILE of
    /// an archive may be `-` for stdin.
    #[arg(value_name = "FROM", required_unless_present = "from_file", requires = "to")]
    pub from: Option<ImageLocation>,
    /// Destination, in the same forms but for a bundle; an archive is overwritten and holds one image, a directory holds any number. FILE
    /// may be `-` for stdout. A digest in it has to be that of the image.
    #[arg(value_name = "TO")]
    pub to: Option<ImageLocation>,
    /// File with one pair of FROM and TO per line, and comments after `#`; `-` is stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub from_file: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub transfer: TransferArgs,
}

const EXAMPLES: &str = "Examples:
  landfall copy quay.io/shop/till:1.0 registry.local:5000/shop/till:1.0
  landfall copy oci-archive:till.tar localhost:5000/shop/till:1.0 --insecure localhost:5000
  landfall copy quay.io/shop/till:1.0 oci:images:till --platform linux/arm64
  landfall copy --from-file images.txt --dry-run";

pub(crate) fn run(args: &CopyArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let pairs = match (&args.from, &args.to) {
        (Some(from), Some(to)) => vec![(from.clone(), to.clone())],
        _ => load_pairs(
            args.from_file
                .as_deref()
                .context("no image and no file of pairs is named")?,
        )?,
    };
    let settings = settings_without_inputs()?;
    check_standard_streams(args, &pairs)?;
    let mut options = TransferOptions::resolve(&args.transfer);
    options.image_to_stdout = pairs.iter().any(|(_, to)| to.is_stdout());
    let registries = options.registries(&settings, context);
    let open = |from: &ImageLocation, to: &ImageLocation| {
        let (source, selector) = from.open_source(&registries, None)?;
        let OpenDestination { sink, name, expected } = to.open_sink(&registries, None)?;
        Ok(OpenTransfer {
            source,
            selector,
            sink,
            name,
            expected,
        })
    };
    let transfers: Vec<_> = pairs
        .iter()
        .map(|(from, to)| Transfer {
            bundle: None,
            source: from.to_string(),
            destination: to.to_string(),
            opened: open(from, to),
        })
        .collect();
    run_transfers(&transfers, &options, context)
}

/// Checks that stdin and stdout have one use each.
fn check_standard_streams(args: &CopyArgs, pairs: &[(ImageLocation, ImageLocation)]) -> anyhow::Result<()> {
    let from_stdin = pairs.iter().filter(|(from, _)| from.is_stdin()).count();
    let list_from_stdin = args.from_file.as_ref().is_some_and(|file| file == "-");
    if from_stdin + usize::from(list_from_stdin) > 1 {
        bail!("stdin (`-`) can be read only once");
    }
    if pairs.iter().filter(|(_, to)| to.is_stdout()).count() > 1 {
        bail!("stdout (`-`) takes only one image");
    }
    Ok(())
}

fn load_pairs(file: &Utf8Path) -> anyhow::Result<Vec<(ImageLocation, ImageLocation)>> {
    let text = load_text(file)?;
    let mut pairs = Vec::new();
    for (number, line) in text.text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = || format!("{}:{}", text.name, number + 1);
        match words[..] {
            [] => {}
            [from, to] => {
                let parse = |text: &str| text.parse::<ImageLocation>().with_context(place);
                pairs.push((parse(from)?, parse(to)?));
            }
            _ => bail!("{}: a line must hold two locations, FROM and TO", place()),
        }
    }
    Ok(pairs)
}
