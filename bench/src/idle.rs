//! The agent at rest: running, with its servers up and nothing to do.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{resident_bytes, service};
use crate::registries::free_port;
use crate::report::Row;

const MEGABYTE: f64 = 1e6;

/// Starts the agent on an empty profile and measures its resident memory once it is `Running`.
pub(crate) fn measure(binary: &Path) -> anyhow::Result<Row> {
    let directory = tempfile::tempdir().context("cannot make a directory")?;
    let path = |name: &str| directory.path().join(name);
    let user_data = format!(
        "#cloud-config\nstylus:\n  localUI:\n    port: {}\n  imageRedirectWebhook:\n    port: {}\nlandfall:\n  \
         containerd:\n    enable: false\n",
        free_port()?,
        free_port()?
    );
    fs_err::write(path("user-data.yaml"), user_data)?;
    fs_err::write(
        path("profile.yaml"),
        "metadata: {name: idle}\nspec: {version: '1', template: {packs: []}}\n",
    )?;
    fs_err::create_dir(path("root"))?;
    let mut command = service(binary);
    command
        .arg("agent")
        .arg("--user-data")
        .arg(path("user-data.yaml"))
        .arg("--profile")
        .arg(path("profile.yaml"))
        .arg("--root")
        .arg(path("root"))
        .arg("--state-dir")
        .arg(path("state"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let status = path("state").join("status.json");
    let is_running = || fs_err::read_to_string(&status).is_ok_and(|status| is_running(&status));
    let bytes = resident_bytes(
        &mut command,
        is_running,
        Duration::from_secs(20),
        Duration::from_secs(2),
    )?;
    #[expect(clippy::cast_precision_loss, reason = "memory of a process is far below 2^53 bytes")]
    let megabytes = bytes as f64 / MEGABYTE;
    Ok(Row::new("landfall agent, idle", "resident, MB", megabytes, 20.0))
}

fn is_running(status: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(status).is_ok_and(|status| status["phase"] == "Running")
}
