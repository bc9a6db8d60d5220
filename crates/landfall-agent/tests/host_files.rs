//! The files for kubelet and container runtime, which the agent writes below its root.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Differences, Site};
use landfall_agent::AgentOutcome;
use landfall_core::status::EventReason;

/// Returns an external registry with a login.
fn with_pack_login(site: &Site) -> Differences {
    Differences {
        credentials: vec![
            "username: edge".to_owned(),
            "password: s".to_owned(),
            "insecure: true".to_owned(),
        ],
        domain: Some(site.upstream.host().to_string()),
        ..Differences::default()
    }
}

#[tokio::test]
async fn login_files_follow_the_configuration_webhook_or_not() {
    let site = Site::new();
    let login = site.path(&format!("root/etc/kubernetes/registries/{}.json", site.upstream.host()));
    let users = site.path("root/etc/kubernetes/registries/mine.example.com.json");
    for webhook_off in [false, true] {
        let mut differences = with_pack_login(&site);
        differences.webhook_off = webhook_off;
        site.write_user_data(&differences);
        assert_eq!(site.run().await, AgentOutcome::Running);
        let mode = std::fs::metadata(&login).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o600, "only root reads a login");
        assert!(
            site.path("root/etc/kubernetes/landfall-credential-provider.yaml")
                .exists()
        );
        std::fs::write(&users, "{}").unwrap();
    }
    site.write_user_data(&Differences::default());
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert!(!login.exists(), "the login is no longer configured");
    assert!(users.exists(), "the user's file stays");
}

#[tokio::test]
async fn a_file_of_the_users_in_the_place_of_ours_stays_and_is_told() {
    let site = Site::new();
    site.write_user_data(&with_pack_login(&site));
    let login = site.path(&format!("root/etc/kubernetes/registries/{}.json", site.upstream.host()));
    std::fs::create_dir_all(login.parent().unwrap()).unwrap();
    std::fs::write(&login, "{\"username\":\"mine\"}").unwrap();
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(std::fs::read_to_string(&login).unwrap(), "{\"username\":\"mine\"}");
    let told = site
        .events()
        .into_iter()
        .filter(|event| event.reason == EventReason::HostFileKept)
        .count();
    assert_eq!(told, 1);
}
