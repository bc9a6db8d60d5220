//! An authenticated provider registry without an external one. Its login is used there, for the provider image,
//! and nowhere else.

use landfall_core::status::Phase;
use landfall_tests_interop::canary_secrets::{PROVIDER_PASSWORD, leaks};
use landfall_tests_interop::docker_registry::{Account, Request};
use landfall_tests_interop::images::{APPLICATIONS, CORE, INFRASTRUCTURE, PROVIDER};
use landfall_tests_interop::site::Site;
use landfall_tests_interop::source_registry::SourceRegistry;
use landfall_tests_interop::user_data::UserData;

/// The account that `profile-edge.yaml` names in `providerCredentials`.
const ACCOUNT: Account<'static> = Account {
    user: "builder",
    password: PROVIDER_PASSWORD,
};

/// Returns the profile with these registries as origins: the provider image from one, everything else from the
/// other.
fn with_origins(profile: &str, provider: &SourceRegistry, others: &SourceRegistry) -> String {
    let at_provider = provider.registry.host();
    let at_others = others.registry.host();
    let mut text = profile
        .replace("registry: example.io", &format!("registry: {at_provider}"))
        .replace(PROVIDER, &format!("{at_provider}/{PROVIDER}"));
    for name in INFRASTRUCTURE.into_iter().chain(APPLICATIONS) {
        let origin = format!("{at_others}/{name}");
        let short = name.trim_start_matches("docker.io/library/");
        text = text.replace(short, &origin);
    }
    // The authority of the provider registry is next to its login; that of the others is the site's.
    let certificates: String = provider
        .authority
        .pem()
        .lines()
        .map(|line| format!("                {line}\n"))
        .collect();
    let password = "password: \"{{.spectro.macro.provider-password}}\"\n";
    text.replace(
        password,
        &format!("{password}            certificates:\n              - |\n{certificates}"),
    )
}

fn mk_site(provider: &SourceRegistry, others: &SourceRegistry) -> Site {
    let site = Site::new();
    site.write_user_data(UserData {
        site_authority: Some(others.authority.pem()),
        ..site.user_data()
    });
    site.write_profile(|profile| with_origins(&profile, provider, others));
    site
}

#[test]
fn the_login_of_the_provider_registry_fetches_the_provider_image_from_there() {
    let provider = SourceRegistry::start(Some(ACCOUNT), "", |name| name == PROVIDER);
    let others = SourceRegistry::start(None, "", |name| name != PROVIDER);
    let site = mk_site(&provider, &others);
    let filled = (provider.registry.requests().len(), others.registry.requests().len());

    let mut agent = site.start_agent(&[]);
    agent.wait_for_phase(Phase::Running);

    let from_provider = provider.registry.requests().split_off(filled.0);
    let fetched: Vec<&Request> = from_provider
        .iter()
        .filter(|request| request.fetched_blob().is_some())
        .collect();
    assert!(!fetched.is_empty(), "{from_provider:#?}");
    assert!(
        fetched
            .iter()
            .all(|request| request.user.as_deref() == Some(ACCOUNT.user)),
        "{fetched:#?}"
    );
    assert!(
        from_provider
            .iter()
            .filter_map(Request::repository)
            .all(|name| PROVIDER.starts_with(name)),
        "{from_provider:#?}"
    );
    let from_others = others.registry.requests().split_off(filled.1);
    assert!(
        from_others.iter().any(|request| request.fetched_blob().is_some()),
        "{from_others:#?}"
    );
    let loaded = site.containerd_images();
    assert!(CORE.iter().all(|name| loaded.contains_key(*name)), "{loaded:?}");
    assert_eq!(leaks(&agent.output(), ACCOUNT.user), Vec::<&str>::new());
    assert_eq!(agent.terminate(), Some(0), "{}", agent.output());
}

#[test]
fn the_login_of_the_provider_registry_is_never_given_to_another_registry() {
    let provider = SourceRegistry::start(Some(ACCOUNT), "", |name| name == PROVIDER);
    // The same account is valid here: if the login were sent, the log would name its user.
    let others = SourceRegistry::start(Some(ACCOUNT), "", |name| name != PROVIDER);
    let site = mk_site(&provider, &others);
    let filled = others.registry.requests().len();

    let mut agent = site.start_agent(&["--once"]);
    assert_eq!(agent.wait(), Some(1), "{}", agent.output());

    let from_others = others.registry.requests().split_off(filled);
    assert!(
        from_others.iter().any(|request| request.status == 401),
        "{from_others:#?}"
    );
    assert!(
        from_others.iter().all(|request| request.user.is_none()),
        "{from_others:#?}"
    );
    assert!(
        agent.messages().contains(&others.registry.host()),
        "{}",
        agent.messages()
    );
    assert_eq!(leaks(&agent.output(), ACCOUNT.user), Vec::<&str>::new());
}
