//! Waiting on a condition. Deadlines are generous: they tell a hang from a slow machine and measure nothing.
#![expect(
    clippy::disallowed_types,
    reason = "these tests wait for other processes, whose clock cannot be paused"
)]

use std::thread;
use std::time::{Duration, Instant};

/// Time after which a condition counts as failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Time between two polls; short, since kills are aimed at an instant.
const INTERVAL: Duration = Duration::from_millis(2);

const CLUSTER_DEADLINE: Duration = Duration::from_secs(180);
const CLUSTER_INTERVAL: Duration = Duration::from_millis(50);

/// Polls until `look` returns a value.
///
/// # Panics
/// Panics after [`DEADLINE`], with `what` in the message.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    try_wait_for(look).unwrap_or_else(|| panic!("{what}: not within {DEADLINE:?}"))
}

/// Polls until `look` returns a value; returns `None` after [`DEADLINE`].
pub fn try_wait_for<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    ask(INTERVAL, DEADLINE, look)
}

/// Polls a cluster like [`try_wait_for`], with longer intervals and a longer deadline: constant polling slows a
/// cluster down, and elections and back-offs add up.
pub fn try_wait_for_cluster<T>(look: impl FnMut() -> Option<T>) -> Option<T> {
    ask(CLUSTER_INTERVAL, CLUSTER_DEADLINE, look)
}

fn ask<T>(interval: Duration, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let answer = look();
        if answer.is_some() || start.elapsed() > deadline {
            return answer;
        }
        thread::sleep(interval);
    }
}
