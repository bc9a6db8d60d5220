//! Files that make the kubelet and the container runtime use the registries of the configuration.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use landfall_core::failure::line_with_hint;
use landfall_core::hostconf::{HostFile, render};
use landfall_core::settings::{Dialect, Settings};
use landfall_core::status::EventReason;
use landfall_host::managed::{ManagedChanges, ManagedFiles};

use crate::agent::host::Host;

/// The files that redirect the pulls of this node.
#[derive(Debug, Default)]
pub(crate) struct HostFiles {
    /// Foreign files found at paths that the agent manages, and already reported.
    reported: BTreeSet<Utf8PathBuf>,
}

impl HostFiles {
    /// Writes the files that the settings ask for, removes its own other files, and leaves foreign files alone. The
    /// kubelet and containerd read these files at every pull: nothing has to be restarted.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub(crate) async fn ensure(&mut self, host: &Host, settings: &Settings) -> anyhow::Result<()> {
        for (dialect, files) in wanted_files(settings) {
            let managed = ManagedFiles::new(host.root.clone(), &host.state_dir);
            let changes = tokio::task::spawn_blocking(move || managed.apply(dialect.name(), &files)).await??;
            report_changes(host, dialect, &changes, &mut self.reported).await;
        }
        Ok(())
    }
}

/// Returns the files of each dialect. The list is empty where the settings do not ask for files, so that earlier files
/// are removed.
fn wanted_files(settings: &Settings) -> Vec<(Dialect, Vec<HostFile>)> {
    let wanted = |dialect| match dialect {
        Dialect::Kubelet => settings.landfall.kubelet_enable,
        other => settings.landfall.mirror.files.contains(&other),
    };
    let files = |dialect| match wanted(dialect) {
        true => render(settings, dialect).files,
        false => Vec::new(),
    };
    let dialects = [Dialect::Kubelet, Dialect::Containerd, Dialect::K3s, Dialect::Rke2];
    dialects.map(|dialect| (dialect, files(dialect))).into()
}

async fn report_changes(host: &Host, dialect: Dialect, changes: &ManagedChanges, reported: &mut BTreeSet<Utf8PathBuf>) {
    host.report_aside(&changes.aside).await;
    if !changes.is_empty() {
        let message = format!("{} written, {} removed", changes.written.len(), changes.removed.len());
        host.note(EventReason::HostFilesChanged, dialect.name(), message).await;
    }
    for path in &changes.kept {
        // Each file is reported once: it is the user's decision, and holds until the file changes.
        if reported.insert(path.clone()) {
            let message = line_with_hint(
                "this file is not Landfall's and stays as it is",
                Some("remove it, and Landfall writes its own"),
            );
            host.warn(EventReason::HostFileKept, path.as_str(), message).await;
        }
    }
}
