//! The distribution specification, version 1.1, against the built program: the specification's own conformance
//! suite, and the requests that the suite does not make.
#![expect(clippy::unwrap_used, reason = "test set-up")]

mod blobs;
mod checks;
mod errors;
mod suite;

use camino::Utf8Path;
use landfall_tests_interop::docker_registry::{Account, DockerRegistry, Release};
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::olareg::Olareg;
use landfall_tests_interop::raw_http::RawHttp;
use landfall_tests_interop::tls::PrivateAuthority;

use crate::checks::Checks;
use crate::suite::{Results, Subject, run_suite};

pub(crate) const REPOSITORY: &str = "checks/first";
pub(crate) const REPOSITORY_2: &str = "checks/second/deep";

const ACCOUNT: Account<'_> = Account {
    user: "edge",
    password: "conformance",
};

/// Number of cases of the suite with every part on. The suite itself says 1,032: it counts groups of cases too.
const SUITE: usize = 830;
/// Minimum number of our own checks of a run.
const LEAST: usize = 120;

/// Makes the registry take manifests whose blobs were not pushed, which is an optional part of the suite.
const SPARSE: &[&str] = &["--sparse-images"];

fn check_own(http: &RawHttp) -> Checks {
    let mut checks = Checks::default();
    errors::check_empty(http, &mut checks);
    blobs::check_all(http, &mut checks);
    errors::check_manifests(http, &mut checks);
    errors::check_catalog(http, &mut checks);
    checks
}

fn assert_all_passed(results: &Results) {
    assert_eq!((&results.failed, &results.skipped), (&vec![], &vec![]));
    assert_eq!(results.passed, SUITE);
}

#[test]
fn the_suite_passes_without_a_login() {
    let registry = LandfallRegistry::start_with(None, None, None, SPARSE);
    assert_all_passed(&run_suite(Subject {
        host: registry.host(),
        authority: None,
        account: None,
        sparse: true,
    }));
}

#[test]
fn the_suite_passes_with_tls_and_a_login() {
    let authority = PrivateAuthority::generate("conformance");
    let registry = LandfallRegistry::start_with(Some(&authority), Some(ACCOUNT), None, SPARSE);
    assert_all_passed(&run_suite(Subject {
        host: registry.host(),
        authority: Some(&authority),
        account: Some(ACCOUNT),
        sparse: true,
    }));
}

#[test]
fn complete_images_are_the_only_demand_beyond_the_suite() {
    let registry = LandfallRegistry::start(None, None);
    let results = run_suite(Subject {
        host: registry.host(),
        authority: None,
        account: None,
        sparse: false,
    });
    assert_eq!(results.failed, Vec::<String>::new());
    let others: Vec<&String> = results
        .skipped
        .iter()
        .filter(|name| !name.contains("/sparse-manifests"))
        .collect();
    assert_eq!(others, Vec::<&String>::new());
    assert!(results.passed > SUITE / 2, "only {} checks were made", results.passed);
}

/// Holds the table of the docs against the registries that it names.
#[test]
fn the_docs_tell_the_results_of_other_registries() {
    let authority = PrivateAuthority::generate("conformance");
    let distribution_2 = DockerRegistry::start_release(Release::V2, &authority, None);
    let distribution_3 = DockerRegistry::start_release(Release::V3, &authority, None);
    let olareg = Olareg::start(&authority);
    let rows = [
        ("distribution 2.8.2 (Debian)", distribution_2.host()),
        ("distribution 3.1.1", distribution_3.host()),
        ("olareg 0.1.2", olareg.host()),
    ]
    .map(|(name, host)| {
        let results = run_suite(Subject {
            host: &host,
            authority: Some(&authority),
            account: None,
            sparse: true,
        });
        let (failed, skipped) = (results.failed.len(), results.skipped.len());
        format!("| {name} | {} | {failed} | {skipped} |", results.passed)
    });
    let docs = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits-and-compat.md");
    let docs = fs_err::read_to_string(docs).unwrap();
    let missing: Vec<&String> = rows
        .iter()
        .filter(|row| !docs.lines().any(|line| line == *row))
        .collect();
    assert_eq!(missing, Vec::<&String>::new(), "rows that the docs lack");
}

#[test]
fn everybody_is_answered_alike() {
    let registry = LandfallRegistry::start(None, None);
    let http = RawHttp::new(registry.url(), None, None);
    check_own(&http).finish(LEAST);
}

#[test]
fn clients_without_a_login_are_refused() {
    let authority = PrivateAuthority::generate("conformance");
    let registry = LandfallRegistry::start_with(Some(&authority), Some(ACCOUNT), None, &["--sparse-images"]);
    let http = RawHttp::new(registry.url(), Some(authority.pem()), Some(ACCOUNT));
    let mut checks = check_own(&http);
    let stranger = RawHttp::new(registry.url(), Some(authority.pem()), None);
    errors::check_refused(&stranger, &mut checks);
    let liar = stranger.with_account(Some(Account {
        password: "wrong",
        ..ACCOUNT
    }));
    errors::check_refused(&liar, &mut checks);
    checks.finish(LEAST);
}
