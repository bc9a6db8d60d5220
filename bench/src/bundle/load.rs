//! Files of images pushed into an empty registry, from the page cache and from the disk.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::build::{Records, row, tell};
use super::makers::{Maker, Task};
use super::{Bench, bundled_name, forget, run};
use crate::fill::check_copy;
use crate::process::run_timed;
use crate::report::Row;
use crate::workload::{Workload, profile};

const DEADLINE: Duration = Duration::from_secs(600);

pub(super) fn measure(bench: &Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let workload = profile(bench.args.divisor);
    let [_, place] = bench.places()?;
    let file = place.directory.path().canonicalize()?.join("bundle.tar.zst");
    let source = bench.start_source(&workload)?;
    let mut files: Vec<(Maker, PathBuf)> = Vec::new();
    for (&maker, program) in &bench.makers {
        let work = tempfile::tempdir_in(place.directory.path())?;
        let file = file.with_file_name(format!("{}.tar.zst", maker.name()));
        let task = Task {
            host: &source.host(),
            workload: &workload,
            file: &file,
            work: work.path(),
            is_synced: true,
        };
        if maker.push(program, &task).is_some() || maker == Maker::Landfall {
            run(match maker {
                Maker::Landfall => bench.make_bundle(&source.host(), &workload, &file, &[])?,
                _ => maker.make(program, &task),
            })?;
            files.push((maker, file));
        }
    }
    drop(source);
    let mut rows = Vec::new();
    for cache in ["warm", "cold"] {
        let mut records = Records::new();
        for _ in 0..bench.args.rounds {
            for (maker, file) in &files {
                let record = records.entry(*maker).or_default();
                load_once(bench, &workload, (*maker, file), cache, record)?;
            }
        }
        let case = format!("load W1, {cache} cache");
        let row = |metric, values, factor| row(bench, &case, metric, &records, values, factor);
        rows.extend([
            row("wall, s", |record| &record.wall, 1.5),
            row("CPU, s", |record| &record.cpu, 0.0),
            row("peak memory, MB", |record| &record.peak, 0.0).with_limit(40.0),
        ]);
    }
    Ok(rows)
}

fn load_once(
    bench: &Bench<'_>,
    workload: &Workload,
    (maker, file): (Maker, &Path),
    cache: &str,
    record: &mut super::build::Record,
) -> anyhow::Result<()> {
    let destination = bench.start_landfall()?;
    let work = tempfile::tempdir_in(file.parent().unwrap_or(Path::new(".")))?;
    let host = destination.host();
    let task = Task {
        host: &host,
        workload,
        file,
        work: work.path(),
        is_synced: false,
    };
    let command = match maker {
        Maker::Landfall => Some(copy_from_bundle(bench, &task)?),
        _ => maker.push(&bench.makers[&maker], &task),
    };
    let Some(mut command) = command else { return Ok(()) };
    for file in maker.files(&task) {
        if cache == "cold" {
            forget(&file)?;
        }
    }
    let mut usage = run_timed(&mut command, DEADLINE)?;
    usage.outcome = check_copy(usage.outcome, &host, workload);
    record.add(&usage);
    tell(&format!("load, {cache}"), maker, &usage)
}

/// Returns the command that copies all images of a bundle to a registry.
fn copy_from_bundle(bench: &Bench<'_>, task: &Task<'_>) -> anyhow::Result<Command> {
    let list = task.work.join("images.txt");
    let lines = task.workload.images.iter().map(|image| {
        let (from, to) = (bundled_name(&image.repository), image.name());
        format!("bundle:{}:{from} {}/{to}\n", task.file.display(), task.host)
    });
    fs_err::write(&list, lines.collect::<String>())?;
    let mut command = Command::new(&bench.landfall);
    command
        .args(["copy", "--insecure", task.host, "--progress", "none", "--from-file"])
        .arg(list);
    command.arg("--state-dir").arg(task.work.join("state"));
    Ok(command)
}
