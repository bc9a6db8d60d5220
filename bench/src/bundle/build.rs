//! Bundles made from a registry: time, memory, and the highest use of the disk.

use std::collections::BTreeMap;
use std::io::{Write as _, stderr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::makers::{Maker, Task};
use super::{Bench, MEGABYTE, Place, run};
use crate::content::hash_from_cache;
use crate::process::{Usage, median, run_timed, time};
use crate::report::Row;
use crate::workload::{Workload, many_small, profile, updated_profile};

const DEADLINE: Duration = Duration::from_secs(600);
/// Time between two looks at the disk.
const LOOK: Duration = Duration::from_millis(20);
/// Largest part of the content that a bundle, and the disk while it is made, may have.
const SIZE_FACTOR: f64 = 1.01;
/// Upper limit of Landfall's peak memory, in MB.
const PEAK_MAX: f64 = 40.0;

/// Measurements of one program.
#[derive(Debug, Default)]
pub(super) struct Record {
    pub(super) wall: Vec<f64>,
    pub(super) cpu: Vec<f64>,
    pub(super) peak: Vec<f64>,
    pub(super) disk: Vec<f64>,
    pub(super) size: Vec<f64>,
    pub(super) failure: Option<String>,
}

impl Record {
    pub(super) fn add(&mut self, usage: &Usage) {
        if let Err(why) = &usage.outcome {
            self.failure = Some(why.clone());
            return;
        }
        self.wall.push(usage.wall.as_secs_f64());
        self.cpu.push(usage.cpu.as_secs_f64());
        self.peak.push(usage.peak_bytes as f64 / MEGABYTE);
    }
}

pub(super) type Records = BTreeMap<Maker, Record>;

/// Returns a row of the medians.
pub(super) fn row(
    bench: &Bench<'_>,
    case: &str,
    metric: &'static str,
    records: &Records,
    values: fn(&Record) -> &Vec<f64>,
    factor: f64,
) -> Row {
    let value = |maker: &Maker| {
        let record = records.get(maker).filter(|record| record.failure.is_none())?;
        Some(median(values(record).clone())).filter(|_| !values(record).is_empty())
    };
    let others = records.keys().filter(|maker| **maker != Maker::Landfall);
    let peers = others.map(|maker| (maker.name().to_owned(), value(maker))).collect();
    let mut row = Row::against_peers(case, metric, value(&Maker::Landfall), peers, factor);
    for (maker, record) in records {
        if let Some(why) = &record.failure {
            row = row.remark(maker.name(), why);
        }
    }
    for (maker, why) in &bench.absent {
        row = row.remark(maker.name(), &format!("absent: {why}"));
    }
    row
}

/// Makes bundles of W1.
pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let workload = profile(bench.args.divisor);
    let source = bench.start_source(&workload)?;
    let content = workload.bytes().0 as f64 / MEGABYTE;
    let mut rows = Vec::new();
    for place in bench.places()? {
        let bound = bound(&place, workload.bytes().0)?;
        let mut records = Records::new();
        for _ in 0..bench.args.rounds {
            for (&maker, program) in &bench.makers {
                let record = records.entry(maker).or_default();
                build_once(bench, &place, &source.host(), &workload, (maker, program), record)?;
            }
        }
        let case = format!("build W1, {}", place.name);
        let row = |metric, values, factor| row(bench, &case, metric, &records, values, factor);
        rows.extend([
            row("wall, s", |record| &record.wall, 1.5).with_bound(bound),
            row("CPU, s", |record| &record.cpu, 0.0),
            row("peak memory, MB", |record| &record.peak, 0.0).with_limit(PEAK_MAX),
            row("peak disk, MB", |record| &record.disk, 0.0).with_limit(content * SIZE_FACTOR),
            row("file, MB", |record| &record.size, 0.0).with_limit(content * SIZE_FACTOR),
        ]);
    }
    Ok(rows)
}

/// Returns the lower bound of making a file of this size, in seconds: writing it, or hashing it on all processors.
fn bound(place: &Place, size: u64) -> anyhow::Result<f64> {
    let file = place.directory.path().join("bound");
    let mut command = std::process::Command::new("dd");
    command.args(["if=/dev/zero", "bs=1M", "iflag=count_bytes"]);
    command
        .arg(format!("of={}", file.display()))
        .arg(format!("count={size}"));
    if place.is_disk {
        command.arg("conv=fsync");
    }
    let mut written = Ok(());
    let write = time(|| written = run(command));
    written?;
    fs_err::remove_file(file)?;
    let processors = std::thread::available_parallelism()?.get() as f64;
    let hash = time(|| hash_from_cache(size)).as_secs_f64() / processors;
    Ok(write.as_secs_f64().max(hash))
}

fn build_once(
    bench: &Bench<'_>,
    place: &Place,
    host: &str,
    workload: &Workload,
    (maker, program): (Maker, &Path),
    record: &mut Record,
) -> anyhow::Result<()> {
    let work = tempfile::tempdir_in(place.directory.path())?;
    let file = work.path().canonicalize()?.join("bundle.tar.zst");
    let task = Task {
        host,
        workload,
        file: &file,
        work: work.path(),
        is_synced: place.is_disk,
    };
    let mut command = match maker {
        Maker::Landfall => bench.make_bundle(host, workload, &file, &[])?,
        _ => maker.make(program, &task),
    };
    let (usage, disk) = watch_disk(work.path(), || run_timed(&mut command, DEADLINE));
    let usage = usage?;
    record.add(&usage);
    record.disk.push(disk as f64 / MEGABYTE);
    let sizes = maker
        .files(&task)
        .into_iter()
        .filter_map(|file| fs_err::metadata(file).ok());
    let size: u64 = sizes.map(|file| file.len()).sum();
    record.size.push(size as f64 / MEGABYTE);
    tell(&format!("build, {}", place.name), maker, &usage)
}

/// Prints the result of one run.
pub(super) fn tell(what: &str, maker: Maker, usage: &Usage) -> anyhow::Result<()> {
    let failure = usage.outcome.as_ref().err().map_or("", String::as_str);
    writeln!(
        stderr(),
        "{what:24} {:16} {:7.2} s  cpu {:6.2} s  peak {:6.1} MB  {failure}",
        maker.name(),
        usage.wall.as_secs_f64(),
        usage.cpu.as_secs_f64(),
        usage.peak_bytes as f64 / MEGABYTE
    )?;
    Ok(())
}

/// Runs a function and returns the highest number of bytes that the files of a directory took meanwhile.
fn watch_disk<T>(directory: &Path, run: impl FnOnce() -> T) -> (T, u64) {
    let (ended, highest) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                highest.fetch_max(bytes_below(directory), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        });
        let result = run();
        ended.store(true, Ordering::Relaxed);
        result
    });
    (result, highest.load(Ordering::Relaxed).max(bytes_below(directory)))
}

/// Returns the bytes on the disk of all files below a directory.
fn bytes_below(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs_err::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // It was removed meanwhile.
        Err(_) => 0,
    });
    sizes.sum()
}

/// Makes a bundle of W5 for a site that has W1.
pub(super) fn measure_delta(bench: &Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let (before, after) = (profile(1), updated_profile());
    let [place, _] = bench.places()?;
    let path = |name: &str| place.directory.path().join(name);
    let (old, new) = (path("old.tar.zst"), path("new.tar.zst"));
    let source = bench.start_source(&before)?;
    run(bench.make_bundle(&source.host(), &before, &old, &[])?)?;
    drop(source);
    let source = bench.start_source(&after)?;
    let base = old.display().to_string();
    let mut command = bench.make_bundle(&source.host(), &after, &new, &["--base", &base])?;
    let usage = run_timed(&mut command, DEADLINE)?;
    tell("delta", Maker::Landfall, &usage)?;
    let known: std::collections::HashSet<_> = before.images.iter().flat_map(crate::workload::Image::blobs).collect();
    let changed: std::collections::HashMap<_, _> = after
        .images
        .iter()
        .flat_map(crate::workload::Image::blobs)
        .filter(|blob| !known.contains(blob))
        .collect();
    let changed = changed.values().sum::<u64>() as f64 / MEGABYTE;
    let size = fs_err::metadata(&new)?.len() as f64 / MEGABYTE;
    Ok(vec![
        Row::new("delta W1 to W5", "file, MB", size, changed * SIZE_FACTOR).with_bound(changed),
        Row::without_limit("delta W1 to W5", "wall, s", usage.wall.as_secs_f64()),
    ])
}

/// Makes a bundle of many small blobs.
pub(super) fn measure_small_blobs(bench: &Bench<'_>) -> anyhow::Result<Vec<Row>> {
    const IMAGES: usize = 2000;
    let workload = many_small(IMAGES);
    let source = bench.start_source(&workload)?;
    let [place, _] = bench.places()?;
    let file = place.directory.path().join("small.tar.zst");
    let mut command = bench.make_bundle(&source.host(), &workload, &file, &[])?;
    let usage = run_timed(&mut command, DEADLINE)?;
    tell("12,000 blobs", Maker::Landfall, &usage)?;
    if let Err(why) = &usage.outcome {
        return Ok(vec![
            Row::against_peers("12,000 small blobs", "build, s", None, BTreeMap::new(), 0.0).remark("landfall", why),
        ]);
    }
    let mut verify = std::process::Command::new(&bench.landfall);
    verify.args(["bundle", "verify"]).arg(&file);
    let verified = run_timed(&mut verify, DEADLINE)?;
    tell("12,000 blobs, verify", Maker::Landfall, &verified)?;
    let case = "12,000 small blobs";
    Ok(vec![
        Row::without_limit(case, "build, s", usage.wall.as_secs_f64()),
        Row::new(case, "build, peak MB", usage.peak_bytes as f64 / MEGABYTE, PEAK_MAX),
        Row::without_limit(case, "verify, s", verified.wall.as_secs_f64()),
        Row::new(case, "verify, peak MB", verified.peak_bytes as f64 / MEGABYTE, PEAK_MAX),
    ])
}
