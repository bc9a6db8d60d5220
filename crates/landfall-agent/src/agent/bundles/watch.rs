//! Watches the places of bundles: a new file or stick is worth a pass at once.

use std::sync::Arc;
use std::time::Duration;

use camino::Utf8PathBuf;
use fs_err as fs;
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::settings::Settings;
use tokio::sync::watch;

use super::scan::{OWN_FILES, list_files};
use super::sticks::list_labels;
use crate::agent::host::Host;

/// Names, sizes and times of the files in the places of bundles. Two looks differ if a bundle came, grew or went.
type Fingerprint = Vec<(String, u64, Option<std::time::SystemTime>)>;

/// Asks the reconciler for a pass when the directory of bundles or the sticks change, until the agent stops.
pub(crate) fn watch_bundles(host: &Arc<Host>, settings: watch::Receiver<Option<Arc<Settings>>>, interval: Duration) {
    let watched = host.clone();
    host.supervisor.supervise("bundles", move |stop| async move {
        let mut before = None;
        let mut is_quiet = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(interval) => {}
            }
            let Some(settings) = settings.borrow().clone() else {
                continue;
            };
            let host = watched.clone();
            let now = tokio::task::spawn_blocking(move || look(&host, &settings)).await?;
            let is_same = before.as_ref() == Some(&now);
            let is_change = !is_same && before.is_some();
            // A file without a table is read when nothing writes to it any more.
            let ends_copy = is_same && !is_quiet && has_incomplete(&watched);
            if is_change || ends_copy {
                watched.wake.notify_one();
            }
            (before, is_quiet) = (Some(now), is_same);
        }
    });
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
        (path.into_string(), size, found.and_then(|found| found.modified().ok()))
    };
    let mut fingerprint: Fingerprint = list_files(&directory, &OWN_FILES)
        .into_iter()
        .map(|name| describe(directory.join(name)))
        .collect();
    if bundles.sticks {
        fingerprint.extend(
            list_labels(&host.root)
                .into_iter()
                .map(|(_, device)| (device.into_string(), 0, None)),
        );
    }
    fingerprint
}
