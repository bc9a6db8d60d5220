//! The files for kubelet and container runtime, which the agent writes below its root.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::os::unix::fs::PermissionsExt as _;

use common::{Differences, Site};
use landfall_agent::AgentOutcome;
use landfall_core::hostconf::containerd_config::ReadingState;
use landfall_core::hostconf::kubelet_plugin::LoginState;
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
async fn a_file_of_the_users_in_the_place_of_ours_stays_until_the_followed_hint_removes_it() {
    let site = Site::new();
    site.write_user_data(&with_pack_login(&site));
    let login = site.path(&format!("root/etc/kubernetes/registries/{}.json", site.upstream.host()));
    std::fs::create_dir_all(login.parent().unwrap()).unwrap();
    std::fs::write(&login, "{\"username\":\"mine\"}").unwrap();
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(std::fs::read_to_string(&login).unwrap(), "{\"username\":\"mine\"}");
    let told = || -> Vec<String> {
        let events = site.events().into_iter();
        let kept = events.filter(|event| event.reason == EventReason::HostFileKept);
        kept.map(|event| event.message).collect()
    };
    assert_eq!(
        told(),
        ["this file is not Landfall's and stays as it is; hint: remove it, and Landfall writes its own"]
    );
    std::fs::remove_file(&login).unwrap();
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert!(std::fs::read_to_string(&login).unwrap().contains("\"edge\""));
    assert_eq!(told().len(), 1, "nothing more is told");
}

/// Status and events of the last run: the state of the mirror files, and the reasons of the events about a reader.
fn readers(site: &Site, seen: &mut usize) -> Vec<EventReason> {
    let events = site.events();
    let new = events[*seen..].iter().map(|event| event.reason);
    let about_readers = [
        EventReason::MirrorFilesRead,
        EventReason::MirrorFilesNotRead,
        EventReason::KubeletLoginsReady,
        EventReason::KubeletLoginsMissing,
    ];
    let found = new.filter(|reason| about_readers.contains(reason)).collect();
    *seen = events.len();
    found
}

fn write(site: &Site, path: &str, text: &str) {
    let path = site.path(&format!("root{path}"));
    std::fs::create_dir_all(path.parent().expect("below the root")).expect("a directory of the host");
    std::fs::write(path, text).expect("a file of the host");
}

#[tokio::test]
async fn status_and_events_say_if_containerd_reads_the_mirror_files() {
    const MAIN: &str = "/etc/containerd/config.toml";
    const IMPORTS: &str = "imports = ['/etc/containerd/conf.d/*.toml']\n";
    let site = Site::new();
    let drop_in = site.path("root/etc/containerd/conf.d/50-landfall.toml");
    site.write_user_data(&Differences {
        more: vec!["  mirror: {files: [containerd]}".to_owned()],
        ..Differences::default()
    });
    let mut seen = 0;
    let mirrors = "[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']\nendpoint = ['https://old']\n";
    for (main, state, has_drop_in, event) in [
        (None, ReadingState::Unknown, false, EventReason::MirrorFilesNotRead),
        (
            Some(format!("version = 2\n{IMPORTS}")),
            ReadingState::NotRead,
            false,
            EventReason::MirrorFilesNotRead,
        ),
        (
            Some(format!("version = 3\n{IMPORTS}")),
            ReadingState::AfterRestart,
            true,
            EventReason::MirrorFilesRead,
        ),
        (
            Some(format!("version = 3\n{IMPORTS}")),
            ReadingState::Read,
            true,
            EventReason::MirrorFilesRead,
        ),
        (
            Some(format!("version = 3\n{IMPORTS}{mirrors}")),
            ReadingState::NotRead,
            false,
            EventReason::MirrorFilesNotRead,
        ),
    ] {
        if let Some(main) = &main {
            write(&site, MAIN, main);
        }
        assert_eq!(site.run().await, AgentOutcome::Running);
        let files = site.status().mirror_files.unwrap();
        assert_eq!(files.state, state, "{main:?}: {}", files.message);
        assert_eq!(drop_in.exists(), has_drop_in, "{main:?}");
        assert_eq!(readers(&site, &mut seen), [event], "{main:?}");
        let needs_lines = event == EventReason::MirrorFilesNotRead;
        assert_eq!(
            files.lines.iter().any(|lines| lines.contains("config_path")),
            needs_lines,
            "{main:?}: {:?}",
            files.lines
        );
    }
}

#[tokio::test]
async fn a_followed_hint_about_lines_for_containerd_ends_its_message() {
    const MAIN: &str = "/etc/containerd/config.toml";
    let site = Site::new();
    site.write_user_data(&Differences {
        more: vec!["  mirror: {files: [containerd]}".to_owned()],
        ..Differences::default()
    });
    // It imports no drop-ins.
    let main = "version = 2\n";
    write(&site, MAIN, main);
    let mut seen = 0;
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(readers(&site, &mut seen), [EventReason::MirrorFilesNotRead]);
    let events = site.events();
    let told = events
        .iter()
        .rfind(|event| event.reason == EventReason::MirrorFilesNotRead)
        .unwrap();
    let hint = "`landfall redirect render --for containerd` and `landfall status -o json` show the lines";
    assert!(told.message.ends_with(hint), "{}", told.message);
    let files = site.status().mirror_files.unwrap();
    let [lines] = &*files.lines else {
        panic!("one version is in question: {:?}", files.lines);
    };
    write(&site, MAIN, &format!("{main}{lines}"));
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(readers(&site, &mut seen), [EventReason::MirrorFilesRead]);
}

#[tokio::test]
async fn status_and_events_say_if_the_kubelet_gets_the_logins() {
    let site = Site::new();
    site.write_user_data(&with_pack_login(&site));
    let mut seen = 0;
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(site.status().kubelet_logins.unwrap().state, LoginState::Unknown);
    assert_eq!(readers(&site, &mut seen), [], "no kubelet runs yet");

    write(&site, "/proc/7/cmdline", "/usr/bin/kubelet\0--v=2\0");
    assert_eq!(site.run().await, AgentOutcome::Running);
    let logins = site.status().kubelet_logins.unwrap();
    assert_eq!(logins.state, LoginState::NotReady);
    assert!(
        logins.message.contains("--image-credential-provider-config"),
        "{}",
        logins.message
    );
    assert_eq!(readers(&site, &mut seen), [EventReason::KubeletLoginsMissing]);

    let flags = "/usr/bin/kubelet\0--image-credential-provider-config=/etc/kubernetes/landfall-credential-provider.yaml\0\
                 --image-credential-provider-bin-dir=/usr/libexec/landfall\0";
    write(&site, "/proc/7/cmdline", flags);
    write(&site, "/usr/libexec/landfall/landfall-credential-provider", "#!");
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(site.status().kubelet_logins.unwrap().state, LoginState::Ready);
    assert_eq!(readers(&site, &mut seen), [EventReason::KubeletLoginsReady]);

    site.write_user_data(&Differences::default());
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(site.status().kubelet_logins, None, "no registry needs a login");
}

#[tokio::test]
async fn a_kubelet_that_would_not_start_preloaded_images_is_told_of_until_a_followed_hint_mends_it() {
    let site = Site::new();
    let config = "/var/lib/kubelet/config.yaml";
    let policy = |policy: &str| format!("imagePullCredentialsVerificationPolicy: {policy}\n");
    write(
        &site,
        "/proc/7/cmdline",
        &format!("/usr/bin/kubelet\0--config={config}\0"),
    );
    write(&site, config, &policy("NeverVerifyPreloadedImages"));
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(site.status().kubelet_preloads, None);

    write(&site, config, &policy("AlwaysVerify"));
    assert_eq!(site.run().await, AgentOutcome::Running);
    let shown = site.status().kubelet_preloads.unwrap();
    assert_eq!(shown.refusal.file, config);
    let images = &shown.refusal.images;
    assert!(images.contains(&"registry.k8s.io/pause:3.9".to_owned()), "{images:?}");
    assert!(images.contains(&"example.io/calico:1".to_owned()), "{images:?}");
    assert!(
        !images.iter().any(|image| image.contains("nginx")),
        "pods pull it: {images:?}"
    );
    let events = site.events();
    let told = events
        .iter()
        .rfind(|event| event.reason == EventReason::KubeletRefusesPreloads);
    assert_eq!(told.unwrap().message, shown.message);
    let hint = "NeverVerifyPreloadedImages` there, or leave the field out, and restart the kubelet";
    assert!(shown.message.ends_with(hint), "{}", shown.message);

    for mended in [&*policy("NeverVerifyPreloadedImages"), "kind: KubeletConfiguration\n"] {
        write(&site, config, &policy("AlwaysVerify"));
        assert_eq!(site.run().await, AgentOutcome::Running);
        assert!(site.status().kubelet_preloads.is_some());
        write(&site, config, mended);
        assert_eq!(site.run().await, AgentOutcome::Running);
        assert_eq!(site.status().kubelet_preloads, None, "{mended}");
    }
}
