//! Work on a bundle that no other program can do: trust by the head, one image out of it, a copy that goes on.

use std::io::{Write as _, stderr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::{Bench, MEGABYTE, Place, bundled_name, forget, run};
use crate::content::hash_from_cache;
use crate::process::{median, run_timed, time};
use crate::report::Row;
use crate::workload::{Workload, profile};

const DEADLINE: Duration = Duration::from_secs(600);
/// Bytes that a copy may read again after an interruption.
const READ_AGAIN_MAX: f64 = 64.0 * 1024.0 * 1024.0;

/// A bundle of W1 on the disk.
struct Bundled {
    workload: Workload,
    place: Place,
    file: PathBuf,
}

fn mk_bundle(bench: &Bench<'_>) -> anyhow::Result<Bundled> {
    let workload = profile(bench.args.divisor);
    let [_, place] = bench.places()?;
    let file = place.directory.path().join("bundle.tar.zst");
    let source = bench.start_source(&workload)?;
    run(bench.make_bundle(&source.host(), &workload, &file, &[])?)?;
    Ok(Bundled { workload, place, file })
}

/// Bytes that a program read and wrote by system calls, in proc(5)'s `io`.
#[derive(Debug, Clone, Copy)]
struct Moved {
    read: f64,
    written: f64,
}

/// Waits for the end of a child and returns the bytes that it moved.
fn wait_and_count(child: &mut Child) -> anyhow::Result<Moved> {
    let pid = Pid::from_child(child);
    // The counters of a child are there until its parent takes its status.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).context("cannot wait for a program")?;
    let text = fs_err::read_to_string(format!("/proc/{}/io", child.id()))?;
    let status = child.wait()?;
    ensure!(status.success(), "a program ended with {status}");
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
        line.and_then(|value| value.parse::<f64>().ok())
            .with_context(|| format!("there is no `{key}` in a program's `io`"))
    };
    Ok(Moved {
        read: value("rchar")?,
        written: value("wchar")?,
    })
}

fn start(mut command: Command) -> anyhow::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("cannot start {command:?}"))
}

fn landfall(bench: &Bench<'_>, arguments: &[&str], file: &Path) -> Command {
    let mut command = Command::new(&bench.landfall);
    command.args(arguments).arg(file);
    command
}

/// Verifies all bytes from the page cache and from the disk, and then the head alone.
pub(super) fn measure_verify(bench: &Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let bundled = mk_bundle(bench)?;
    let size = fs_err::metadata(&bundled.file)?.len();
    let processors = std::thread::available_parallelism()?.get() as f64;
    let hash = time(|| hash_from_cache(size)).as_secs_f64() / processors;
    let mut rows = Vec::new();
    for cache in ["warm", "cold"] {
        let (mut walls, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..bench.args.rounds {
            let prepare = || if cache == "cold" { forget(&bundled.file) } else { Ok(()) };
            prepare()?;
            let mut read = Command::new("dd");
            read.arg(format!("if={}", bundled.file.display()))
                .args(["of=/dev/null", "bs=1M"]);
            let mut done = Ok(());
            reads.push(time(|| done = run(read)).as_secs_f64());
            done?;
            prepare()?;
            let usage = run_timed(&mut landfall(bench, &["bundle", "verify"], &bundled.file), DEADLINE)?;
            usage.outcome.map_err(anyhow::Error::msg)?;
            writeln!(stderr(), "verify, {cache} cache: {:.2} s", usage.wall.as_secs_f64())?;
            walls.push(usage.wall.as_secs_f64());
        }
        let bound = median(reads).max(hash);
        let case = format!("verify W1, {cache} cache");
        rows.push(Row::new(case, "wall, s", median(walls), bound * 1.2).with_bound(bound));
    }
    rows.push(measure_head(bench, &bundled)?);
    Ok(rows)
}

/// Decides about trust, with nothing of the file in the page cache.
fn measure_head(bench: &Bench<'_>, bundled: &Bundled) -> anyhow::Result<Row> {
    const LIMIT: f64 = 10.0;
    let mut times = Vec::new();
    for _ in 0..20 {
        forget(&bundled.file)?;
        let usage = run_timed(
            &mut landfall(bench, &["bundle", "verify", "--head"], &bundled.file),
            DEADLINE,
        )?;
        usage.outcome.map_err(anyhow::Error::msg)?;
        times.push(usage.wall.as_secs_f64() * 1e3);
    }
    Ok(Row::new(
        "trust by the head, cold cache",
        "wall, ms",
        median(times),
        LIMIT,
    ))
}

/// Copies one image out of the bundle.
pub(super) fn measure_first_image(bench: &Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let bundled = mk_bundle(bench)?;
    let destination = bench.start_landfall()?;
    let image = &bundled.workload.images[0];
    let own: u64 = image.blobs().map(|(_, size)| size).sum();
    let mut command = Command::new(&bench.landfall);
    command.arg("copy");
    command.arg(format!(
        "bundle:{}:{}",
        bundled.file.display(),
        bundled_name(&image.repository)
    ));
    command.arg(format!("{}/{}", destination.host(), image.name()));
    command.args(["--insecure", &destination.host(), "--progress", "none", "--state-dir"]);
    command.arg(bundled.place.directory.path().join("state"));
    let mut moved = None;
    let wall = time(|| moved = Some(start(command).and_then(|mut child| wait_and_count(&mut child))));
    let moved = moved.context("the copy did not run")??;
    let own = own as f64 / MEGABYTE;
    let case = "first image out of W1";
    Ok(vec![
        Row::new(case, "bytes read, MB", moved.read / MEGABYTE, own * 1.05 + 1.0).with_bound(own),
        Row::without_limit(case, "wall, s", wall.as_secs_f64()),
    ])
}

/// Kills a copy when more than half of it is written, and runs it again.
pub(super) fn measure_resumed_copy(bench: &Bench<'_>) -> anyhow::Result<Vec<Row>> {
    let bundled = mk_bundle(bench)?;
    let size = fs_err::metadata(&bundled.file)?.len();
    let to = bundled.place.directory.path().join("copy");
    fs_err::create_dir(&to)?;
    let mk_command = || {
        let mut command = landfall(bench, &["bundle", "copy", "--progress", "none"], &bundled.file);
        command.arg(&to);
        command
    };
    let mut child = start(mk_command())?;
    let written = |child: &Child| {
        let text = fs_err::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("wchar: "))
            .map(str::parse::<u64>);
        line.and_then(Result::ok).unwrap_or_default()
    };
    while written(&child) < size * 6 / 10 {
        ensure!(child.try_wait()?.is_none(), "the copy ended before it was killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill()?;
    let first = written(&child) as f64;
    child.wait()?;
    let moved = wait_and_count(&mut start(mk_command())?)?;
    let again = moved.written + first - size as f64;
    writeln!(
        stderr(),
        "copy: {:.0} MB before the kill, {:.0} MB written and {:.0} MB read after it",
        first / MEGABYTE,
        moved.written / MEGABYTE,
        moved.read / MEGABYTE
    )?;
    Ok(vec![Row::new(
        "copy of W1, killed at 60 %",
        "written again, MB",
        again.max(0.0) / MEGABYTE,
        READ_AGAIN_MAX * 1.07 / MEGABYTE,
    )])
}
