//! The fixtures themselves: what the other tests rely on.

use landfall_tests_interop::docker_registry::{Account, DockerRegistry};
use landfall_tests_interop::https;
use landfall_tests_interop::tls::PrivateAuthority;

#[test]
fn a_registry_with_an_account_refuses_strangers_and_logs_it() {
    let authority = PrivateAuthority::generate("fixture");
    let registry = DockerRegistry::start(
        &authority,
        Some(Account {
            user: "u",
            password: "p",
        }),
    );
    let answer = https::get(&format!("https://{}/v2/", registry.host()), Some(authority.pem())).expect("an answer");
    assert_eq!(answer.status, 401);
    let requests = registry.requests();
    assert_eq!(requests.len(), 1, "{}", registry.log());
    assert_eq!((requests[0].path.as_str(), requests[0].status), ("/v2/", 401));
}

#[test]
fn a_registry_without_an_account_serves_everybody() {
    let authority = PrivateAuthority::generate("fixture");
    let mut registry = DockerRegistry::start(&authority, None);
    let url = format!("https://{}/v2/_catalog", registry.host());
    assert_eq!(https::get(&url, Some(authority.pem())).expect("an answer").status, 200);
    assert!(
        https::get(&url, Some(PrivateAuthority::generate("other").pem())).is_err(),
        "an unknown authority"
    );
    registry.stop();
    assert!(
        https::get(&url, Some(authority.pem())).is_err(),
        "a registry that is down"
    );
    registry.start_again();
    assert_eq!(https::get(&url, Some(authority.pem())).expect("an answer").status, 200);
    assert_eq!(registry.requests().len(), 2, "{}", registry.log());
}
