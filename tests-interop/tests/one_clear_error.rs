//! Errors that an operator reads when a registry fails: one error that names the image, the registry and the
//! key to fix, and no secret.

use landfall_core::status::{EventKind, EventList};
use landfall_tests_interop::agent::{LandfallAgent, run_landfall};
use landfall_tests_interop::canary_secrets::{KUBELET_LOGINS, LAST_GOOD, leaking_files, leaks};
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::images::PROVIDER;
use landfall_tests_interop::source_registry::SourceRegistry;
use landfall_tests_interop::tls::PrivateAuthority;
use landfall_tests_interop::topology::{ACCOUNT, Topology};
use landfall_tests_interop::user_data::{External, UserData};

/// Expected parts of the error.
struct Expected<'a> {
    image: &'a str,
    /// The input file with the key to fix.
    file: &'a str,
    /// Text of a line in that file.
    line: &'a str,
    /// Name of the key; the image's own origin has none.
    key: Option<&'a str>,
}

/// Runs the agent once, and checks that it fails with exactly this error.
fn fails_with_one_error(topology: &Topology, expected: &Expected<'_>) {
    let mut agent = topology.site.start_agent(&["--once"]);
    assert_eq!(agent.wait(), Some(1), "{}", agent.output());
    let error = the_error(&agent);
    assert!(
        error.contains(&format!("`{}`", expected.image)),
        "the image is not named: {error}"
    );
    assert!(
        error.contains(&format!("`{}`", topology.source.registry.host())),
        "the registry is not named: {error}"
    );
    if let Some(key) = expected.key {
        assert!(error.contains(&format!("`{key}`")), "the key is not named: {error}");
    }
    let file = topology.site.path(expected.file);
    let text = fs_err::read_to_string(&file).expect("an input file");
    let line = text
        .lines()
        .position(|line| line.contains(expected.line))
        .expect("the line is in the file")
        + 1;
    assert!(
        error.contains(&format!("{file}:{line}:")),
        "not at {file}:{line}: {error}"
    );

    let [image, phase] = &*warnings(topology) else {
        panic!("{:?}", warnings(topology))
    };
    assert_eq!(*image, format!("ImageFailed {}", expected.image));
    assert!(phase.starts_with("PhaseFailed "), "{phase}");

    let user = ACCOUNT.user;
    assert_eq!(leaks(&agent.output(), user), Vec::<&str>::new());
    assert_eq!(
        leaking_files(&topology.site.root(), user, &[LAST_GOOD, KUBELET_LOGINS]),
        Vec::<camino::Utf8PathBuf>::new()
    );
}

/// Returns the only error of this run.
fn the_error(agent: &LandfallAgent) -> String {
    let messages = agent.messages();
    let errors: Vec<&str> = messages.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{messages}");
    errors[0].to_owned()
}

/// Returns the warnings that the operator finds afterwards: one failed image, one failed phase.
fn warnings(topology: &Topology) -> Vec<String> {
    let state = topology.site.state_dir();
    let events = run_landfall(&["events", "--state-dir", state.as_str(), "-o", "json"])
        .succeeded()
        .stdout();
    let events: EventList = serde_json::from_str(&events).expect("events are JSON");
    let warnings = events
        .events
        .into_iter()
        .filter(|event| event.kind == EventKind::Warning);
    warnings
        .map(|event| format!("{:?} {}", event.reason, event.subject))
        .collect()
}

fn with_external<'a>(user_data: UserData<'a>, change: impl FnOnce(External<'a>) -> External<'a>) -> UserData<'a> {
    UserData {
        external: user_data.external.map(change),
        ..user_data
    }
}

#[test]
fn a_wrong_password_is_named_with_its_key() {
    let topology = Topology::start();
    let wrong = Account {
        password: "canary-wrong-51ac",
        ..ACCOUNT
    };
    topology.write_user_data(|user_data| {
        with_external(user_data, |external| External {
            account: wrong,
            ..external
        })
    });
    fails_with_one_error(
        &topology,
        &Expected {
            image: PROVIDER,
            file: "user-data.yaml",
            line: "password:",
            key: Some("stylus.registryCredentials.password"),
        },
    );
}

#[test]
fn an_unknown_authority_is_named_with_the_key_for_certificates() {
    let stranger = PrivateAuthority::generate("a stranger");
    let mut topology = Topology::start();
    for authority in [Some(stranger.pem()), None] {
        topology = topology.with_new_site();
        topology.write_user_data(|user_data| with_external(user_data, |external| External { authority, ..external }));
        fails_with_one_error(
            &topology,
            &Expected {
                image: PROVIDER,
                file: "user-data.yaml",
                line: "domain:",
                key: Some("stylus.registryCredentials.certificates"),
            },
        );
    }
}

#[test]
fn a_missing_image_is_named_with_its_place_in_the_profile() {
    let missing = "ghcr.io/spectrocloud/hello-universe:1.2.0";
    let topology = Topology::new(SourceRegistry::start(Some(ACCOUNT), "landfall/", |name| {
        name != missing
    }));
    fails_with_one_error(
        &topology,
        &Expected {
            image: missing,
            file: "profile.yaml",
            line: missing,
            key: None,
        },
    );
}

#[test]
fn a_registry_that_is_down_is_named_with_the_key_of_its_address() {
    let mut topology = Topology::start();
    topology.source.registry.stop();
    fails_with_one_error(
        &topology,
        &Expected {
            image: PROVIDER,
            file: "user-data.yaml",
            line: "domain:",
            key: Some("stylus.registryCredentials.domain"),
        },
    );
}
