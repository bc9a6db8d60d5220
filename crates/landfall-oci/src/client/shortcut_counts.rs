//! Counts of failed shortcuts that may pass: after some, the question is given up for a while.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::failure::Shortcut;
use landfall_core::sync::lock;
use tokio::time::Instant;

/// Questions whose failures are counted at once. Beyond it all counts begin anew.
const COUNTED_MAX: usize = 4096;

/// Time after the last failure in which a count is valid. A step has several questions and is repeated as a whole, so
/// that a question stays given up for that long.
const COUNT_VALID: Duration = Duration::from_secs(600);

/// Counted failures of questions that may be asked again, by shortcut and subject.
#[derive(Debug, Default)]
pub(super) struct ShortcutCounts {
    counts: Mutex<HashMap<(Shortcut, String), (u32, Instant)>>,
}

impl ShortcutCounts {
    pub(super) fn get(&self, key: &(Shortcut, String)) -> u32 {
        let counts = lock(&self.counts);
        let valid = counts.get(key).filter(|(_, last)| last.elapsed() < COUNT_VALID);
        valid.map_or(0, |(count, _)| *count)
    }

    pub(super) fn count(&self, key: (Shortcut, String), count: u32) {
        let mut counts = lock(&self.counts);
        if counts.len() >= COUNTED_MAX {
            counts.clear();
        }
        counts.insert(key, (count, Instant::now()));
    }

    pub(super) fn forget(&self, key: &(Shortcut, String)) {
        lock(&self.counts).remove(key);
    }
}
