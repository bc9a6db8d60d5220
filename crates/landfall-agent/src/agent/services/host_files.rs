//! Files that make the kubelet and the container runtime use the registries of the configuration, and a look at these
//! programs: do they read the files [spec:mirror-files.effective]?

use std::collections::BTreeSet;

use camino::Utf8PathBuf;
use landfall_core::failure::line_with_hint;
use landfall_core::hostconf::containerd_config::{MirrorReading, ReadingState, read_wanted_mirror_files};
use landfall_core::hostconf::kubelet_plugin::{KubeletLogins, LoginState, needs_plugin, read_kubelet};
use landfall_core::hostconf::kubelet_pulls::{PreloadRefusal, find_refusal};
use landfall_core::hostconf::{HostFacts, HostFile, render_for};
use landfall_core::settings::{Dialect, Settings};
use landfall_core::status::{EventReason, KubeletLoginsStatus, KubeletPreloadsStatus, MirrorFilesStatus};
use landfall_host::managed::{ManagedChanges, ManagedFiles};
use landfall_host::node_facts::{find_host_facts, find_kubelet, find_kubelet_config};

use crate::agent::host::Host;

/// The files that redirect the pulls of this node.
#[derive(Debug, Default)]
pub(crate) struct HostFiles {
    /// Foreign files found at paths that the agent manages, and already reported.
    reported: BTreeSet<Utf8PathBuf>,
    /// The reported state of the mirror files.
    mirror_files: Option<MirrorReading>,
    /// The reported state of the kubelet's logins.
    kubelet_logins: Option<KubeletLogins>,
    /// The reported refusal of preloaded images.
    preload_refusal: Option<PreloadRefusal>,
}

impl HostFiles {
    /// Writes the files that the settings ask for, removes its own other files, and leaves foreign files alone. The
    /// kubelet and containerd read these files at every pull: nothing has to be restarted but containerd, once, where a
    /// drop-in is new. Then it reports if they read them.
    ///
    /// # Errors
    ///
    /// If a file cannot be read or written.
    pub(crate) async fn ensure(&mut self, host: &Host, settings: &Settings) -> anyhow::Result<()> {
        let facts = match settings.landfall.mirror.files.is_empty() {
            true => HostFacts::default(),
            false => find_host_facts(&host.root, &settings.landfall.containerd_config, None).await,
        };
        for (dialect, files) in wanted_files(settings, &facts) {
            let managed = ManagedFiles::new(host.root.clone(), &host.state_dir);
            let changes = tokio::task::spawn_blocking(move || managed.apply(dialect.name(), &files)).await??;
            report_changes(host, dialect, &changes, &mut self.reported).await;
        }
        self.report_mirror_files(host, settings, &facts).await;
        self.report_kubelet_logins(host, settings).await
    }

    async fn report_mirror_files(&mut self, host: &Host, settings: &Settings, facts: &HostFacts) {
        let reading = read_wanted_mirror_files(settings, &facts.containerd);
        let shown = reading.as_ref().map(MirrorFilesStatus::from);
        host.status.update(|status| status.mirror_files = shown);
        if reading == self.mirror_files {
            return;
        }
        if let Some(reading) = &reading {
            let subject = settings.landfall.containerd_config.as_str();
            match reading.state {
                ReadingState::Read | ReadingState::AfterRestart => {
                    host.note(EventReason::MirrorFilesRead, subject, &*reading.message)
                        .await;
                }
                ReadingState::NotRead | ReadingState::Unknown => {
                    let hint = (!reading.lines.is_empty()).then_some(
                        "`landfall redirect render --for containerd` and `landfall status -o json` show the lines",
                    );
                    let message = line_with_hint(&reading.message, hint);
                    host.warn(EventReason::MirrorFilesNotRead, subject, message).await;
                }
            }
        }
        self.mirror_files = reading;
    }

    /// Reports if the kubelet calls the credential provider. Without a kubelet there is nothing to act on.
    async fn report_kubelet_logins(&mut self, host: &Host, settings: &Settings) -> anyhow::Result<()> {
        let is_wanted = settings.landfall.kubelet_enable && needs_plugin(settings);
        let logins = match is_wanted {
            true => {
                let root = host.root.clone();
                Some(read_kubelet(
                    &tokio::task::spawn_blocking(move || find_kubelet(&root)).await?,
                ))
            }
            false => None,
        };
        let shown = logins.as_ref().map(|logins| KubeletLoginsStatus {
            state: logins.state,
            message: line_with_hint(&logins.message, logins.hint),
        });
        host.status.update(|status| status.kubelet_logins = shown);
        if logins == self.kubelet_logins {
            return Ok(());
        }
        if let Some(logins) = &logins {
            match logins.state {
                LoginState::Ready => {
                    host.note(EventReason::KubeletLoginsReady, "kubelet", &*logins.message)
                        .await;
                }
                LoginState::NotReady => {
                    let message = line_with_hint(&logins.message, logins.hint);
                    host.warn(EventReason::KubeletLoginsMissing, "kubelet", message).await;
                }
                LoginState::Unknown => {}
            }
        }
        self.kubelet_logins = logins;
        Ok(())
    }
}

impl HostFiles {
    /// Reports if the kubelet does not start preloaded images without their registry. `preloaded` are their names.
    ///
    /// # Errors
    ///
    /// If the agent is being stopped.
    pub(crate) async fn report_preloads(&mut self, host: &Host, preloaded: Vec<String>) -> anyhow::Result<()> {
        let root = host.root.clone();
        let find = move || find_refusal(&find_kubelet_config(&root), &preloaded);
        let refusal = tokio::task::spawn_blocking(find).await?;
        let shown = refusal.as_ref().map(|refusal| KubeletPreloadsStatus {
            refusal: refusal.clone(),
            message: line_with_hint(refusal.message(), Some(refusal.hint())),
        });
        if refusal == self.preload_refusal {
            return Ok(());
        }
        if let Some(shown) = &shown {
            host.warn(EventReason::KubeletRefusesPreloads, "kubelet", shown.message.clone())
                .await;
        }
        host.status.update(|status| status.kubelet_preloads = shown);
        self.preload_refusal = refusal;
        Ok(())
    }
}

/// Returns the files of each dialect. The list is empty where the settings do not ask for files, so that earlier files
/// are removed.
fn wanted_files(settings: &Settings, facts: &HostFacts) -> Vec<(Dialect, Vec<HostFile>)> {
    let wanted = |dialect| match dialect {
        Dialect::Kubelet => settings.landfall.kubelet_enable,
        other => settings.landfall.mirror.files.contains(&other),
    };
    let files = |dialect| match wanted(dialect) {
        true => render_for(settings, dialect, facts).files,
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
