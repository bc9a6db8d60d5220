//! Watches the places of bundles: a new file or stick is worth a pass at once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use camino::Utf8PathBuf;
use fs_err as fs;
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::settings::Settings;
use tokio::sync::watch;

use super::scan::{OWN_FILES, list_files};
use super::sticks::{Device, list_labels, mount_points};
use crate::agent::host::Host;

/// The places of bundles as they were seen. Two looks differ if a bundle came, grew or went.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    /// Names, sizes and times of the files in the directory.
    files: Vec<(Utf8PathBuf, u64, Option<SystemTime>)>,
    sticks: Vec<(&'static str, Device)>,
}

/// Asks the reconciler for a pass when the directory of bundles or the sticks change, until the agent stops. Once nothing
/// grows any more, a pass under way ends for it. A bundle that is gone is served no longer from the moment that this is
/// seen, whatever the reconciler is doing.
pub(crate) fn watch_bundles(host: &Arc<Host>, settings: watch::Receiver<Option<Arc<Settings>>>, interval: Duration) {
    let watched = host.clone();
    host.supervisor.supervise("bundles", move |stop| async move {
        stop.run_until_cancelled(follow_changes(&watched, settings, interval))
            .await
            .unwrap_or(Ok(()))
    });
}

async fn follow_changes(
    host: &Arc<Host>,
    mut settings: watch::Receiver<Option<Arc<Settings>>>,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut before: Option<Fingerprint> = None;
    let mut is_settled = true;
    loop {
        // The first look is not after that of the first pass: what comes later is a change.
        let current = settings
            .wait_for(Option::is_some)
            .await
            .map(|settings| settings.clone());
        let Ok(Some(current)) = current else {
            // The reconciler has ended, and so will the agent.
            return std::future::pending().await;
        };
        let (watched, last) = (host.clone(), before.clone());
        let look = move || {
            let now = look(&watched, &current);
            let changed = last.filter(|last| *last != now);
            if let Some(last) = &changed {
                withdraw_gone(&watched, last, &now);
            }
            (now, changed.is_some())
        };
        let (now, is_new) = tokio::task::spawn_blocking(look).await?;
        before = Some(now);
        if is_new {
            host.wake.notify_one();
        } else if !is_settled {
            host.bundle_changes.send_modify(|changes| *changes += 1);
            if has_incomplete(host) {
                // A file without a table is read when nothing writes to it any more.
                host.wake.notify_one();
            }
        }
        is_settled = !is_new;
        tokio::time::sleep(interval).await;
    }
}

fn has_incomplete(host: &Host) -> bool {
    let bundles = host.status.get().bundles;
    bundles.iter().any(|bundle| bundle.phase == BundlePhase::Incomplete)
}

fn look(host: &Host, settings: &Settings) -> Fingerprint {
    let bundles = &settings.landfall.bundles;
    let directory = host.root.join(&bundles.directory).unwrap_or_default();
    let describe = |path: Utf8PathBuf| {
        let found = fs::metadata(&path).ok();
        let size = found.as_ref().map_or(0, std::fs::Metadata::len);
        (path, size, found.and_then(|found| found.modified().ok()))
    };
    let files = list_files(&directory, &OWN_FILES).into_iter();
    Fingerprint {
        files: files.map(|name| describe(directory.join(name))).collect(),
        sticks: match bundles.sticks {
            true => list_labels(&host.root),
            false => Vec::new(),
        },
    }
}

/// Ends the service of bundles whose file or stick is gone. The mount of a stick stays behind when it is pulled.
fn withdraw_gone(host: &Host, before: &Fingerprint, now: &Fingerprint) {
    let pulled = before.sticks.iter().filter(|stick| !now.sticks.contains(stick));
    let pulled: Vec<_> = pulled.map(|(label, _)| mount_points(host).join(label)).collect();
    host.places.remove_where(|place| {
        let path = place.path();
        path.is_some_and(|path| pulled.iter().any(|stick| path.starts_with(stick)) || !path.exists())
    });
}
