//! A running agent: its files change, it loses images, and it is asked to stop.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::agent::{Agent, wait_for, wait_for_running};
use common::{Differences, Site};
use landfall_agent::AgentOutcome;
use landfall_core::status::{AgentStatus, EventReason, Phase};
use landfall_net::tls::{Fingerprint, TlsPolicy, client_config, client_config_pinned};
use landfall_registry::admin_socket::{AdminCommand, run_admin_command};
use landfall_registry::directories::RegistryDirs;
use landfall_registry::inspect::RegistryInspector;
use landfall_testkit::image_builder::small_image;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

fn reasons(site: &Site, reason: EventReason) -> Vec<String> {
    let events = site.events();
    let told = events.iter().filter(|event| event.reason == reason);
    told.map(|event| site.readable(&event.message)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_profile_brings_the_new_image_and_invalid_one_changes_nothing() {
    let site = Site::new();
    site.upstream
        .add_image("docker.io/library/redis", "7", &small_image("redis"));
    let agent = Agent::start(&site).await;
    wait_for_running(&site).await;

    std::fs::write(site.path("profile.yaml"), "spec: [").unwrap();
    let status = wait_for(&site, "invalid", |status| status.configuration_error.is_some()).await;
    assert!(
        status.images.contains_key("docker.io/library/nginx:1.27"),
        "the last good one is active"
    );
    assert_eq!(reasons(&site, EventReason::ConfigurationInvalid).len(), 1);

    site.write_profile(&["nginx:1.27", "redis:7"]);
    wait_for(&site, "redis", |status| {
        status.phase == Phase::Running
            && status.configuration_error.is_none()
            && status
                .images
                .get("docker.io/library/redis:7")
                .is_some_and(|image| image.in_primary)
    })
    .await;
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_with_broken_files_goes_on_with_the_last_good_configuration() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    std::fs::write(site.path("user-data.yaml"), "stylus: {}\n").unwrap();
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert!(site.status().configuration_error.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_provider_image_asks_for_a_repave_and_changed_initramfs_stage_for_a_reboot() {
    let site = Site::new();
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(site.status().host, Default::default());
    let stage = |stage: &str| Differences {
        more: vec![format!(
            "stages:\n  {stage}:\n    - name: x\n      commands: [\"true\"]"
        )],
        ..Differences::default()
    };
    site.write_user_data(&stage("reconcile"));
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(
        site.status().host,
        Default::default(),
        "a reconcile stage asks for nothing"
    );

    site.write_user_data(&stage("initramfs"));
    site.upstream.add_image("example.io/os", "2", &common::os_image());
    let profile = std::fs::read_to_string(site.path("profile.yaml")).unwrap();
    std::fs::write(
        site.path("profile.yaml"),
        profile.replace("example.io/os:1", "example.io/os:2"),
    )
    .unwrap();
    assert_eq!(site.run().await, AgentOutcome::Running);
    assert_eq!(
        reasons(&site, EventReason::RepaveRequired),
        ["the provider image is now `example.io/os:2`, and this host came up with `example.io/os:1`"]
    );
    assert_eq!(reasons(&site, EventReason::RebootRequired).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_that_is_off_is_said_in_words_and_nothing_serves() {
    let site = Site::new();
    site.write_user_data(&Differences {
        webhook_off: true,
        ..Differences::default()
    });
    // Without redirection the profile itself has to name the upstream registry.
    let host = site.upstream.host();
    site.write_profile(&[&format!("{host}/docker.io/library/nginx:1.27")]);
    let profile = std::fs::read_to_string(site.path("profile.yaml")).unwrap();
    let profile = profile.replace(" example.io/", &format!(" {host}/example.io/"));
    std::fs::write(site.path("profile.yaml"), profile).unwrap();
    assert_eq!(site.run().await, AgentOutcome::Running);
    let status = site.status();
    assert_eq!(status.webhook, None);
    insta::assert_snapshot!(status.redirect, @"nothing is redirected, neither to an external registry nor to the primary one: `stylus.imageRedirectWebhook.enable` is false");
}

fn look_every_second(site: &Site) {
    let text = std::fs::read_to_string(site.path("user-data.yaml")).expect("a file of the site");
    let text = text.replace("reconcileInterval: 3600", "reconcileInterval: 1");
    std::fs::write(site.path("user-data.yaml"), text).expect("a file of the site");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blob_that_got_lost_is_fetched_again_while_the_agent_stays_ready() {
    let site = Site::new();
    look_every_second(&site);
    let agent = Agent::start(&site).await;
    wait_for_running(&site).await;
    let phases = reasons(&site, EventReason::PhaseStarted).len();

    let blob = small_image("calico").root.digest;
    let file = site.state_dir().join("store/blobs/sha256").join(blob.hex());
    std::fs::remove_file(&file).unwrap();
    wait_for(&site, "the blob", |status| {
        assert_eq!(status.phase, Phase::Running);
        file.exists()
    })
    .await;
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
    assert_eq!(reasons(&site, EventReason::PhaseStarted).len(), phases, "a quiet pass");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_that_is_deleted_in_the_embedded_registry_is_gone_at_once_and_pushed_again_soon() {
    let site = Site::new();
    let agent = Agent::start(&site).await;
    wait_for_running(&site).await;
    let name = "docker.io/library/nginx:1.27";
    assert!(site.status().images[name].in_primary);

    let directories = RegistryDirs::of_agent(&site.state_dir());
    let held = RegistryInspector::new(&directories.store, &directories.records).repositories();
    let repository = held.unwrap().remove(0).name;
    let remove = AdminCommand::Remove {
        repository,
        selector: None,
    };
    let removed = tokio::task::spawn_blocking(move || run_admin_command(&directories, &remove)).await;
    assert_eq!(removed.unwrap().unwrap().manifests, 1);
    // The next pass is an hour away.
    wait_for(&site, "the deletion", |status| !status.images[name].in_primary).await;
    assert!(site.status().images[name].stored);
    wait_for(&site, "the image again", |status| status.images[name].in_primary).await;
    assert_eq!(reasons(&site, EventReason::PrimaryLostImage).len(), 1);
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_that_is_asked_to_reload_reads_its_files_and_looks_at_everything_at_once() {
    let site = Site::new();
    site.upstream
        .add_image("docker.io/library/redis", "7", &small_image("redis"));
    let mut options = site.options().await;
    // Nothing else tells it that a file changed.
    options.timing.file_poll = Duration::from_secs(3600);
    let reload = options.reload.clone();
    let agent = Agent::start_with(options);
    wait_for_running(&site).await;

    let blob = site
        .state_dir()
        .join("store/blobs/sha256")
        .join(small_image("calico").root.digest.hex());
    std::fs::remove_file(&blob).unwrap();
    reload.notify_one();
    wait_for(&site, "the blob", |_| blob.exists()).await;

    site.write_profile(&["nginx:1.27", "redis:7"]);
    reload.notify_one();
    wait_for(&site, "redis", |status| {
        let image = status.images.get("docker.io/library/redis:7");
        image.is_some_and(|image| image.in_primary)
    })
    .await;
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

// The test runs on one thread, so that its clock can be moved.
#[tokio::test]
async fn every_hour_what_no_image_needs_is_deleted() {
    let site = Site::new();
    look_every_second(&site);
    let agent = Agent::start(&site).await;
    wait_for_running(&site).await;
    let blobs = site.state_dir().join("store/blobs/sha256");
    let count = || std::fs::read_dir(&blobs).unwrap().count();
    let needed = count();
    let garbage = blobs.join("0".repeat(64));
    std::fs::write(&garbage, "garbage").unwrap();

    tokio::time::pause();
    // The hour moves by a tenth at most.
    tokio::time::advance(Duration::from_secs(3600 + 360 + 1)).await;
    tokio::time::resume();
    wait_for(&site, "the collection", |_| !garbage.exists()).await;
    assert_eq!(count(), needed, "what images need stays");
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listener_moves_from_loopback_to_every_address_on_the_same_port() {
    let site = Site::new();
    let options = site.options().await;
    let port_of = |listener: &Option<tokio::net::TcpListener>| listener.as_ref().unwrap().local_addr().unwrap().port();
    let (status_port, webhook_port) = (port_of(&options.listeners.status), port_of(&options.listeners.webhook));
    let agent = Agent::start_with(options);
    wait_for_running(&site).await;

    let mut text = std::fs::read_to_string(site.path("user-data.yaml")).unwrap();
    text = text.replace(
        "stylus:\n",
        &format!("stylus:\n  imageRedirectWebhook:\n    port: {webhook_port}\n"),
    );
    text.push_str(&format!(
        "  listen: \"0.0.0.0:{status_port}\"\n  webhook:\n    listen: 0.0.0.0\n"
    ));
    std::fs::write(site.path("user-data.yaml"), text).unwrap();
    let url = format!("https://0.0.0.0:{webhook_port}/mutate");
    wait_for(&site, "moved", |status| {
        status.phase == Phase::Running && status.webhook.as_ref().is_some_and(|webhook| webhook.url == url)
    })
    .await;
    assert_eq!(reasons(&site, EventReason::PhaseFailed), [""; 0]);
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embedded_registry_ends_when_the_configuration_has_no_primary_registry_any_more() {
    let site = Site::new();
    let agent = Agent::start(&site).await;
    wait_for_running(&site).await;

    let text = std::fs::read_to_string(site.path("user-data.yaml")).unwrap();
    let (without_primary, _) = text.split_once("  primary:").unwrap();
    std::fs::write(site.path("user-data.yaml"), without_primary).unwrap();
    wait_for(&site, "no primary", |status| {
        status.phase == Phase::Running && status.primary.is_none()
    })
    .await;
    let refused = tokio::net::TcpStream::connect(("127.0.0.1", site.primary_port)).await;
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrected_registry_is_used_while_the_wrong_one_still_does_not_answer() {
    let site = Site::new();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    site.write_user_data(&Differences {
        domain: Some(silent.local_addr().unwrap().to_string()),
        ..Differences::default()
    });
    let agent = Agent::start(&site).await;
    wait_for(&site, "a transfer", |status| status.phase == Phase::ProviderImage).await;

    site.write_user_data(&Differences::default());
    wait_for_running(&site).await;
    assert_eq!(
        reasons(&site, EventReason::PhaseFailed),
        [""; 0],
        "nobody waited for it to fail"
    );
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_shown_under_an_address_and_to_no_other_name() {
    let site = Site::new();
    let options = site.options().await;
    let address = options.listeners.status.as_ref().unwrap().local_addr().unwrap();
    let agent = Agent::start_with(options);
    wait_for_running(&site).await;
    for (host, status) in [
        ("127.0.0.1:5080", "200"),
        ("localhost", "200"),
        ("10.0.0.7:5080", "200"),
        ("evil.example", "421"),
        ("localhost.evil.example:5080", "421"),
        ("evil.example@127.0.0.1", "400"),
        ("", "400"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let answer = ask_status(&mut stream, host).await;
        assert_eq!(answer.get(9..12), Some(status), "{host}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{host}");
    }
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_api_beyond_loopback_speaks_tls_with_an_authority_that_the_status_names() {
    let site = Site::new();
    let listen = Differences {
        more: vec!["  listen: 0.0.0.0:5080".to_owned()],
        ..Differences::default()
    };
    site.write_user_data(&listen);
    std::fs::create_dir_all(site.path("root/proc/sys/kernel")).unwrap();
    std::fs::write(site.path("root/proc/sys/kernel/hostname"), "till-7\n").unwrap();
    let options = site.options().await;
    let address = options.listeners.status.as_ref().unwrap().local_addr().unwrap();
    let agent = Agent::start_with(options);
    let remote = running_status(&site).await.remote_api.unwrap();
    let authority = std::fs::read_to_string(&remote.ca_file).unwrap();
    assert_eq!(Fingerprint::of_pem(&authority).unwrap().to_string(), remote.fingerprint);
    // A client with the authority's file checks the name, one with the fingerprint does not.
    let by_file = || {
        let certificates = vec![authority.clone()];
        client_config(&TlsPolicy {
            insecure: false,
            certificates,
        })
        .unwrap()
    };
    let by_pin = || client_config_pinned(remote.fingerprint.parse().unwrap());
    for (name, config, is_trusted) in [
        ("till-7", by_file(), true),
        ("127.0.0.1", by_file(), true),
        ("till-8", by_file(), false),
        ("till-8", by_pin(), true),
    ] {
        let stream = TcpStream::connect(address).await.unwrap();
        let server = ServerName::try_from(name).unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(server, stream).await;
        assert_eq!(connected.is_ok(), is_trusted, "{name}: {connected:?}");
        if let Ok(mut stream) = connected {
            let answer = ask_status(&mut stream, "till-7").await;
            assert_eq!(answer.get(9..12), Some("200"), "{answer}");
        }
    }
    let mut plain = TcpStream::connect(address).await.unwrap();
    let answer = ask_status(&mut plain, "127.0.0.1:5080").await;
    assert_eq!(answer.get(9..12), Some("200"), "a script on the host: {answer}");
    assert_eq!(agent.stop().await, AgentOutcome::Drained);

    // The authority stays, so clients that know it go on.
    let agent = Agent::start(&site).await;
    let again = running_status(&site).await.remote_api.unwrap();
    assert_eq!(again.fingerprint, remote.fingerprint);
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}

async fn running_status(site: &Site) -> AgentStatus {
    wait_for_running(site).await;
    site.status()
}

async fn ask_status(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str) -> String {
    let request = format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let sent = stream.write_all(request.as_bytes()).await;
    sent.expect("the status API takes a request");
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer).await;
    read.expect("the status API answers");
    answer
}
