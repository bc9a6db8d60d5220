//! Bundles of a profile's images: built, loaded, trusted, verified and copied, beside the tools that people make such files
//! with today.

mod build;
mod load;
mod makers;
mod single;

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

use self::makers::{MAKERS, Maker};
use crate::fill::fill_registry;
use crate::registries::{RegistryKind, RunningRegistry};
use crate::report::Row;
use crate::tools::{Found, find_registry};
use crate::workload::{TAG, Workload};
use crate::{Cases, Subject};

/// Options of the bundle benchmark.
#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    chosen: Cases<Case>,
    /// Timed runs per program; the median counts
    #[arg(long, default_value_t = 3, value_name = "NUMBER")]
    rounds: usize,
    /// Divide the size of the profile's layers by this
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    divisor: u64,
    /// Directory on a disk for bundles
    #[arg(long, default_value = "target/bench", value_name = "DIRECTORY")]
    disk: PathBuf,
    /// Leave out the programs of others
    #[arg(long)]
    alone: bool,
}

/// One case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// A bundle of W1 is made, in memory and on the disk
    Build,
    /// It is pushed into an empty registry
    Load,
    /// A bundle with 6 of 40 images changed, for a site that has the older one
    Delta,
    /// Peak memory with 12,000 small blobs
    Small,
    /// All bytes are verified, and the head alone
    Verify,
    /// One image out of the bundle: bytes read
    First,
    /// A copy that was killed, and run again
    Resume,
}

const MEMORY: &str = "/dev/shm";
const MEGABYTE: f64 = 1e6;

/// Fixtures of all cases.
struct Bench<'a> {
    args: &'a BundleArgs,
    landfall: PathBuf,
    makers: BTreeMap<Maker, PathBuf>,
    absent: BTreeMap<Maker, String>,
}

/// A place for bundles.
#[derive(Debug)]
struct Place {
    name: &'static str,
    directory: tempfile::TempDir,
    /// True if files are synced: others do not do that by themselves.
    is_disk: bool,
}

pub(crate) fn measure(args: &BundleArgs) -> anyhow::Result<Vec<Row>> {
    let landfall = args.subject.landfall()?;
    ensure!(landfall.is_file(), "`{}` is not built", landfall.display());
    fs_err::create_dir_all(&args.disk)?;
    let mut bench = Bench {
        args,
        landfall,
        makers: BTreeMap::new(),
        absent: BTreeMap::new(),
    };
    for maker in MAKERS {
        if args.alone && maker != Maker::Landfall {
            continue;
        }
        match maker.find(&bench.landfall) {
            Ok(program) => drop(bench.makers.insert(maker, program)),
            Err(why) => drop(bench.absent.insert(maker, why)),
        }
    }
    let has = |case| args.chosen.has(&case);
    let mut rows = Vec::new();
    if has(Case::Build) {
        rows.extend(build::measure(&bench)?);
    }
    if has(Case::Load) {
        rows.extend(load::measure(&bench)?);
    }
    if has(Case::Delta) {
        rows.extend(build::measure_delta(&bench)?);
    }
    if has(Case::Small) {
        rows.extend(build::measure_small_blobs(&bench)?);
    }
    if has(Case::Verify) {
        rows.extend(single::measure_verify(&bench)?);
    }
    if has(Case::First) {
        rows.extend(single::measure_first_image(&bench)?);
    }
    if has(Case::Resume) {
        rows.extend(single::measure_resumed_copy(&bench)?);
    }
    Ok(rows)
}

impl Bench<'_> {
    /// Starts a registry with a workload. Distribution 3 is the source if it can be built.
    fn start_source(&self, workload: &Workload) -> anyhow::Result<RunningRegistry> {
        let found: Found = find_registry(RegistryKind::Registry3, &self.landfall);
        let source = match found {
            Ok(program) => RunningRegistry::start(RegistryKind::Registry3, &program)?,
            Err(_) => self.start_landfall()?,
        };
        fill_registry(&source.host(), workload)?;
        let (unique, _) = workload.bytes();
        writeln!(
            stderr(),
            "source: {} images, {:.2} GB",
            workload.images.len(),
            unique as f64 / 1e9
        )?;
        Ok(source)
    }

    fn start_landfall(&self) -> anyhow::Result<RunningRegistry> {
        RunningRegistry::start(RegistryKind::Landfall, &self.landfall)
    }

    fn places(&self) -> anyhow::Result<[Place; 2]> {
        let place = |name, path: &Path, is_disk| {
            let directory = tempfile::Builder::new().prefix("landfall-bench-").tempdir_in(path);
            directory.map(|directory| Place {
                name,
                directory,
                is_disk,
            })
        };
        Ok([
            place("memory", Path::new(MEMORY), false).context("cannot make a directory in memory")?,
            place("disk, synced", &self.args.disk, true).context("cannot make a directory on the disk")?,
        ])
    }

    /// Makes a bundle of a workload.
    fn make_bundle(&self, host: &str, workload: &Workload, file: &Path, further: &[&str]) -> anyhow::Result<Command> {
        let list = file.with_extension("list");
        let lines = workload.images.iter().map(|image| {
            let name = image.name();
            format!("{host}/{name} {}\n", bundled_name(&image.repository))
        });
        fs_err::write(&list, lines.collect::<String>())?;
        let mut command = Command::new(&self.landfall);
        command
            .args(["bundle", "create"])
            .arg(file)
            .arg("--from-file")
            .arg(list);
        command.args(["--insecure", host, "--progress", "none"]).args(further);
        Ok(command)
    }
}

/// Returns the name of an image in a bundle.
fn bundled_name(repository: &str) -> String {
    format!("registry.example.com/{repository}:{TAG}")
}

/// Runs a command that has to succeed.
fn run(mut command: Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        text.trim()
    );
    Ok(())
}

/// Removes a file from the page cache, if it is on a disk.
fn forget(file: &Path) -> anyhow::Result<()> {
    let mut sync = Command::new("sync");
    sync.arg(file);
    run(sync)?;
    let file = fs_err::File::open(file)?;
    rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::DontNeed).context("cannot empty the page cache")
}
