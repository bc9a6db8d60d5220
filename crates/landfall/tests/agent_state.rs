//! `landfall status` reads what an agent left in its state directory.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::os::unix::process::ExitStatusExt as _;

use common::Running;
use jiff::Timestamp;
use landfall_core::status::{AgentStatus, Phase};

#[test]
fn watched_status_is_a_line_for_each_change_until_a_signal_ends_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("a UTF-8 path");
    let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
    let file = directory.path().join("status.json");
    let mut write = |phase| {
        status.phase = phase;
        status.images.insert(format!("{phase}"), Default::default());
        std::fs::write(directory.path().join("new"), serde_json::to_vec(&status).unwrap()).expect("our own file");
        std::fs::rename(directory.path().join("new"), &file).expect("our own file");
    };
    write(Phase::Images);
    let mut watch = Running::start(&["status", "--watch", "--state-dir", path]);
    assert_eq!(watch.line(), "not running; images: 0 of 1 stored");
    write(Phase::Redirect);
    assert_eq!(watch.line(), "not running; images: 0 of 2 stored");
    let pid = rustix::process::Pid::from_child(&watch.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("the program runs");
    // A shell shows this as 130.
    assert_eq!(watch.child.wait().expect("the program ends").signal(), Some(2));
}
