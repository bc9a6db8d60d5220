//! Redirection turned on and off on a running host, by a change of the user-data without a reinstallation.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::Site;
use common::agent::{Agent, wait_for};
use landfall_agent::AgentOutcome;
use landfall_core::status::{AgentStatus, Phase};
use landfall_testkit::image_builder::small_image;

/// Writes user-data with a mapping rule. With redirection images come from `mirror/`, without it from where the profile
/// says.
fn write_user_data(site: &Site, enable: bool) {
    let (host, port) = (site.upstream.host(), site.primary_port);
    let text = format!(
        "#cloud-config
stylus:
  imageRedirectWebhook:
    enable: {enable}
  externalRegistries:
    registries:
      - domain: \"{host}\"
        insecure: true
    registryMappingRules:
      \"{host}/apps\": \"{host}/mirror\"
landfall:
  reconcileInterval: 3600
  containerd:
    enable: false
  primary:
    endpoint: \"127.0.0.1:{port}\"
"
    );
    std::fs::write(site.path("user-data.yaml"), text).unwrap();
}

/// Writes a profile with applications below `apps` and no operating system.
fn write_profile(site: &Site, applications: &[&str]) {
    let host = site.upstream.host();
    let images: String = applications
        .iter()
        .map(|name| format!("              - image: {host}/apps/{name}:1\n"))
        .collect();
    let text = format!(
        "metadata: {{name: store}}\nspec:\n  template:\n    packs:\n    - name: web\n      layer: addon\n      values: |\n        \
         pack:\n          content:\n            images:\n{images}"
    );
    std::fs::write(site.path("profile.yaml"), text).unwrap();
}

fn site() -> Site {
    let site = Site::new();
    for name in ["one", "two", "three"] {
        for place in ["apps", "mirror"] {
            site.upstream
                .add_image(&format!("{place}/{name}"), "1", &small_image(name));
        }
    }
    site
}

/// Returns the parts of the registry that an application was fetched from: `apps` or `mirror`.
fn fetched_from(site: &Site, name: &str) -> Vec<String> {
    let mut places: Vec<String> = site
        .fetched()
        .iter()
        .filter_map(|path| {
            path.strip_prefix("/v2/")?
                .split_once(&format!("/{name}/"))
                .map(|(place, _)| place.to_owned())
        })
        .collect();
    places.dedup();
    places
}

fn is_settled(status: &AgentStatus, images: usize, redirected: bool) -> bool {
    status.phase == Phase::Running && status.images.len() == images && status.webhook.is_some() == redirected
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turning_the_webhook_off_and_on_redirects_nothing_meanwhile_and_fills_the_primary_registry_always() {
    let site = site();
    write_user_data(&site, true);
    write_profile(&site, &["one"]);
    // A foreign file beside those that the agent writes.
    let users_file = site.path("root/etc/containerd/certs.d/gcr.io/hosts.toml");
    std::fs::create_dir_all(users_file.parent().unwrap()).unwrap();
    std::fs::write(&users_file, "server = \"https://gcr.io\"\n").unwrap();
    let agent = Agent::start(&site).await;
    let on = wait_for(&site, "on", |status| is_settled(status, 1, true)).await;
    let address = on.webhook.unwrap().url.replace("https://", "").replace("/mutate", "");
    assert_eq!(fetched_from(&site, "one"), ["mirror"]);

    write_profile(&site, &["one", "two"]);
    write_user_data(&site, false);
    let off = wait_for(&site, "off", |status| is_settled(status, 2, false)).await;
    insta::assert_snapshot!(off.redirect, @"nothing is redirected, neither to an external registry nor to the primary one: `stylus.imageRedirectWebhook.enable` is false");
    assert_eq!(
        fetched_from(&site, "two"),
        ["apps"],
        "the agent's own pulls are not redirected either"
    );
    let in_primary: Vec<bool> = off.images.values().map(|image| image.in_primary).collect();
    assert_eq!(in_primary, [true, true], "the primary registry is filled all the same");
    let refused = tokio::net::TcpStream::connect(&address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    write_profile(&site, &["one", "two", "three"]);
    write_user_data(&site, true);
    wait_for(&site, "on again", |status| is_settled(status, 3, true)).await;
    assert_eq!(fetched_from(&site, "three"), ["mirror"]);
    assert_eq!(
        std::fs::read_to_string(&users_file).unwrap(),
        "server = \"https://gcr.io\"\n"
    );
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}
