//! Programs as their user meets them: wall time and memory.

use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use wait4::Wait4 as _;

use crate::report::Row;

const RUNS: usize = 20;

/// How long something takes.
#[expect(clippy::disallowed_types, reason = "a benchmark measures real time")]
pub(crate) fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let start = std::time::Instant::now();
    let result = run();
    let elapsed = start.elapsed();
    drop(result);
    elapsed
}

/// What a program took, its children included.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// From start to end.
    pub(crate) wall: Duration,
    /// Time of all processors, the kernel's on the program's behalf included.
    pub(crate) cpu: Duration,
    /// The most memory that one process held, in bytes. A child's begins with what this program holds at its start.
    pub(crate) peak_bytes: u64,
    /// Whether it succeeded; else its status and the last line it said.
    pub(crate) outcome: Result<(), String>,
}

/// Runs a program to its end, or ends it at the deadline.
///
/// # Errors
/// When it cannot be started or waited for.
#[expect(clippy::disallowed_types, reason = "a benchmark measures real time")]
pub(crate) fn run_timed(command: &mut Command, deadline: Duration) -> anyhow::Result<Usage> {
    const POLL: Duration = Duration::from_millis(1);
    let mut said = tempfile::tempfile().context("cannot make a file for what it says")?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone()?);
    let start = std::time::Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut late = false;
    let ended = loop {
        if let Some(ended) = child.try_wait4()? {
            break ended;
        }
        if start.elapsed() > deadline && !late {
            late = true;
            child.kill()?;
        }
        std::thread::sleep(POLL);
    };
    let wall = start.elapsed();
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    let last_line = text.trim().lines().last().unwrap_or_default();
    let outcome = match (late, ended.status.success()) {
        (true, _) => Err(format!("ended after {deadline:?}")),
        (false, true) => Ok(()),
        (false, false) => Err(format!("{}: {last_line}", ended.status)),
    };
    Ok(Usage {
        wall,
        cpu: ended.rusage.utime + ended.rusage.stime,
        peak_bytes: ended.rusage.maxrss,
        outcome,
    })
}

/// The value in the middle; 0 of nothing.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// `landfall --help`, from start to end.
pub(crate) fn measure_help(binary: &Path) -> anyhow::Result<Row> {
    let mut runs = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let mut command = Command::new(binary);
        command.arg("--help").stdout(Stdio::null());
        let mut status = None;
        let elapsed = time(|| status = Some(command.status()));
        let status = status
            .context("`--help` was not run")?
            .context("cannot run `landfall --help`")?;
        ensure!(status.success(), "`landfall --help` ended with {status}");
        runs.push(elapsed.as_secs_f64() * 1e3);
    }
    Ok(Row::new("landfall --help", "wall time, ms", median(runs), 10.0))
}

/// Starts a program, waits until it is ready, gives it time to settle, reads the memory it holds, ends it.
///
/// # Errors
/// When it ends by itself, is not ready before the deadline, or its memory cannot be read.
pub(crate) fn resident_bytes(
    command: &mut Command,
    is_ready: impl Fn() -> bool,
    deadline: Duration,
    settle: Duration,
) -> anyhow::Result<u64> {
    const POLL: Duration = Duration::from_millis(50);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut waited = Duration::ZERO;
    let ready = loop {
        if let Some(status) = child.try_wait()? {
            break Err(anyhow::anyhow!("it ended with {status} before it was ready"));
        }
        if is_ready() {
            break Ok(());
        }
        if waited >= deadline {
            break Err(anyhow::anyhow!("it was not ready within {deadline:?}"));
        }
        std::thread::sleep(POLL);
        waited += POLL;
    };
    let measured = ready.and_then(|()| {
        std::thread::sleep(settle);
        read_resident_bytes(child.id())
    });
    child.kill().context("cannot end it")?;
    child.wait().context("cannot wait for its end")?;
    measured
}

/// The memory that a process holds, in bytes.
///
/// # Errors
/// When there is no such process.
pub(crate) fn read_resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs_err::read_to_string(format!("/proc/{process}/status"))?;
    parse_memory(&status, "VmRSS").context("there is no `VmRSS` in its status")
}

/// `VmRSS:   1234 kB` of proc(5), in bytes.
pub(crate) fn parse_memory(status: &str, key: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_the_status_of_a_process() {
        assert_eq!(
            parse_memory("Name:\tx\nVmRSS:\t    1234 kB\n", "VmRSS"),
            Some(1234 * 1024)
        );
        assert_eq!(parse_memory("Name:\tx\n", "VmRSS"), None);
    }

    #[test]
    fn a_program_is_charged_for_what_its_children_do() {
        let mut busy = Command::new("sh");
        busy.args(["-c", "sh -c 'i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'; true"]);
        let usage = run_timed(&mut busy, Duration::from_secs(60)).unwrap();
        assert_eq!(usage.outcome, Ok(()));
        assert!(
            usage.cpu >= Duration::from_millis(10) && usage.wall > Duration::ZERO,
            "{usage:?}"
        );
        assert!(usage.peak_bytes > 100_000, "{usage:?}");
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo first >&2; echo last >&2; exit 3"]);
        let usage = run_timed(&mut failing, Duration::from_secs(60)).unwrap();
        assert_eq!(usage.outcome, Err("exit status: 3: last".to_owned()));
        let mut endless = Command::new("sleep");
        endless.arg("60");
        let usage = run_timed(&mut endless, Duration::from_millis(20)).unwrap();
        assert_eq!(usage.outcome, Err("ended after 20ms".to_owned()));
    }

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
    }
}
