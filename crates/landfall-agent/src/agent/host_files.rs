//! Part of the redirect phase: the files by which kubelet and container runtime are told of the registries.

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use landfall_core::config::Settings;
use landfall_core::hostconf::{Dialect, HostFile, render};
use landfall_core::status::EventReason;
use landfall_host::managed::{ManagedChanges, ManagedFiles};

use crate::agent::host::Host;
use crate::agent::reconciler::{ActiveConfig, Reconciler};

impl Reconciler {
    /// Writes what is wanted, removes what is no longer, and leaves alone what is the user's. The kubelet and containerd
    /// read these files at every pull: nothing has to be restarted.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub(super) async fn write_host_files(&mut self, active: &ActiveConfig) -> anyhow::Result<()> {
        for (dialect, files) in wanted_files(&active.settings) {
            let managed = ManagedFiles::new(self.host.root.clone(), &self.host.state_dir);
            let changes = tokio::task::spawn_blocking(move || managed.apply(dialect.name(), &files)).await??;
            tell_changes(&self.host, dialect, &changes, &mut self.kept_files).await;
        }
        Ok(())
    }
}

/// The files of each dialect; none where the settings do not ask for them, so that what was written is removed.
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

async fn tell_changes(host: &Host, dialect: Dialect, changes: &ManagedChanges, told: &mut BTreeSet<Utf8PathBuf>) {
    if !changes.is_empty() {
        let message = format!("{} written, {} removed", changes.written.len(), changes.removed.len());
        host.note(EventReason::HostFilesChanged, dialect.name(), message).await;
    }
    for path in &changes.kept {
        // Once: it is the user's decision, and holds until the file changes.
        if told.insert(path.clone()) {
            let message =
                "this file is not Landfall's and stays as it is; hint: remove it, and Landfall writes its own";
            host.warn(EventReason::HostFileKept, path.as_str(), message).await;
        }
    }
}
