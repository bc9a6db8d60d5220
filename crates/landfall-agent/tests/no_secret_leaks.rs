//! The agent writes and answers no secret: the test plants a canary password and searches everything.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use common::{CANARY, Differences, Site};
use landfall_agent::AgentOutcome;
use landfall_testkit::fake_registry::Access;

/// Finds the files below a directory that contain the canary, with their modes.
fn find_canary(directory: &Path, found: &mut Vec<(String, u32)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            find_canary(&entry.path(), found);
        } else if metadata.is_file()
            // A socket has no content.
            && std::fs::read(entry.path())
                .unwrap()
                .windows(CANARY.len())
                .any(|bytes| bytes == CANARY.as_bytes())
        {
            found.push((
                entry.file_name().into_string().unwrap(),
                metadata.permissions().mode() & 0o777,
            ));
        }
    }
}

fn canary_in(site: &Site) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    find_canary(site.state_dir().as_std_path(), &mut found);
    found
}

fn credentials(user: &str) -> Differences {
    let lines = [
        format!("username: {user}"),
        format!("password: \"{CANARY}\""),
        "insecure: true".to_owned(),
    ];
    let more = vec![format!("    username: local\n    password: \"{CANARY}\"")];
    Differences {
        credentials: lines.to_vec(),
        more,
        ..Differences::default()
    }
}

#[tokio::test]
async fn passwords_are_kept_only_where_they_have_to_be() {
    let access = Access::Basic {
        username: "edge".to_owned(),
        password: CANARY.to_owned(),
    };
    let site = Site::with_access(access, None);
    site.write_user_data(&credentials("edge"));
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(canary_in(&site), [("last-good.json".to_owned(), 0o600)]);
}

#[tokio::test]
async fn refused_password_is_in_no_message() {
    let access = Access::Basic {
        username: "edge".to_owned(),
        password: "another".to_owned(),
    };
    let site = Site::with_access(access, None);
    site.write_user_data(&credentials("edge"));
    let (_, message) = site.failure().await;
    assert!(!message.contains(CANARY), "{message}");
    assert_eq!(canary_in(&site), [("last-good.json".to_owned(), 0o600)]);
}
