//! The checks of the OCI distribution specification, version 1.1 and the draft of 1.2, request by request
//! against the built program. They follow the specification's own conformance suite, data set by data set.
#![expect(clippy::unwrap_used, reason = "test set-up")]

mod blobs;
mod checks;
mod content;
mod errors;
mod images;

use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::raw_http::RawHttp;
use landfall_tests_interop::tls::PrivateAuthority;

use crate::checks::Checks;
use crate::content::{Hash, everything};

pub(crate) const REPOSITORY: &str = "conformance/first";
pub(crate) const REPOSITORY_2: &str = "conformance/second/deep";

const ACCOUNT: Account<'_> = Account {
    user: "edge",
    password: "conformance",
};

/// Minimum number of checks of a run.
const LEAST: usize = 3000;

fn check_everything(http: &RawHttp) -> Checks {
    let mut checks = Checks::default();
    let ping = http.get("/v2/");
    checks.status("ping", &ping, 200);
    checks.header("ping", &ping, "docker-distribution-api-version", "registry/2.0");
    errors::check_empty(http, &mut checks);
    for hash in [Hash::Sha256, Hash::Sha512] {
        blobs::check_all(http, &mut checks, hash);
    }
    for content in everything() {
        images::check_life(http, &mut checks, &content);
    }
    errors::check_manifests(http, &mut checks);
    errors::check_catalog(http, &mut checks);
    checks
}

#[test]
fn everybody_is_served_as_the_distribution_specification_says() {
    let registry = LandfallRegistry::start_with(None, None, None, &["--sparse-images"]);
    let http = RawHttp::new(registry.url(), None, None);
    check_everything(&http).finish(LEAST);
}

#[test]
fn whoever_logs_in_is_served_the_same_and_nobody_else_is() {
    let authority = PrivateAuthority::generate("conformance");
    let registry = LandfallRegistry::start_with(Some(&authority), Some(ACCOUNT), None, &["--sparse-images"]);
    let http = RawHttp::new(registry.url(), Some(authority.pem()), Some(ACCOUNT));
    let mut checks = check_everything(&http);
    let stranger = RawHttp::new(registry.url(), Some(authority.pem()), None);
    errors::check_refused(&stranger, &mut checks);
    let liar = stranger.with_account(Some(Account {
        password: "wrong",
        ..ACCOUNT
    }));
    errors::check_refused(&liar, &mut checks);
    checks.finish(LEAST);
}
