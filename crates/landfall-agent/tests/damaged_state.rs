//! State files that a power cut, a bad sector or a later version left: the agent starts, says what it set aside, and
//! reaches the planned state again.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use common::Site;
use landfall_agent::AgentOutcome;
use landfall_core::status::EventReason;

/// The damages of a file, with the text that takes its place; a directory if `None`.
fn damages(whole: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    vec![
        ("garbage", Some(b"\0\x01garbage\xff\n".to_vec())),
        ("empty", Some(Vec::new())),
        ("truncated", Some(whole[..whole.len() / 2].to_vec())),
        ("version 99", Some(b"{\"version\": 99}\n".to_vec())),
        ("directory", None),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_state_file_is_set_aside_and_the_agent_goes_on() {
    let files = [
        "ledger.json",
        "last-good.json",
        "events.jsonl",
        "events.lock",
        "status.json",
        "agent.lock",
        "managed-files.json",
        "store/index.json",
        "store/oci-layout",
        "webhook/ca.crt",
        "webhook/tls.key",
        "webhook/names",
    ];
    let site = Site::new();
    for file in files {
        assert_eq!(site.run().await, AgentOutcome::Running, "before {file}");
        let path = site.state_dir().join(file);
        let whole = std::fs::read(&path).unwrap_or_default();
        for (damage, content) in damages(&whole) {
            let case = format!("{file}: {damage}");
            // The numbers of a log that is lost begin again.
            let is_log = file == "events.jsonl";
            let last = site.events().last().map_or(0, |event| event.sequence);
            let before = if is_log { 0 } else { last };
            let _may_be_missing = std::fs::remove_file(&path);
            match content {
                Some(content) => std::fs::write(&path, content).unwrap(),
                None => std::fs::create_dir(&path).unwrap(),
            }
            assert_eq!(site.run().await, AgentOutcome::Running, "{case}");
            let told = site
                .events()
                .into_iter()
                .filter(|event| event.reason == EventReason::StateDamaged && event.sequence > before)
                .count();
            assert!(told <= 1 || is_log, "{case}: told {told} times");
            let is_parsed = !file.ends_with("lock") && !file.ends_with("names") && !file.ends_with("oci-layout");
            let must_tell = is_parsed && damage == "garbage" && !["status.json", "last-good.json"].contains(&file);
            if must_tell {
                assert_eq!(told, 1, "{case}");
                assert!(std::fs::symlink_metadata(format!("{path}.damaged")).is_ok(), "{case}");
            }
            assert!(
                site.status().primary.is_some() && site.status().webhook.is_some(),
                "{case}"
            );
        }
        if file == "ledger.json" {
            assert!(site.state_dir().join("ledger.json.newer").exists());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_last_good_configuration_does_not_hide_the_error_of_the_files() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    std::fs::write(site.state_dir().join("last-good.json"), "{").unwrap();
    std::fs::write(site.path("user-data.yaml"), "stylus: {}\n").unwrap();
    let (_, message) = site.failure().await;
    assert!(message.contains("user-data.yaml:1:1"), "{message}");
    assert!(site.state_dir().join("last-good.json.damaged").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn start_that_fails_is_shown_in_the_status() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    // The content store is in use by another process.
    let lock = std::fs::File::open(site.state_dir().join("store/lock")).unwrap();
    lock.lock().unwrap();
    let options = site.options().await;
    let end = landfall_agent::run_agent(
        options,
        std::sync::Arc::new(landfall_core::status::NoProgress),
        tokio_util::sync::CancellationToken::new(),
    );
    assert!(end.await.is_err());
    let status = site.status();
    let message = site.readable(&status.message.unwrap_or_default());
    assert!(
        message.starts_with("the agent cannot start: cannot use `DIR/state`: "),
        "{message}"
    );
    assert!(
        !status.running && status.images.len() == 3,
        "the images are where they were"
    );
}
