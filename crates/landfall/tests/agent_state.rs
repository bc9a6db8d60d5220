//! `landfall status` and `landfall events` read what an agent left in its state directory.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use common::{Running, show};
use jiff::Timestamp;
use landfall_core::status::{AgentStatus, Event, EventKind, EventReason, Phase};

fn write_events(directory: &Path) {
    let events = [
        (EventKind::Normal, EventReason::AgentStarted, "agent", "state is here"),
        (
            EventKind::Normal,
            EventReason::ImageStored,
            "docker.io/library/nginx:1.27",
            "",
        ),
        (
            EventKind::Warning,
            EventReason::ImageFailed,
            "docker.io/library/redis:7",
            "not found",
        ),
        (EventKind::Warning, EventReason::PhaseFailed, "Images", "1 of 2 images"),
    ];
    let mut lines = String::new();
    for (number, (kind, reason, subject, message)) in (1..).zip(events) {
        let event = Event {
            sequence: number,
            time: Timestamp::new(
                1_769_846_400 + i64::try_from(number).expect("a small number") * 60,
                123_456_789,
            )
            .expect("a time of our era"),
            kind,
            reason,
            subject: subject.to_owned(),
            message: message.to_owned(),
        };
        writeln!(lines, "{}", serde_json::to_string(&event).expect("an event is JSON"))
            .expect("a string takes everything");
    }
    std::fs::write(directory.join("events.jsonl"), lines).expect("our own file");
}

#[test]
fn events_are_selected_by_number_time_kind_reason_and_subject() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    write_events(directory.path());
    let path = directory.path().to_str().expect("a UTF-8 path");
    let events = |options: &[&str]| show(&[&["events", "--state-dir", path], options].concat());
    insta::assert_snapshot!(events(&[]), @r"
    status 0
    --- stdout
    NUMBER  TIME                  KIND     REASON        SUBJECT                       MESSAGE
    1       2026-01-31T08:01:00Z  Normal   AgentStarted  agent                         state is here
    2       2026-01-31T08:02:00Z  Normal   ImageStored   docker.io/library/nginx:1.27
    3       2026-01-31T08:03:00Z  Warning  ImageFailed   docker.io/library/redis:7     not found
    4       2026-01-31T08:04:00Z  Warning  PhaseFailed   Images                        1 of 2 images
    ");
    for (options, expected) in [
        (&["--since", "2"][..], "34"),
        (&["--since", "2026-01-31T08:03:00Z"], "34"),
        (&["--since", "5m"], ""),
        (&["--kind", "warning"], "34"),
        (&["--kind", "Normal", "--tail", "1"], "2"),
        (&["--reason", "AgentStarted", "--reason", "PhaseFailed"], "14"),
        (&["--subject", "docker.io", "-n", "1"], "3"),
    ] {
        let shown = events(&[&["-o", "json"], options].concat());
        let json = shown.split_once("--- stdout\n").expect("data").1;
        let list: serde_json::Value = serde_json::from_str(json).expect("JSON");
        let events = list["events"].as_array().expect("events");
        let numbers: String = events.iter().map(|event| event["sequence"].to_string()).collect();
        assert_eq!(numbers, expected, "{options:?}");
    }
    insta::assert_snapshot!(events(&["-o", "json", "--tail", "1"]), @r#"
    status 0
    --- stdout
    {
      "apiVersion": "landfall.dev/v1alpha1",
      "kind": "EventList",
      "events": [
        {
          "sequence": 4,
          "time": "2026-01-31T08:04:00.123456789Z",
          "kind": "Warning",
          "reason": "PhaseFailed",
          "subject": "Images",
          "message": "1 of 2 images"
        }
      ]
    }
    "#);
    insta::assert_snapshot!(events(&["--since", "yesterday"]), @r"
    status 2
    --- stderr
    error: invalid value 'yesterday' for '--since <TIME|NUMBER>': give a duration (`5m`), a time (`2026-01-31T08:00:00Z`), or the number of an event

    For more information, try '--help'.
    ");
    assert!(events(&["--reason", "Nonsense"]).starts_with("status 2\n"));
}

#[test]
fn watched_status_is_a_line_for_each_change_until_a_signal_ends_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("a UTF-8 path");
    let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
    let file = directory.path().join("status.json");
    let mut write = |phase| {
        status.phase = phase;
        status.images.insert(format!("{phase}"), Default::default());
        std::fs::write(
            directory.path().join("new"),
            serde_json::to_vec(&status).expect("a status is JSON"),
        )
        .expect("our own file");
        std::fs::rename(directory.path().join("new"), &file).expect("our own file");
    };
    write(Phase::Images);
    let mut watch = Running::start(&["status", "--watch", "--state-dir", path]);
    assert_eq!(watch.line(), "not running; images: 0 of 1 stored");
    write(Phase::Redirect);
    assert_eq!(watch.line(), "not running; images: 0 of 2 stored");
    let pid = rustix::process::Pid::from_child(&watch.child);
    // A runner without a terminal may have its children ignore SIGINT.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the program runs");
    assert_eq!(watch.child.wait().expect("the program ends").signal(), Some(15));
}
