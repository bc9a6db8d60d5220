//! The conformance suite of the distribution specification, as its authors build it, against a running registry.

use std::collections::BTreeMap;
use std::process::Command;

use camino::Utf8Path;
use landfall_tests_interop::docker_registry::Account;
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::program::run;
use landfall_tests_interop::tls::PrivateAuthority;

/// Parts of the suite that are off by default in version 1.1. Sparse manifests are a part of their own, since a
/// registry may refuse them.
const OPTIONAL: [&str; 4] = [
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_TAG_PARAM",
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
];

/// A registry to run the suite against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// `127.0.0.1:<port>`.
    pub(crate) host: &'a str,
    /// Authority of the registry's certificate; `None` for plain HTTP.
    pub(crate) authority: Option<&'a PrivateAuthority>,
    pub(crate) account: Option<Account<'a>>,
    /// True if the registry has to take manifests whose blobs were not pushed.
    pub(crate) sparse: bool,
}

/// Results of one run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) passed: usize,
    /// Name and reason of each failed check.
    pub(crate) failed: Vec<String>,
    /// Names of the checks that were not made, because the registry lacks the feature or they are turned off.
    pub(crate) skipped: Vec<String>,
}

/// Runs the suite in version 1.1 with every optional part.
pub(crate) fn run_suite(subject: Subject<'_>) -> Results {
    let directory = tempfile::tempdir().unwrap();
    let directory = Utf8Path::from_path(directory.path()).unwrap();
    let mut command = Command::new(tool("conformance"));
    command
        .current_dir(directory)
        .env_clear()
        .env("OCI_RESULTS_DIR", directory)
        .env("OCI_VERSION", "1.1")
        .env("OCI_LOG", "error")
        .env("OCI_REGISTRY", subject.host)
        .env("OCI_REPO1", "conformance/first")
        .env("OCI_REPO2", "conformance/second/deep")
        .env("OCI_DATA_SPARSE", subject.sparse.to_string())
        .envs(OPTIONAL.map(|name| (name, "true")));
    match subject.authority {
        Some(authority) => {
            let file = directory.join("ca.pem");
            fs_err::write(&file, authority.pem()).unwrap();
            command.env("OCI_TLS", "enabled").env("SSL_CERT_FILE", file);
        }
        None => drop(command.env("OCI_TLS", "disabled")),
    }
    if let Some(Account { user, password }) = subject.account {
        command.env("OCI_USERNAME", user).env("OCI_PASSWORD", password);
    }
    // The exit status says whether a check failed, as the report does.
    let finished = run(command);
    let report = directory.join("junit.xml");
    let report = fs_err::read_to_string(&report)
        .unwrap_or_else(|error| panic!("the suite wrote no report: {error}\n{finished:?}"));
    parse_report(&report)
}

/// Parses the JUnit report. The suite escapes every `"` and `<` in texts, so that its own tags are unambiguous.
fn parse_report(report: &str) -> Results {
    let mut by_status: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for case in report.split("<testcase ").skip(1) {
        let attribute = |name: &str| {
            let (_, rest) = case.split_once(&format!("{name}=\"")).unwrap();
            rest.split('"').next().unwrap()
        };
        let reason = case
            .split_once("<system-out>")
            .map(|(_, reason)| reason.chars().take(400).collect::<String>())
            .unwrap_or_default();
        by_status
            .entry(attribute("status"))
            .or_default()
            .push(format!("{} {reason}", attribute("name")));
    }
    let mut take = |status| by_status.remove(status).unwrap_or_default();
    let results = Results {
        passed: take("passed").len(),
        failed: take("failure"),
        skipped: take("skipped"),
    };
    assert!(by_status.is_empty(), "unknown results: {:?}", by_status.keys());
    results
}
