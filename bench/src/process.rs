//! Wall time, CPU time and memory of programs.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use wait4::Wait4 as _;

use crate::report::Row;

const RUNS: usize = 20;

/// Returns a command that runs `landfall` as the units of packaging/ run it, with the same setting of the allocator.
pub(crate) fn service(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    command
}

/// Measures the wall time of a function.
#[expect(clippy::disallowed_types, reason = "a benchmark measures real time")]
pub(crate) fn time<T>(run: impl FnOnce() -> T) -> Duration {
    let start = std::time::Instant::now();
    let result = run();
    let elapsed = start.elapsed();
    drop(result);
    elapsed
}

/// Resources of a program and its children.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// Wall time from start to end.
    pub(crate) wall: Duration,
    /// CPU time of all processors, including the kernel's on behalf of the program.
    pub(crate) cpu: Duration,
    /// Highest memory of one process in bytes, polled every few milliseconds: the peak of `wait4` begins with
    /// the memory of this program at the child's start.
    pub(crate) peak_bytes: u64,
    /// `Ok` if the program succeeded, else its status and the last line of its output.
    pub(crate) outcome: Result<(), String>,
}

/// Runs a program to its end, or kills it and its children at the deadline.
///
/// # Errors
/// Returns an error if it cannot be started or waited for.
#[expect(clippy::disallowed_types, reason = "a benchmark measures real time")]
pub(crate) fn run_timed(command: &mut Command, deadline: Duration) -> anyhow::Result<Usage> {
    const POLL: Duration = Duration::from_millis(1);
    const POLLS_A_LOOK: u32 = 5;
    let mut said = tempfile::tempfile().context("cannot make a file for what it says")?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone()?)
        .process_group(0);
    let start = std::time::Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let mut late = false;
    let mut peak_bytes = 0;
    let mut polls = 0_u32;
    let ended = loop {
        if polls.is_multiple_of(POLLS_A_LOOK) {
            peak_bytes = highest_bytes(child.id()).max(peak_bytes);
        }
        polls += 1;
        if let Some(ended) = child.try_wait4()? {
            break ended;
        }
        if start.elapsed() > deadline && !late {
            late = true;
            kill_group(&child)?;
        }
        std::thread::sleep(POLL);
    };
    let wall = start.elapsed();
    let mut text = String::new();
    said.rewind()?;
    said.read_to_string(&mut text)?;
    let last_line = text.trim().lines().last().unwrap_or_default();
    let outcome = match (late, ended.status.success()) {
        (true, _) => Err(format!("hangs: it had not ended after {deadline:?}")),
        (false, true) => Ok(()),
        (false, false) => Err(format!("fails with {}: {last_line}", ended.status)),
    };
    Ok(Usage {
        wall,
        cpu: ended.rusage.utime + ended.rusage.stime,
        peak_bytes,
        outcome,
    })
}

/// Returns the highest memory that a process or one of its present children has held so far, in bytes; 0 if it
/// has ended.
fn highest_bytes(process: u32) -> u64 {
    let highest = |process: &str| {
        let status = fs_err::read_to_string(format!("/proc/{process}/status")).ok()?;
        parse_memory(&status, "VmHWM")
    };
    let children = fs_err::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    let own = process.to_string();
    let all = children.split_whitespace().chain([own.as_str()]);
    all.filter_map(highest).max().unwrap_or_default()
}

/// Kills a child and its process group: a shell that runs a program for each image would leave the program
/// behind.
///
/// # Errors
/// Returns an error if there is no such group.
pub(crate) fn kill_group(leader: &Child) -> anyhow::Result<()> {
    kill_process_group(Pid::from_child(leader), Signal::KILL).context("cannot end a program")
}

/// Returns the middle value; 0 if there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Measures `landfall --help` from start to end.
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

/// Starts a program, waits until it is ready and settled, reads its resident memory, and ends it.
///
/// # Errors
/// Returns an error if it ends by itself, is not ready before the deadline, or its memory cannot be read.
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

/// Returns the resident memory of a process in bytes.
///
/// # Errors
/// Returns an error if there is no such process.
pub(crate) fn read_resident_bytes(process: u32) -> anyhow::Result<u64> {
    let status = fs_err::read_to_string(format!("/proc/{process}/status"))?;
    parse_memory(&status, "VmRSS").context("there is no `VmRSS` in its status")
}

/// Returns the CPU time of a process in seconds; `thread-self` is the calling thread.
///
/// # Errors
/// Returns an error if there is no such process.
pub(crate) fn read_cpu_seconds(process: &str) -> anyhow::Result<f64> {
    let stat = fs_err::read_to_string(format!("/proc/{process}/stat"))?;
    let ticks = parse_cpu_ticks(&stat).context("cannot read a program's CPU time")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Parses user and kernel time of proc(5)'s `stat`. The process name, the second field, may contain anything.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    const USER: usize = 11;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut times = rest.split_whitespace().skip(USER);
    let mut next = || times.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// Parses a line like `VmRSS:   1234 kB` of proc(5), in bytes.
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
    fn processor_time_is_that_of_program_and_kernel() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 100 1000 10";
        assert_eq!(parse_cpu_ticks(stat), Some(12));
        assert_eq!(parse_cpu_ticks("42 (x) S 1"), None);
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
    fn a_programs_memory_is_its_own_and_its_childrens_whatever_this_one_holds() {
        let held = vec![1_u8; 64_000_000];
        let peak = |script: &str| {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]);
            run_timed(&mut shell, Duration::from_secs(60)).unwrap().peak_bytes
        };
        let small = peak("sleep 0.1; true");
        // `tail` keeps everything that it may have to print, and the pipe stays open for a while.
        let large = peak("(head -c 20000000 /dev/zero; sleep 0.3) | tail -c 20000000 >/dev/null; true");
        assert!(small < 20_000_000 && large > 20_000_000, "{small} {large}");
        drop(held);
    }

    #[test]
    fn a_failure_says_what_the_program_said() {
        let mut failing = Command::new("sh");
        failing.args(["-c", "echo first >&2; echo last >&2; exit 3"]);
        let usage = run_timed(&mut failing, Duration::from_secs(60)).unwrap();
        assert_eq!(usage.outcome, Err("fails with exit status: 3: last".to_owned()));
        let mut endless = Command::new("sleep");
        endless.arg("60");
        let usage = run_timed(&mut endless, Duration::from_millis(20)).unwrap();
        assert_eq!(usage.outcome, Err("hangs: it had not ended after 20ms".to_owned()));
    }

    #[test]
    fn what_a_shell_runs_ends_with_it() {
        let here = tempfile::tempdir().unwrap();
        let path = here.path().join("lock");
        // The shell and its child hold the lock as long as they have the file open.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec 9>\"$0\"; flock 9; sleep 60; true"]).arg(&path);
        let usage = run_timed(&mut shell, Duration::from_millis(500)).unwrap();
        assert!(usage.outcome.is_err());
        let lock = fs_err::File::open(&path).unwrap();
        let is_free = || rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok();
        assert!((0..2000).any(|_| is_free() || {
            std::thread::sleep(Duration::from_millis(5));
            false
        }));
    }

    #[test]
    fn the_median_is_the_value_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
    }
}
