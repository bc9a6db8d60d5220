//! A registry of another project as the primary one: the agent fills it through its endpoint and credentials.

use landfall_core::status::ProgressEvent;
use landfall_tests_interop::canary_secrets::{KUBELET_LOGINS, LAST_GOOD, leaking_files, leaks};
use landfall_tests_interop::docker_registry::{Account, DockerRegistry, Release};
use landfall_tests_interop::images::APPLICATIONS;
use landfall_tests_interop::olareg::Olareg;
use landfall_tests_interop::site::PRIMARY_ACCOUNT;
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;
use landfall_tests_interop::topology::{ACCOUNT, Topology};
use landfall_tests_interop::user_data::{ForeignPrimary, UserData};

const WRONG: Account<'static> = Account {
    password: "canary-wrong-88f0",
    ..PRIMARY_ACCOUNT
};

fn write_primary(topology: &Topology, endpoint: &str, account: Account<'_>, authority: &PrivateAuthority) {
    let primary = ForeignPrimary {
        endpoint,
        account,
        authority: authority.pem(),
    };
    topology.write_user_data(|user_data| UserData {
        primary: Some(primary),
        ..user_data
    });
}

#[test]
fn the_agent_fills_distributions_registries_and_finds_them_filled_the_next_time() {
    let mut topology = Topology::start();
    for release in [Release::V2, Release::V3] {
        topology = topology.with_new_site();
        let authority = PrivateAuthority::generate("primary");
        let primary = DockerRegistry::start_release(release, &authority, Some(PRIMARY_ACCOUNT));
        let host = primary.host();

        write_primary(&topology, &host, WRONG, &authority);
        let mut agent = topology.site.start_agent(&["--once"]);
        assert_eq!(agent.wait(), Some(1), "{release:?}: {}", agent.output());
        let messages = agent.messages();
        let refused = format!("the primary registry `{host}` cannot be used: it refuses the password of user `admin`");
        assert!(messages.contains(&refused), "{messages}");
        assert!(
            messages.contains("correct `landfall.primary.password` at "),
            "{messages}"
        );

        write_primary(&topology, &host, PRIMARY_ACCOUNT, &authority);
        let mut agent = topology.site.start_agent(&["--once"]);
        assert_eq!(agent.wait(), Some(0), "{release:?}: {}", agent.output());
        check_filled(&topology, &host, &authority, &agent.output());
    }
}

#[test]
fn the_agent_fills_olareg_which_asks_nobody_to_log_in() {
    let topology = Topology::start();
    let authority = PrivateAuthority::generate("primary");
    let primary = Olareg::start(&authority);
    let host = primary.host();
    write_primary(&topology, &host, PRIMARY_ACCOUNT, &authority);
    let mut agent = topology.site.start_agent(&["--once"]);
    assert_eq!(agent.wait(), Some(0), "{}", agent.output());
    check_filled(&topology, &host, &authority, &agent.output());
    assert_eq!(leaks(&primary.log(), PRIMARY_ACCOUNT.user), Vec::<&str>::new());
}

/// Checks that every application is in the primary registry, that a second run moves nothing, and that no
/// password is in a wrong place or in `told`, the agent's output.
fn check_filled(topology: &Topology, host: &str, authority: &PrivateAuthority, told: &str) {
    let access = Access {
        host,
        authority: Some(authority.pem()),
        account: Some(PRIMARY_ACCOUNT),
    };
    for name in APPLICATIONS {
        let pulled = Skopeo::default().pull(access, &topology.primary_repository(name));
        assert_eq!(pulled, topology.source.digest(name), "{name}");
    }

    let mut again = topology.site.start_agent(&["--once"]);
    assert_eq!(again.wait(), Some(0), "{}", again.output());
    let moved = again.progress().into_iter();
    let moved = moved.filter(|event| matches!(event, ProgressEvent::BlobStarted { .. }));
    assert_eq!(moved.count(), 0, "{}", again.stderr());
    for user in [ACCOUNT.user, PRIMARY_ACCOUNT.user] {
        assert_eq!(leaks(told, user), Vec::<&str>::new());
        let leaking = leaking_files(&topology.site.root(), user, &[LAST_GOOD, KUBELET_LOGINS]);
        assert_eq!(leaking, Vec::<camino::Utf8PathBuf>::new());
    }
}
