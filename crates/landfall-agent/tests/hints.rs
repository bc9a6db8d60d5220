//! Hints of the agent, followed: what a hint says is done, and its message is gone.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::agent::{Agent, wait_for};
use common::bundles::{Offline, all_images, write_bundle};
use common::{CANARY, Differences, Site, os_image};
use landfall_agent::{AgentOptions, AgentOutcome, run_agent};
use landfall_core::oci_types::media_type;
use landfall_core::status::NoProgress;
use landfall_net::certificate::{Validity, issue_certificate, make_authority};
use landfall_oci::bundle::BundleOptions;
use landfall_testkit::closed_port::ClosedPort;
use landfall_testkit::fake_registry::{Access, Effect, FakeHarbor, FakeRegistry, FakeRegistryOptions, FakeTls, Fault};
use landfall_testkit::image_builder::{FixtureBuilder, provider_image, small_image};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

/// A failure of an agent, and what its hint says.
struct Told {
    name: &'static str,
    /// Part of the message.
    message: &'static str,
    /// Part of the hint.
    hint: &'static str,
}

impl Told {
    /// Runs the agent, does what its hint says, and runs it again: everything is done then.
    async fn assert_mended(self, site: &Site, act: impl FnOnce()) {
        self.assert_mended_with(site, |options| options, act).await;
    }

    /// As [`Told::assert_mended`], with other options.
    async fn assert_mended_with(self, site: &Site, with: impl Fn(AgentOptions) -> AgentOptions, act: impl FnOnce()) {
        let Told { name, message, hint } = self;
        let told = match run(with(site.options().await)).await {
            Ok(AgentOutcome::Failed { failures }) => failures
                .iter()
                .map(|failure| format!("{}\n", failure.message))
                .collect(),
            Ok(other) => panic!("{name}: the agent ended with {other:?}"),
            Err(error) => landfall_agent::failure::error_line(&error),
        };
        for part in [message, "hint: ", hint] {
            assert!(told.contains(part), "{name}: `{part}` is not in {told}");
        }
        assert!(!told.contains(CANARY), "{name}");
        act();
        let after = run(with(site.options().await)).await.unwrap();
        assert_eq!(after, AgentOutcome::Running, "{name}");
    }
}

async fn run(options: AgentOptions) -> anyhow::Result<AgentOutcome> {
    run_agent(options, Arc::new(NoProgress), CancellationToken::new()).await
}

fn add_images(registry: &FakeRegistry) {
    registry.add_image("example.io/os", "1", &os_image());
    registry.add_image("example.io/calico", "1", &small_image("calico"));
    registry.add_image("docker.io/library/nginx", "1.27", &small_image("nginx"));
}

fn credentials(lines: &[&str]) -> Differences {
    Differences {
        credentials: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Differences::default()
    }
}

fn at(domain: impl ToString) -> Differences {
    Differences {
        domain: Some(domain.to_string()),
        ..Differences::default()
    }
}

fn more(lines: &[&str]) -> Differences {
    Differences {
        more: lines.iter().map(|line| (*line).to_owned()).collect(),
        ..Differences::default()
    }
}

fn basic() -> Access {
    Access::Basic {
        username: "edge".to_owned(),
        password: CANARY.to_owned(),
    }
}

/// Returns a certificate for names, and the certificate of its authority.
fn issue(names: &[&str]) -> (FakeTls, String) {
    let now = jiff::Timestamp::now();
    let validity = Validity {
        not_before: now,
        not_after: now + jiff::SignedDuration::from_hours(1),
    };
    let authority = make_authority("a private authority", validity).unwrap();
    let pair = issue_certificate(&authority, names, validity).unwrap();
    let tls = FakeTls {
        certificates: pair.certificate,
        key: pair.key.expose_secret().to_owned(),
    };
    (tls, authority.certificate)
}

fn replace(site: &Site, file: &str, from: &str, to: &str) {
    let path = site.path(file);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "`{from}` is not in {text}");
    std::fs::write(&path, text.replace(from, to)).unwrap();
}

#[tokio::test]
async fn a_followed_hint_about_a_registry_that_is_down_ends_its_message() {
    let port = ClosedPort::bind();
    let site = Site::new();
    site.write_user_data(&at(port.address()));
    let mut started = None;
    let told = Told {
        name: "down",
        message: "the connection is refused: nothing listens there",
        hint: "is up and can be reached from this host; its address is ",
    };
    told.assert_mended(&site, || {
        let registry = FakeRegistry::start_on(port.listen(), FakeRegistryOptions::default());
        add_images(&registry);
        started = Some(registry);
    })
    .await;
}

#[tokio::test]
async fn a_followed_hint_about_a_proxy_ends_its_message() {
    let site = Site::new();
    // The proxy answers requests for any host.
    let proxy = site.upstream.url();
    let with_proxy = |proxy: &str| {
        let text =
            format!("  site:\n    network:\n      httpProxy: \"{proxy}\"\n      httpsProxy: \"{proxy}\"\nlandfall:");
        site.write_user_data(&at("till.invalid"));
        replace(&site, "user-data.yaml", "landfall:", &text);
    };
    with_proxy("http://proxy.invalid:3128");
    let told = Told {
        name: "a proxy whose name is not known",
        message: "no connection by the proxy `proxy.invalid:3128`",
        hint: "check the proxies of `stylus.site.network` in the user-data",
    };
    told.assert_mended(&site, || with_proxy(&proxy)).await;
}

#[tokio::test]
async fn a_followed_hint_about_an_answer_ends_its_message() {
    let status = |status, headers| Effect::Status(status, headers, String::new());
    let page = || {
        let html = vec![("content-type", "text/html".to_owned())];
        Effect::Status(200, html, "<html>a router</html>".to_owned())
    };
    let anonymous = &["insecure: true"][..];
    let with_login = &["insecure: true", "username: edge", "password: x"][..];
    // Each request is made twice, unless another attempt cannot help.
    for (lines, path, effect, times, told) in [
        (
            with_login,
            "/manifests/",
            status(403, vec![]),
            1,
            Told {
                name: "no right",
                message: "user `edge` may not pull from `example.io/os`",
                hint: "grant it there, or name another user as `stylus.registryCredentials.username`",
            },
        ),
        (
            with_login,
            "/manifests/",
            status(429, vec![]),
            2,
            Told {
                name: "a limit for a user",
                message: "it allows no more requests",
                hint: "wait, or ask its operator for a higher limit",
            },
        ),
        (
            anonymous,
            "/manifests/",
            status(429, vec![]),
            2,
            Told {
                name: "a limit for everyone",
                message: "it allows no more requests",
                hint: "wait, or log in, which often allows more: add ",
            },
        ),
        (
            anonymous,
            "/blobs/",
            Effect::FlipBit,
            8,
            Told {
                name: "other bytes",
                message: "the bytes are not those that their digest names",
                hint: "again, and look for a proxy that changes what passes through it",
            },
        ),
        (
            anonymous,
            "/v2/",
            page(),
            40,
            Told {
                name: "no registry",
                message: "it answers like no registry",
                hint: "check that a registry, and nothing else, listens there; its address is ",
            },
        ),
    ] {
        let site = Site::new();
        site.write_user_data(&credentials(lines));
        let fault = Fault::once(path, effect).times(times);
        site.upstream.inject(fault.method(""));
        let right = FakeRegistry::start();
        add_images(&right);
        let domain = Differences {
            domain: Some(right.host().to_string()),
            ..credentials(lines)
        };
        told.assert_mended(&site, || site.write_user_data(&domain)).await;
        assert!(site.upstream.faults_met() > 0);
    }
}

#[tokio::test]
async fn a_followed_hint_about_an_image_ends_its_message() {
    let missing = |name, hint| Told {
        name,
        message: "it does not have `",
        hint,
    };
    let site = Site::new();
    site.write_profile(&["nginx:9.99"]);
    let told = missing("correct the image", "or correct the image at ");
    told.assert_mended(&site, || site.write_profile(&["nginx:1.27"])).await;

    site.write_profile(&["nginx:2.0"]);
    let told = missing("push the image", "push it there, or correct the image at ");
    let push = || {
        site.upstream
            .add_image("docker.io/library/nginx", "2.0", &small_image("nginx 2"))
    };
    told.assert_mended(&site, push).await;

    let broken = provider_image(&[("etcd.tar", b"no archive")]);
    site.upstream.add_image("example.io/os", "2", &broken);
    replace(&site, "profile.yaml", "example.io/os:1", "example.io/os:2");
    let told = Told {
        name: "a provider image that is broken",
        message: "cannot be loaded",
        hint: "look at how the provider image was built, or name another one in `system.uri` of the OS pack",
    };
    let name_another = || replace(&site, "profile.yaml", "example.io/os:2", "example.io/os:1");
    told.assert_mended(&site, name_another).await;

    let no_layer = FixtureBuilder::new().layer(media_type::OCI_LAYER_GZIP, b"no layer", b"no layer".to_vec());
    site.upstream.add_image("example.io/os", "3", &no_layer.build());
    replace(&site, "profile.yaml", "example.io/os:1", "example.io/os:3");
    let told = Told {
        name: "a provider image that is no file system",
        message: "the core images cannot be taken out of the provider image",
        hint: "look at how the provider image was built, and name another one in `system.uri` of the OS pack",
    };
    let name_another = || replace(&site, "profile.yaml", "example.io/os:3", "example.io/os:1");
    told.assert_mended(&site, name_another).await;
}

#[tokio::test]
async fn a_followed_hint_about_a_mapping_rule_ends_its_message() {
    let site = Site::new();
    let with_rule = |target: &str| {
        let host = site.upstream.host();
        let text = format!(
            "  externalRegistries:\n    registries:\n      - domain: \"{host}\"\n        insecure: true\n    registryMappingRules:\n      \
             \"docker.io\": \"{host}/{target}\"\n      \"example.io\": \"{host}/example.io\"\nlandfall:"
        );
        site.write_user_data(&Differences::default());
        let path = site.path("user-data.yaml");
        let written = std::fs::read_to_string(&path).unwrap();
        let (_, rest) = written.split_once("landfall:").unwrap();
        std::fs::write(&path, format!("#cloud-config\nstylus:\n{text}{rest}")).unwrap();
    };
    with_rule("dockr.io");
    let told = Told {
        name: "a slip in a rule",
        message: "it does not have `",
        hint: " or the mapping rule at ",
    };
    told.assert_mended(&site, || with_rule("docker.io")).await;
}

#[tokio::test]
async fn a_followed_hint_about_a_login_ends_its_message() {
    let site = Site::with_access(basic(), None);
    let wrong = ["username: edge", "password: wrong", "insecure: true"];
    let right = ["username: edge", &format!("password: {CANARY}"), "insecure: true"];
    site.write_user_data(&credentials(&wrong));
    let told = Told {
        name: "a wrong password",
        message: "it refuses the password of user `edge`",
        hint: "correct `stylus.registryCredentials.password` at ",
    };
    told.assert_mended(&site, || site.write_user_data(&credentials(&right)))
        .await;

    // The login is in a file of its own, as `landfall login` writes it.
    let path = site.path("config.json");
    let write_login = |password: &str| {
        let login = STANDARD.encode(format!("edge:{password}"));
        let auths = serde_json::json!({"auths": {site.upstream.host().as_str(): {"auth": login}}});
        std::fs::write(&path, auths.to_string()).unwrap();
    };
    write_login("wrong");
    site.upstream
        .add_image("docker.io/library/nginx", "1.28", &small_image("another nginx"));
    site.write_profile(&["nginx:1.28"]);
    site.write_user_data(&more(&[&format!("  credentialsFile: {path}")]));
    let told = Told {
        name: "an old password of a file",
        message: "cannot be fetched from registry",
        hint: "log in again with `landfall login ",
    };
    told.assert_mended(&site, || write_login(CANARY)).await;
}

#[tokio::test]
async fn a_followed_hint_about_tls_ends_its_message() {
    let (tls, authority) = issue(&["localhost"]);
    let (own, other_authority) = issue(&["127.0.0.1"]);
    let pem = |authority: &str| format!("certificates: |\n        {}", authority.replace('\n', "\n        "));
    let site = Site::with_access(Access::Open, Some(tls));
    let renewed = FakeRegistry::start_with(FakeRegistryOptions {
        tls: Some(own),
        ..FakeRegistryOptions::default()
    });
    add_images(&renewed);
    site.write_user_data(&credentials(&[&pem(&authority)]));
    let by_name = Differences {
        domain: Some(site.upstream.host().as_str().replace("127.0.0.1", "localhost")),
        ..credentials(&[&pem(&authority)])
    };
    let told = Told {
        name: "another name",
        message: "its certificate is for another name",
        hint: "name it as its certificate does in ",
    };
    told.assert_mended(&site, || site.write_user_data(&by_name)).await;

    let another = Site::with_access(Access::Open, Some(issue(&["localhost"]).0));
    another.write_user_data(&Differences {
        domain: Some(renewed.host().to_string()),
        ..credentials(&["username: edge", "password: x"])
    });
    let trusted = Differences {
        domain: Some(renewed.host().to_string()),
        ..credentials(&["username: edge", "password: x", &pem(&other_authority)])
    };
    let told = Told {
        name: "a private authority",
        message: "signed by an authority that is not trusted here",
        hint: "add the PEM of the authority that signed it as `stylus.registryCredentials.certificates`",
    };
    told.assert_mended(&another, || another.write_user_data(&trusted)).await;
}

#[tokio::test]
async fn a_followed_hint_about_a_registry_without_settings_ends_its_message() {
    // The images are named by their registry, of which the user-data says nothing.
    let (tls, authority) = issue(&["127.0.0.1"]);
    let site = Site::with_access(basic(), Some(tls));
    let host = site.upstream.host().to_string();
    for (from, to) in [
        ("example.io/os:1", format!("{host}/example.io/os:1")),
        ("example.io/calico:1", format!("{host}/example.io/calico:1")),
        ("nginx:1.27", format!("{host}/docker.io/library/nginx:1.27")),
    ] {
        replace(&site, "profile.yaml", from, &to);
    }
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, rest) = text.split_once("landfall:").unwrap();
    let write =
        |stylus: &str| std::fs::write(&path, format!("#cloud-config\nstylus:\n{stylus}landfall:{rest}")).unwrap();
    let network = "  managementMode: central\n".to_owned();
    let trusting = format!(
        "  site:\n    caCerts:\n    - |\n      {}\n",
        authority.replace('\n', "\n      ")
    );
    let external = format!(
        "{trusting}  externalRegistries:\n    registries:\n    - domain: \"{host}\"\n      username: edge\n      password: {CANARY}\n    \
         registryMappingRules:\n      \"{host}\": \"{host}\"\n"
    );
    write(&network);
    // The authority is only the first of two: the login is missing then.
    let told = match run(site.options().await).await.unwrap() {
        AgentOutcome::Failed { failures } => failures[0].message.clone(),
        other => panic!("{other:?}"),
    };
    let hint = "add the PEM of the authority that signed it to `stylus.site.caCerts` in the user-data";
    assert!(told.contains(hint), "{told}");
    write(&trusting);
    let told = Told {
        name: "no login",
        message: "it asks for a login, and none is given",
        hint: "with a login to `stylus.externalRegistries.registries` in the user-data",
    };
    told.assert_mended(&site, || write(&external)).await;
}

#[tokio::test]
async fn a_followed_hint_about_a_registry_without_settings_that_cannot_be_used_ends_its_message() {
    // Another server listens where the profile names a registry.
    let (tls, authority) = issue(&["127.0.0.1"]);
    let start = |listener: std::net::TcpListener| {
        let options = FakeRegistryOptions {
            tls: Some(FakeTls {
                certificates: tls.certificates.clone(),
                key: tls.key.clone(),
            }),
            ..FakeRegistryOptions::default()
        };
        FakeRegistry::start_on(listener, options)
    };
    let other = start(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let page = Effect::Status(200, vec![], "<html></html>".to_owned());
    other.inject(Fault::once("/v2/", page).always());
    let host = other.host().to_string();
    let site = Site::new();
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (_, own) = text.split_once("landfall:").unwrap();
    let pem = authority.replace('\n', "\n      ");
    let stylus = format!("stylus:\n  site:\n    caCerts:\n    - |\n      {pem}\n");
    std::fs::write(&path, format!("#cloud-config\n{stylus}landfall:{own}")).unwrap();
    let name_images = |from: &str, to: &str| {
        for image in ["example.io/os:1", "example.io/calico:1", "docker.io/library/nginx:1.27"] {
            replace(
                &site,
                "profile.yaml",
                &format!("{from}{image}"),
                &format!("{to}{image}"),
            );
        }
    };
    replace(&site, "profile.yaml", "nginx:1.27", "docker.io/library/nginx:1.27");
    name_images("", &format!("{host}/"));
    let told = Told {
        name: "another server",
        message: "it answers like no registry",
        hint: "check that a registry, and nothing else, listens at `",
    };
    let (mut running, mut right) = (Some(other), None);
    let start_registry = || {
        drop(running.take());
        let listener = std::net::TcpListener::bind(&host).unwrap();
        let registry = start(listener);
        add_images(&registry);
        right = Some(registry);
    };
    told.assert_mended(&site, start_registry).await;
    drop(right);

    let site = Site::new();
    let lines = std::fs::read_to_string(site.path("user-data.yaml")).unwrap();
    let (_, own) = lines.split_once("landfall:").unwrap();
    let without = format!("#cloud-config\nstylus:\n  managementMode: central\nlandfall:{own}");
    std::fs::write(site.path("user-data.yaml"), without).unwrap();
    for (from, to, image) in [
        ("example.io/os:1", "nowhere.invalid/os:1", os_image()),
        ("example.io/calico:1", "nowhere.invalid/calico:1", small_image("calico")),
        ("nginx:1.27", "nowhere.invalid/nginx:1.27", small_image("nginx")),
    ] {
        replace(&site, "profile.yaml", from, to);
        let (repository, tag) = to.rsplit_once(':').unwrap();
        site.upstream.add_image(repository, tag, &image);
    }
    let told = Told {
        name: "a registry that this host cannot reach",
        message: "it does not answer",
        hint: "can be reached from this host, or set `stylus.registryCredentials.domain` in the user-data",
    };
    told.assert_mended(&site, || std::fs::write(site.path("user-data.yaml"), &lines).unwrap())
        .await;
}

#[tokio::test]
async fn a_followed_hint_about_the_primary_registry_ends_its_message() {
    let harbor = |forbids_projects| {
        FakeRegistry::start_with(FakeRegistryOptions {
            access: basic(),
            harbor: Some(FakeHarbor {
                forbids_projects,
                ..FakeHarbor::default()
            }),
            ..FakeRegistryOptions::default()
        })
    };
    let plain = FakeRegistry::start_with(FakeRegistryOptions {
        access: basic(),
        ..FakeRegistryOptions::default()
    });
    let site = Site::new();
    let path = site.path("user-data.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, _) = text.split_once("  primary:").unwrap();
    let write = |kind: &str, primary: &FakeRegistry| {
        let host = primary.host();
        let section = format!(
            "  primary:\n    kind: {kind}\n    endpoint: {host}\n    insecure: true\n    username: edge\n    password: {CANARY}\n"
        );
        std::fs::write(&path, format!("{before}{section}")).unwrap();
    };
    write("harbor", &plain);
    let told = Told {
        name: "no Harbor",
        message: "it has no project API",
        hint: "for another registry write `kind: registry` in `landfall.primary`",
    };
    told.assert_mended(&site, || write("registry", &plain)).await;

    let forbidding = harbor(true);
    let granting = harbor(false);
    write("harbor", &forbidding);
    let told = Told {
        name: "no right to make a project",
        message: "may not create the project",
        hint: "grant it there, or name another user as `landfall.primary.username`",
    };
    told.assert_mended(&site, || write("harbor", &granting)).await;

    // A Harbor that is used as any other registry: nobody made the project.
    let untouched = harbor(false);
    write("registry", &untouched);
    let Ok(AgentOutcome::Failed { failures }) = run(site.options().await).await else {
        panic!("a project is missing");
    };
    let told: String = failures
        .iter()
        .map(|failure| format!("{}\n", failure.message))
        .collect();
    let (_, project) = told
        .split_once("hint: create the project `")
        .unwrap_or_else(|| panic!("{told}"));
    let (project, _) = project.split_once("` in it").unwrap();
    let made = common::agent::http_client(Vec::new())
        .post(format!("{}/api/v2.0/projects", untouched.url()))
        .basic_auth("edge", Some(CANARY))
        .json(&serde_json::json!({"project_name": project}))
        .send()
        .await
        .unwrap();
    assert_eq!(made.status(), 201);
    assert_eq!(run(site.options().await).await.unwrap(), AgentOutcome::Running);

    let page = FakeRegistry::start();
    page.inject(Fault::once("/v2/", Effect::Status(404, vec![], "no such page".to_owned())).always());
    write("registry", &page);
    let told = Told {
        name: "no registry at all",
        message: "it answers like no registry",
        hint: "check that a registry, and nothing else, listens there; its address is ",
    };
    told.assert_mended(&site, || write("registry", &plain)).await;

    let full = FakeRegistry::start_with(FakeRegistryOptions {
        access: basic(),
        ..FakeRegistryOptions::default()
    });
    let no_room = Effect::Status(507, vec![], String::new());
    full.inject(Fault::once("/blobs/uploads/", no_room).method("POST").always());
    write("registry", &full);
    let told = Told {
        name: "a registry without room",
        message: "it has no room left",
        hint: "free space in the registry `",
    };
    let larger = FakeRegistry::start_with(FakeRegistryOptions {
        access: basic(),
        ..FakeRegistryOptions::default()
    });
    told.assert_mended(&site, || write("registry", &larger)).await;
}

#[tokio::test]
async fn a_followed_hint_about_an_address_of_the_agent_ends_its_message() {
    let site = Site::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let without_status = |mut options: AgentOptions| {
        options.listeners.status = None;
        options
    };
    site.write_user_data(&more(&[&format!("  listen: \"{address}\"")]));
    let told = Told {
        name: "an address in use",
        message: "Address already in use",
        hint: "free it, or set `landfall.listen` or `stylus.localUI.port` in the user-data",
    };
    told.assert_mended_with(&site, without_status, || drop(taken)).await;

    site.write_user_data(&more(&["  mirror:\n    enable: true\n    listen: \"0.0.0.0:5081\""]));
    let told = Told {
        name: "a mirror for everyone",
        message: "the node-local mirror would serve private images to everyone who reaches",
        hint: "set `landfall.mirror.listen` to an address of loopback",
    };
    let on_loopback = more(&["  mirror:\n    enable: true\n    listen: \"127.0.0.1:5081\""]);
    told.assert_mended(&site, || site.write_user_data(&on_loopback)).await;

    let everyone = |login: &str| {
        site.write_user_data(&Differences::default());
        let listen = format!("endpoint: \"0.0.0.0:{}\"{login}", site.primary_port);
        let own = format!("endpoint: \"127.0.0.1:{}\"", site.primary_port);
        replace(&site, "user-data.yaml", &own, &listen);
    };
    everyone("");
    let told = Told {
        name: "a registry for everyone",
        message: "the embedded registry would let everyone push at",
        hint: "add `landfall.primary.username` and `.password` to the user-data",
    };
    let login = format!("\n    username: edge\n    password: {CANARY}");
    told.assert_mended(&site, || everyone(&login)).await;
}

#[tokio::test]
async fn a_followed_hint_about_the_state_directory_ends_its_message() {
    let site = Site::new();
    std::fs::create_dir(site.path("root")).unwrap();
    std::fs::write(site.path("root/file"), "no directory").unwrap();
    let by_user_data = |mut options: AgentOptions| {
        options.state_dir = None;
        options
    };
    site.write_user_data(&more(&["  stateDir: /file/state"]));
    let right = more(&["  stateDir: /state"]);
    let told = Told {
        name: "a file in the place of a directory",
        message: "cannot use `",
        hint: "set `landfall.stateDir` in the user-data",
    };
    told.assert_mended_with(&site, by_user_data, || site.write_user_data(&right))
        .await;
}

#[tokio::test]
async fn a_followed_hint_about_a_bundle_ends_its_message() {
    let offline = Offline::new(&[]);
    let path = offline.content().join("site.tar.zst");
    write_bundle(&path, &all_images(), BundleOptions::default()).await;
    let whole = std::fs::read(&path).unwrap();
    // A copy that was cut off.
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let agent = Agent::start(&offline.site).await;
    let refused = wait_for(&offline.site, "a refused bundle", |status| {
        status.bundles.iter().any(|bundle| bundle.hint.is_some())
    })
    .await;
    let hint = refused.bundles[0].hint.clone().unwrap();
    assert!(
        hint.starts_with("wait until the copy is finished, or copy it again"),
        "{hint}"
    );
    std::fs::write(&path, &whole).unwrap();
    wait_for(&offline.site, "the whole bundle", |status| {
        status
            .bundles
            .iter()
            .all(|bundle| bundle.hint.is_none() && bundle.problem.is_none())
            && status.images.values().all(|image| image.error.is_none())
    })
    .await;
    assert_eq!(agent.stop().await, AgentOutcome::Drained);
}
