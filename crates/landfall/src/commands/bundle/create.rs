//! `landfall bundle create`: makes a bundle.

use std::collections::HashSet;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use landfall_core::bundle::pieces::{PlannedPiece, SplitSize, plan_pieces};
use landfall_core::bundle::trust::render_signatures;
use landfall_core::failure::Explanation;
use landfall_core::oci_types::Platform;
use landfall_core::reference::Digest;
use landfall_core::report::{BundleReport, Inventory};
use landfall_core::wording::counted;
use landfall_net::durable::{self, directory_of};
use landfall_net::output_path::{OutputPath, look_at_file};
use landfall_oci::bundle::signature::{PrivateKey, detached_name, sign_detached};
use landfall_oci::bundle::{
    BundleContent, BundleDraft, BundleFile, BundleForm, BundleImage, BundleOptions, BundlePlan, BundleWriter, Carried,
    gather_images, write_images,
};
use landfall_oci::copy::{CopyFailure, CopyOptions, CopyReport};
use landfall_oci::digest::{Algorithm, Digester};

use super::create_images::{
    FailedCopy, NamedImage, WantedImage, images_of_list, images_of_profiles, narrow_images, open,
};
use super::receipt::SignedFile;
use super::{BundleKeyArgs, SignedImage, load_private_keys, room, show};
use crate::allocator;
use crate::args::{AccessArgs, InputArgs, OutputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::{load_settings, settings_without_inputs};
use crate::interrupt::run_until_signalled;
use crate::output::failures::{group_by, name_images};
use crate::output::progress::Progress;
use crate::output::structured::print_report;
use crate::registries::Registries;
use crate::runtime;
use crate::transfer::location::ImageLocation;

/// Make a bundle of images.
///
/// Takes the images of the profiles, and those that `--image` and `--from-file` name, with all platforms, signatures,
/// attestations and bills of materials. The size is known before the first large blob moves. A run that was stopped or
/// killed is resumed by the same command. The same content gives the same file.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct BundleCreateArgs {
    /// The bundle to write, e.g. `site.tar.zst`.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    #[command(flatten)]
    pub inputs: InputArgs,
    /// Image to put in, in the forms of `landfall copy` [repeatable; default: none].
    #[arg(long = "image", value_name = "IMAGE", help_heading = "Inputs")]
    pub images: Vec<ImageLocation>,
    /// File with an image per line, and its name in the bundle if it is to have another; `-` is stdin.
    #[arg(long, value_name = "FILE", help_heading = "Inputs")]
    pub from_file: Option<Utf8PathBuf>,
    /// File to carry beside the images, e.g. a profile [repeatable; default: none].
    #[arg(long = "carry", value_name = "FILE", help_heading = "Inputs")]
    pub carry: Vec<Utf8PathBuf>,
    /// Put in only this platform, e.g. `linux/arm64` [repeatable; default: all].
    ///
    /// The index stays as it is, so that digests and signatures stay valid; see `--narrow`.
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub platforms: Vec<Platform>,
    /// Index of an image that goes in without some of its platforms.
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "platforms")]
    pub narrow: Narrow,
    /// Leave signatures, attestations and bills of materials out.
    #[arg(long)]
    pub no_referrers: bool,
    /// Leave out the blobs that a site has: its inventory, the text of its QR code, or the receipt of its last bundle
    /// [repeatable: what all of them have; default: none].
    #[arg(long = "for", value_name = "FILE", help_heading = "Delta")]
    pub sites: Vec<Utf8PathBuf>,
    /// Take only receipts and inventories that this key signed: the public key of the site's host, in PEM [repeatable: any
    /// of them; default: unsigned ones too].
    #[arg(long = "public-key", value_name = "FILE", requires = "sites", help_heading = "Delta")]
    pub public_keys: Vec<Utf8PathBuf>,
    /// Leave out the blobs of an older bundle that the site has.
    #[arg(long, value_name = "FILE", conflicts_with = "sites", help_heading = "Delta")]
    pub base: Option<Utf8PathBuf>,
    /// Put in only the large blobs of this list, to repair a bundle: the file that `landfall bundle verify --repair-list`
    /// wrote.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sites", "base"], help_heading = "Delta")]
    pub only_blobs: Option<Utf8PathBuf>,
    /// Sign with this private key in PEM: RSA, Ed25519 or ECDSA P-256 [repeatable; default: not signed].
    #[arg(long = "key", value_name = "FILE", help_heading = "Signing")]
    pub keys: Vec<Utf8PathBuf>,
    /// Put in only images that carry a signature of cosign by this key: a public key in PEM [repeatable: any of them;
    /// default: unsigned images too].
    #[arg(long = "image-key", value_name = "FILE", help_heading = "Signing")]
    pub image_keys: Vec<Utf8PathBuf>,
    /// Write a signature of the whole file too, `FILE.sig.bin`, for tools that know no other.
    #[arg(long, requires = "keys", conflicts_with = "split", help_heading = "Signing")]
    pub detached: bool,
    /// Name of the bundles that replace one another at a site.
    #[arg(long, value_name = "NAME", requires = "sequence", help_heading = "Signing")]
    pub series: Option<String>,
    /// Number in the series: a site refuses a lower one than it has seen.
    #[arg(long, value_name = "NUMBER", requires = "series", help_heading = "Signing")]
    pub sequence: Option<u64>,
    /// Write pieces of at most this size: `3GB`, `fat32`, or bytes with a unit.
    #[arg(long, value_name = "SIZE")]
    pub split: Option<SplitSize>,
    /// Write a plain tar, with each large blob on a border of 4 KiB.
    #[arg(long)]
    pub plain: bool,
    /// Report size, space and time, and write nothing. Manifests and small blobs are fetched for it.
    #[arg(long)]
    pub dry_run: bool,
    /// Blobs in flight at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    pub concurrency: usize,
    #[command(flatten)]
    pub access: AccessArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Index of an image that goes in without some of its platforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Narrow {
    /// It stays as it is: no digest changes, and signatures stay valid. Some registries refuse it.
    #[default]
    Keep,
    /// It is made again without them: every reader takes it, but its digest changes, and its signatures are lost.
    Rewrite,
}

const EXAMPLES: &str = "Examples:
  landfall bundle create site.tar.zst --user-data user-data.yaml --profile profile.yaml --key key.pem
  landfall bundle create till.tar.zst --image quay.io/shop/till:1.0 --platform linux/arm64
  landfall bundle create june.tar.zst --profile june.yaml --for shop7.json --split fat32";

pub(super) fn run(args: &BundleCreateArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let OutputPath::File(path) = look_at_file(&args.file)? else {
        bail!(Explanation::new(
            format!("`{}` is no file: a bundle is written at many places at once", args.file),
            "name a file",
        ));
    };
    let inputs = args.inputs.if_named().map(load_settings).transpose()?;
    if let Some(inputs) = &inputs {
        inputs.print_findings(context);
    }
    let no_settings = settings_without_inputs()?;
    let settings = match &inputs {
        Some(inputs) => inputs.complete_settings()?,
        None => &no_settings,
    };
    let registries = Registries::new(settings, args.access.resolve());
    let mut wanted = match &inputs {
        Some(_) => images_of_profiles(settings),
        None => Vec::new(),
    };
    wanted.extend(args.images.iter().map(|from| WantedImage {
        from: from.clone(),
        registry: None,
        name: None,
    }));
    if let Some(file) = &args.from_file {
        wanted.extend(images_of_list(file)?);
    }
    if wanted.is_empty() {
        bail!(Explanation::new(
            "there is no image to put in",
            "name a profile with `--profile`, or an image with `--image`"
        ));
    }
    let mut images = Vec::new();
    for image in &wanted {
        let opened = open(image, &registries)?;
        // A profile may name an image in several packs.
        if !images.iter().any(|known: &NamedImage| known.name == opened.name) {
            images.push(opened);
        }
    }
    let creation = Creation {
        args,
        context,
        path: &path,
        keys: load_private_keys(&args.keys)?,
        options: copy_options(args),
    };
    let created = creation.run(images)?;
    Ok(match (created, inputs) {
        (ExitStatus::Done, Some(inputs)) => inputs.status(),
        (status, _) => status,
    })
}

fn copy_options(args: &BundleCreateArgs) -> CopyOptions {
    let mut options = CopyOptions::new(args.concurrency);
    options.platforms = args.platforms.as_slice().into();
    options.referrers = !args.no_referrers;
    options
}

/// One run of the command.
struct Creation<'a> {
    args: &'a BundleCreateArgs,
    context: &'a Context,
    /// The file, with links followed.
    path: &'a Utf8Path,
    keys: Vec<PrivateKey>,
    options: CopyOptions,
}

impl Creation<'_> {
    fn run(&self, images: Vec<NamedImage>) -> anyhow::Result<ExitStatus> {
        allocator::keep_freed();
        let runtime = runtime::current_thread()?;
        let count = images.len();
        let images = match self.args.narrow {
            Narrow::Keep => images,
            Narrow::Rewrite => {
                let narrowing = async { Ok(narrow_images(images, &self.options).await) };
                let narrowed = runtime.block_on(run_until_signalled(narrowing, &self.options.cancel))?;
                match narrowed {
                    Ok(images) => images,
                    Err(failed) => return Ok(self.report_failures(&failed, count)),
                }
            }
        };
        let images = images.as_slice();
        let listed: Vec<_> = images
            .iter()
            .map(|image| BundleImage {
                source: &*image.source,
                selector: &image.selector,
                name: &image.name,
            })
            .collect();
        let gathering = async { Ok(gather_images(&listed, &self.options).await) };
        let (gathering, results) = runtime.block_on(run_until_signalled(gathering, &self.options.cancel))?;
        if let Some(status) = self.report_failed_copies(images, &results) {
            return Ok(status);
        }
        self.require_signed(images, &results)?;
        let draft = self.draft(gathering.finish()?)?;
        let signatures = self.sign(draft.document_bytes())?;
        let sealed = draft.seal(signatures.as_deref().map(str::as_bytes));
        let plan = sealed.context("cannot compress the head of the bundle")?;
        let pieces = self.plan_pieces(&plan)?;
        if self.args.dry_run {
            return self.report_plan(&plan, pieces.len(), images);
        }
        let writer = BundleWriter::open(self.path, &pieces, plan)?;
        let progress = Progress::new(self.context.progress, &self.context.printer);
        let moving = async { Ok(write_images(&listed, &writer, &self.options, &*progress.sink).await) };
        let results = runtime.block_on(run_until_signalled(moving, &self.options.cancel))?;
        drop(progress);
        if let Some(status) = self.report_failed_copies(images, &results) {
            self.context.printer.note(format_args!(
                "run the same command again to go on: `{}.partial` has what arrived",
                self.path
            ));
            return Ok(status);
        }
        writer.finish()?;
        let first = pieces
            .first()
            .map_or(self.path.to_owned(), |piece| self.path.with_file_name(&piece.name));
        if self.args.detached {
            self.write_detached(&first)?;
        }
        self.print(show::describe(&*BundleFile::open(&first)?), images)?;
        Ok(ExitStatus::Done)
    }

    fn require_signed(&self, images: &[NamedImage], results: &[Result<CopyReport, CopyFailure>]) -> anyhow::Result<()> {
        let keys = BundleKeyArgs {
            public_keys: Vec::new(),
            image_keys: self.args.image_keys.clone(),
        };
        let gathered = images.iter().zip(results);
        let gathered = gathered.filter_map(|(image, result)| {
            let copied = &result.as_ref().ok()?.digest;
            // A new index has no signature: its image is judged by the old one.
            let (source, digest) = match &image.original {
                Some(original) => (&original.source, &original.digest),
                None => (&image.source, copied),
            };
            Some(SignedImage {
                name: image.name.to_string(),
                source: &**source,
                digest: digest.clone(),
            })
        });
        keys.require_signed(&gathered.collect::<Vec<_>>())
    }

    /// Prints the images whose copies failed. Returns the exit status, if there are any.
    fn report_failed_copies(
        &self,
        images: &[NamedImage],
        results: &[Result<CopyReport, CopyFailure>],
    ) -> Option<ExitStatus> {
        let failed = images.iter().zip(results);
        let failed = failed.filter_map(|(image, result)| {
            let failure = result.as_ref().err()?;
            Some(FailedCopy::new(&image.name, &failure.error))
        });
        let failed: Vec<_> = failed.collect();
        (!failed.is_empty()).then(|| self.report_failures(&failed, images.len()))
    }

    /// Prints the failures of some of all images, and returns the exit status.
    fn report_failures(&self, failed: &[FailedCopy], images: usize) -> ExitStatus {
        if self.options.cancel.is_cancelled() {
            return ExitStatus::Interrupted;
        }
        for group in group_by(failed, |copy| &copy.reason) {
            let names = name_images(group.iter().map(|copy| copy.name.as_str()));
            self.context
                .printer
                .problem(format_args!("failed: {names}: {}", group[0].reason));
        }
        self.context.printer.problem(format_args!(
            "{} of {} failed: no bundle was made",
            failed.len(),
            counted(images, "image")
        ));
        ExitStatus::AnswerIsNo
    }

    /// Prints a report, with the indexes that were made again, or with advice about those that stay as they are.
    fn print(&self, mut report: BundleReport, images: &[NamedImage]) -> anyhow::Result<()> {
        report.rewritten = images.iter().filter_map(NamedImage::rewritten).collect();
        print_report(&self.context.printer, self.args.output.output, &report, show::render)?;
        let in_part = report.images.iter().filter(|image| !image.left_out.is_empty());
        let in_part = in_part.count();
        if in_part > 0 {
            let why = match self.args.narrow {
                Narrow::Keep => "for these, make the bundle with `--narrow rewrite`",
                Narrow::Rewrite => "their names have the digest of the index, which therefore stays as it is",
            };
            self.context.printer.note(format_args!(
                "the index of {} names platforms that are not in the bundle: registries of distribution 2.x and K3s before \
                 1.31 refuse such an index; {why}",
                counted(in_part, "image")
            ));
        }
        Ok(())
    }

    fn draft(&self, content: BundleContent) -> anyhow::Result<BundleDraft> {
        let (at_site, base) = self.find_at_site(&content)?;
        let carried = self.args.carry.iter().map(|path| {
            let name = path.file_name().with_context(|| format!("`{path}` has no file name"))?;
            Ok(Carried {
                name: name.to_owned(),
                bytes: fs_err::read(path)?.into(),
            })
        });
        let options = BundleOptions {
            form: match self.args.plain {
                true => BundleForm::Plain,
                false => BundleForm::Frames,
            },
            series: self.args.series.clone(),
            sequence: self.args.sequence,
            base,
            carried: carried.collect::<anyhow::Result<Vec<_>>>()?,
            at_site,
        };
        Ok(BundleDraft::new(content, options))
    }

    /// Returns the large blobs that the site has, and the name of the source of this knowledge.
    fn find_at_site(&self, content: &BundleContent) -> anyhow::Result<(HashSet<Digest>, Option<String>)> {
        let large = content.large.keys();
        if let Some(path) = &self.args.base {
            let base = BundleFile::open(path)?;
            let document = base.document();
            let there: HashSet<&Digest> = document.blobs.iter().map(|blob| &blob.digest).collect();
            let needed: HashSet<&Digest> = document.needs.iter().map(|need| &need.digest).collect();
            let found = large.filter(|digest| there.contains(digest) || needed.contains(digest));
            return Ok((found.cloned().collect(), Some(base.id().to_string())));
        }
        if let Some(path) = &self.args.only_blobs {
            let text = crate::inputs::load_text(path)?;
            let listed: HashSet<&str> = text.text.lines().map(str::trim).collect();
            let found = large.filter(|digest| !listed.contains(digest.as_str()));
            return Ok((found.cloned().collect(), Some("a bundle to repair".to_owned())));
        }
        let inventories = self
            .args
            .sites
            .iter()
            .map(|path| load_inventory(path, &self.args.public_keys));
        let inventories = inventories.collect::<anyhow::Result<Vec<Inventory>>>()?;
        if inventories.is_empty() {
            return Ok((HashSet::new(), None));
        }
        let found = large.filter(|digest| inventories.iter().all(|inventory| inventory.has(digest)));
        let names: Vec<&str> = inventories.iter().map(|inventory| inventory.site.as_str()).collect();
        Ok((
            found.cloned().collect(),
            Some(format!("the inventory of {}", names.join(", "))),
        ))
    }

    fn sign(&self, document: &[u8]) -> anyhow::Result<Option<String>> {
        if self.keys.is_empty() {
            return Ok(None);
        }
        let signatures = self.keys.iter().map(|key| key.sign(document));
        let signatures = signatures.collect::<Result<Vec<_>, _>>()?;
        Ok(Some(render_signatures(&signatures)))
    }

    fn plan_pieces(&self, plan: &BundlePlan) -> anyhow::Result<Vec<PlannedPiece>> {
        let name = self.path.file_name().context("the bundle has no file name")?.to_owned();
        Ok(match self.args.split {
            Some(size) => plan_pieces(&name, plan.length(), size)?,
            None => vec![PlannedPiece {
                name,
                size: plan.length(),
            }],
        })
    }

    fn report_plan(&self, plan: &BundlePlan, pieces: usize, images: &[NamedImage]) -> anyhow::Result<ExitStatus> {
        let mut report = BundleReport::new(self.path.to_string(), plan.id(), plan.length(), pieces, plan.document());
        report.dry_run = true;
        report.signed_by = self.keys.iter().map(|key| key.public_key().id().to_string()).collect();
        report.room = Some(room::measure(directory_of(self.path), plan.length()));
        self.print(report, images)?;
        Ok(ExitStatus::Done)
    }

    fn write_detached(&self, file: &Utf8Path) -> anyhow::Result<()> {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.read_all(&mut fs_err::File::open(file)?, |_| ())?;
        let digest = digester.finish();
        let Some(key) = self.keys.first() else { return Ok(()) };
        let signature = sign_detached(key, &digest)?;
        let path = Utf8PathBuf::from(detached_name(file.as_str()));
        durable::replace_file(&path, &signature).with_context(|| format!("cannot write `{path}`"))
    }
}

fn load_inventory(path: &Utf8Path, public_keys: &[Utf8PathBuf]) -> anyhow::Result<Inventory> {
    let signed = SignedFile::load(path, public_keys)?;
    Inventory::parse(&signed.bytes).with_context(|| format!("cannot use `{path}`"))
}
