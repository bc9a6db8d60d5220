//! The kubelet's credential provider, called as the kubelet calls it. It is measured beside a Python program of
//! ten lines that reads the same request and the same file, like the provider that it replaces.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::process::{median, time};
use crate::report::Row;

const LIMIT_MS: f64 = 2.0;
const CALLS: usize = 300;
/// The first calls read the programs from disk.
const UNTIMED: usize = 10;
const NAME: &str = "landfall-credential-provider";

const REQUEST: &str = "{\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1\",\"kind\":\"CredentialProviderRequest\",\
                       \"image\":\"us.gcr.io/team/shop/api:2.4.1\"}";
const LOGIN: &str = "{\"username\":\"ann\",\"password\":\"secret\",\"duration\":\"0h5m0s\"}";

const PYTHON: &str = r#"import json, os, sys
image = json.load(sys.stdin)["image"]
host = source = image.split("/")[0].split(":")[0]
while not os.path.exists(os.path.join(sys.argv[1], source + ".json")):
    source = source.split(".", 1)[1]
with open(os.path.join(sys.argv[1], source + ".json")) as file:
    login = json.load(file)
auth = {host: {"username": login["username"], "password": login["password"]}}
print(json.dumps({"kind": "CredentialProviderResponse", "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    "cacheKeyType": "Registry", "cacheDuration": login["duration"], "auth": auth}))
"#;

/// Measures both programs in turn.
pub(crate) fn measure(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let path = |name: &str| directory.path().join(name);
    fs_err::create_dir(path("registries"))?;
    // The file name is one label shorter than the image's host: both programs look twice.
    fs_err::write(path("registries/gcr.io.json"), LOGIN)?;
    fs_err::write(path("provider.py"), PYTHON)?;
    fs_err::os::unix::fs::symlink(fs_err::canonicalize(binary)?, path(NAME))?;

    let ours = || {
        let mut command = Command::new(path(NAME));
        command.arg("--credroot").arg(path("registries"));
        command
    };
    let interpreter = find_interpreter().unwrap_or_else(|_| "python3".to_owned());
    let python = || {
        let mut command = Command::new(&interpreter);
        command.arg(path("provider.py")).arg(path("registries"));
        command
    };
    let (mut landfall, mut theirs) = (Vec::new(), Vec::new());
    let mut missing = None;
    for number in 0..UNTIMED + CALLS {
        let called = call(ours())?;
        if number >= UNTIMED {
            landfall.push(called);
        }
        match call(python()) {
            Ok(called) if number >= UNTIMED => theirs.push(called),
            Ok(_) => {}
            Err(error) => missing = Some(format!("{error:#}")),
        }
    }
    let percentile = |values: &[f64]| {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        values[values.len() * 99 / 100]
    };
    let peers = |of: fn(Vec<f64>) -> f64| -> BTreeMap<String, Option<f64>> {
        let value = missing.is_none().then(|| of(theirs.clone()));
        [("python3".to_owned(), value)].into()
    };
    let p99 = Row::without_limit(
        "credential provider: one call, p99",
        "wall time, ms",
        percentile(&landfall),
    );
    let mut call = Row::against_peers(
        "credential provider: one call",
        "median, ms",
        Some(median(landfall)),
        peers(median),
        1.0,
    )
    .with_limit(LIMIT_MS);
    if let Some(why) = &missing {
        call = call.remark("python3", why);
    }
    Ok(vec![call, p99])
}

/// Returns the interpreter itself: the entry of `PATH` may be a script that first searches for it.
fn find_interpreter() -> anyhow::Result<String> {
    let told = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()?;
    ensure!(told.status.success(), "python3 does not tell where it is");
    Ok(String::from_utf8(told.stdout)?.trim().to_owned())
}

/// Calls a provider, checks that it returned the login, and returns the milliseconds from start to end.
fn call(mut command: Command) -> anyhow::Result<f64> {
    let mut output = None;
    let elapsed = time(|| {
        output = Some((|| -> anyhow::Result<_> {
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot start {command:?}"))?;
            // Closed after the write: the end of the request.
            child
                .stdin
                .take()
                .context("stdin is piped")?
                .write_all(REQUEST.as_bytes())?;
            Ok(child.wait_with_output()?)
        })());
    });
    let output = output.context("the call was not made")??;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).context("the answer is not JSON")?;
    ensure!(
        answer["auth"]["us.gcr.io"]["username"] == "ann",
        "the login is not in the answer: {answer}"
    );
    Ok(elapsed.as_secs_f64() * 1e3)
}
