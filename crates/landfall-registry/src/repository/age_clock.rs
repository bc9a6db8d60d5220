//! Clock for the ages of pushed blobs: the run time of the registry, in seconds, summed up over all its processes.
//!
//! The system's clock jumps on hosts without a battery, and a registry that was off for a week has kept no client
//! waiting for a week. This clock advances only while a process serves the registry. Its reading is kept in
//! `_clock.json` beside the repositories. A crash loses the seconds since the last save, which makes blobs younger.

use std::sync::Mutex;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::sync::lock;
use landfall_net::durable;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Run time of the registry without push activity in a repository, after which its blobs without a manifest are
/// deleted.
pub const GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Name of the file. No repository's name can begin with an underscore.
const FILE: &str = "_clock.json";
/// Longest step between two readings. A longer one is a jump of the system's monotonic clock, as after a restored
/// snapshot of a virtual machine.
const STEP_MAX: Duration = Duration::from_secs(60 * 60);
/// Time between two readings while the registry is served; well below [`STEP_MAX`].
pub(crate) const READ_EVERY: Duration = Duration::from_secs(10 * 60);

#[derive(Debug)]
pub(crate) struct AgeClock {
    /// `None` for a registry that is not written.
    path: Option<Utf8PathBuf>,
    state: Mutex<ClockState>,
}

#[derive(Debug)]
struct ClockState {
    run_time: Duration,
    read_at: Instant,
    saved: Duration,
    /// True if the file was missing or damaged. The stamps of the records then tell the least time that has passed.
    is_guess: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClockFile {
    run_seconds: u64,
}

impl AgeClock {
    /// Continues the clock of a registry, or starts a new one.
    pub(crate) fn open(directory: &Utf8Path) -> AgeClock {
        let path = directory.join(FILE);
        let kept = fs::read(&path)
            .ok()
            .and_then(|text| serde_json::from_slice::<ClockFile>(&text).ok());
        AgeClock::new(Some(path), kept)
    }

    /// Returns a clock that is not kept.
    pub(crate) fn unsaved() -> AgeClock {
        AgeClock::new(None, None)
    }

    fn new(path: Option<Utf8PathBuf>, kept: Option<ClockFile>) -> AgeClock {
        let run_time = Duration::from_secs(kept.as_ref().map_or(0, |kept| kept.run_seconds));
        AgeClock {
            path,
            state: Mutex::new(ClockState {
                run_time,
                read_at: Instant::now(),
                saved: run_time,
                is_guess: kept.is_none(),
            }),
        }
    }

    /// Returns the run time of the registry so far, in seconds.
    pub(crate) fn now(&self) -> u64 {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let step = now.saturating_duration_since(state.read_at).min(STEP_MAX);
        state.run_time = state.run_time.saturating_add(step);
        state.read_at = now;
        state.run_time.as_secs()
    }

    /// Returns true if the clock's file was missing and [`AgeClock::settle`] was not called yet.
    pub(crate) fn is_guess(&self) -> bool {
        lock(&self.state).is_guess
    }

    /// Settles a clock without a file: advances it to the latest stamp that an earlier process wrote.
    pub(crate) fn settle(&self, latest: u64) {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.is_guess) {
            state.run_time = state.run_time.max(Duration::from_secs(latest));
        }
    }

    /// Saves the reading, if it has changed and is no guess. A failure is logged: a clock that is behind collects less.
    pub(crate) fn save(&self) {
        let Some(path) = &self.path else { return };
        let run_seconds = self.now();
        let mut state = lock(&self.state);
        if state.is_guess || state.saved.as_secs() == run_seconds {
            return;
        }
        let text = serde_json::to_vec(&ClockFile { run_seconds }).expect("a number is JSON");
        match durable::replace_file(path, &text) {
            Ok(()) => state.saved = Duration::from_secs(run_seconds),
            Err(error) => tracing::warn!(%error, "the registry's clock is not saved; garbage may stay for longer"),
        }
    }
}

impl Drop for AgeClock {
    fn drop(&mut self) {
        self.save();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "test set-up")]

    use super::*;

    const HOUR: u64 = 60 * 60;

    #[tokio::test(start_paused = true)]
    async fn run_time_adds_up_over_restarts_and_a_jump_is_a_step() {
        let directory = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(directory.path()).unwrap();
        let clock = AgeClock::open(directory);
        clock.settle(0);
        tokio::time::advance(Duration::from_secs(600)).await;
        assert_eq!(clock.now(), 600);
        drop(clock);
        // The registry is off.
        tokio::time::advance(Duration::from_secs(240 * HOUR)).await;
        let clock = AgeClock::open(directory);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now(), 660);
        tokio::time::advance(Duration::from_secs(240 * HOUR)).await;
        assert_eq!(clock.now(), 660 + HOUR);
        drop(clock);
        std::fs::write(directory.join(FILE), "rotten").unwrap();
        let clock = AgeClock::open(directory);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now(), 60);
        clock.save();
        assert_eq!(
            std::fs::read(directory.join(FILE)).unwrap(),
            b"rotten",
            "a guess is not saved"
        );
        clock.settle(5000);
        clock.settle(9000);
        assert_eq!(clock.now(), 5000, "a settled clock takes no stamp");
        clock.save();
        assert_eq!(AgeClock::open(directory).now(), 5000);
    }
}
