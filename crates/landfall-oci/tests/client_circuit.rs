//! Circuit breaker: an unreachable registry is not asked by every request in turn.

mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::{log, mk_endpoint};
use futures_util::future::join_all;
use landfall_core::failure::{CircuitPolicy, FailureKind};
use landfall_oci::client::RegistryClient;
use landfall_testkit::fake_registry::{Effect, FakeRegistry, Fault};
use tokio::time::Instant;

fn mk_policy(rest: Duration) -> CircuitPolicy {
    CircuitPolicy {
        failures: 2,
        silence: Duration::ZERO,
        rest,
    }
}

#[tokio::test]
async fn a_dead_registry_is_given_up_and_said_to_be() {
    let registry = FakeRegistry::start();
    let mut endpoint = mk_endpoint(&registry);
    // The listener is dropped: nothing listens here any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    endpoint.host = address.to_string().parse().unwrap();
    endpoint.circuit = mk_policy(Duration::from_secs(3600));
    let client = RegistryClient::new(endpoint).unwrap();
    let mut kinds = Vec::new();
    for _ in 0..4 {
        kinds.push(client.ping().await.unwrap_err().kind());
    }
    assert_eq!(
        kinds,
        [
            FailureKind::Unreachable,
            FailureKind::Unreachable,
            FailureKind::GivenUp,
            FailureKind::GivenUp
        ]
    );
    let told = client.ping().await.unwrap_err().fault.to_string();
    assert!(
        told.contains("(the connection is refused: nothing listens there)"),
        "{told}"
    );
}

#[tokio::test]
async fn a_registry_that_is_back_is_found_by_the_first_who_may_ask() {
    let registry = FakeRegistry::start();
    let bad_gateway = Effect::Status(502, Vec::new(), String::new());
    registry.inject(Fault::once("/v2/", bad_gateway).times(2));
    let mut endpoint = mk_endpoint(&registry);
    endpoint.tls.insecure = true;
    endpoint.circuit = mk_policy(Duration::ZERO);
    let client = RegistryClient::new(endpoint).unwrap();
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(client.ping().await.is_ok());
    }
    assert!(answers[2] && answers[3], "{answers:?}: {}", log(&registry));
}

#[tokio::test(start_paused = true)]
async fn many_requests_wait_for_a_silent_registry_once_and_not_in_turn() {
    let registry = FakeRegistry::start();
    let mut endpoint = mk_endpoint(&registry);
    endpoint.tls.insecure = true;
    // Connections are accepted, and then nothing is sent.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    endpoint.host = silent.local_addr().unwrap().to_string().parse().unwrap();
    let connect = endpoint.timeouts.connect;
    let client = RegistryClient::new(endpoint).unwrap();
    let begun = Instant::now();
    let answers = join_all((0..8).map(|_| client.ping())).await;
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), FailureKind::Unreachable);
    }
    assert!(begun.elapsed() < connect * 2, "{:?}", begun.elapsed());
}
