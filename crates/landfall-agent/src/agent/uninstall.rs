//! Removal of all that Landfall left: in the cluster, on the host, and in the state directory [spec:uninstall].
//!
//! The order is that of harm. The registration goes first, because the API server calls the webhook for every pod, and
//! the state directory last, because it lists the files. Each failure is a row of the report, and the rest goes on.

mod state_entries;
mod units;

use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::{Explanation, error_chain, line_with_hint};
use landfall_core::hostconf::kubelet::{BIN_DIRECTORY, CONFIG_PATH, PLUGIN};
use landfall_core::hostconf::kubelet_plugin::{CONFIG_FLAG, KubeletFacts};
use landfall_core::report::{UninstallKind, UninstallReport, UninstallRow, UninstallState};
use landfall_core::settings::Settings;
use landfall_host::files::remove_file;
use landfall_host::managed::{MANIFEST, ManagedFiles};
use landfall_host::node_facts::find_kubelet;
use landfall_host::removal::{is_mount_point, list_directory, read_link, remove_link, remove_tree};
use landfall_host::root::HostRoot;
use landfall_oci::store::ContentStore;
use landfall_oci::store::error::StoreError;
use landfall_registry::directories::RegistryDirs;

use self::state_entries::{Owner, owner_of};
use crate::agent::config_source::last_settings;
use crate::agent::inputs::LAST_GOOD;
use crate::cluster::{find_cluster, remove_from_cluster};
use crate::failure::error_line;
use crate::run_lock::{self, RunLock};
use crate::uploads;

/// The name of the program that the plug-in's link leads to.
const PROGRAM: &str = "landfall";

/// The options of [`uninstall`].
#[derive(Debug)]
pub struct UninstallOptions {
    /// The root of the host's file system.
    pub root: Utf8PathBuf,
    /// The state directory, as a path of this process.
    pub state_dir: Utf8PathBuf,
    /// True to keep the content store and the embedded registry.
    pub keep_images: bool,
    /// True to remove nothing.
    pub dry_run: bool,
    pub cluster: ClusterSide,
}

/// The part of the work in the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClusterSide {
    /// The cluster is not asked.
    LeaveAlone,
    Remove {
        /// The kubeconfig; that of the agent if `None`.
        kubeconfig: Option<Utf8PathBuf>,
        /// The namespace of Lease and Secret; that of the last configuration if `None`.
        namespace: Option<String>,
    },
}

/// Removes all that Landfall left, or tells what it would remove. Returns the report, and the access to a cluster that
/// was not asked, if the host has one.
///
/// # Errors
///
/// If an agent runs, or a process uses the content store: nothing is removed then.
pub async fn uninstall(options: UninstallOptions) -> anyhow::Result<(UninstallReport, Option<String>)> {
    let root = HostRoot::new(options.root.clone());
    let has_lock = options.state_dir.join(run_lock::FILE_NAME).exists();
    let lock = refuse_while_in_use(&options).await?;
    let settings = last_settings(&options.state_dir).unwrap_or_else(|| Arc::new(Settings::default()));
    let mut rows = Vec::new();
    let mut unasked = None;
    match &options.cluster {
        ClusterSide::LeaveAlone => unasked = find_cluster(&root, &settings.landfall.kubernetes),
        ClusterSide::Remove { kubeconfig, namespace } => {
            let mut access = settings.landfall.kubernetes.clone();
            if let Some(namespace) = namespace {
                access.namespace.clone_from(namespace);
            }
            match remove_from_cluster(&root, &access, kubeconfig.as_deref(), options.dry_run).await {
                Ok(removed) => rows.extend(removed),
                Err(error) => rows.push(UninstallRow {
                    what: UninstallKind::ClusterObject,
                    name: "the webhook's registration".to_owned(),
                    state: UninstallState::Left,
                    why: Some(error_line(&error)),
                }),
            }
        }
    }
    let dry_run = options.dry_run;
    let rows = tokio::task::spawn_blocking(move || {
        let mut removal = Removal {
            root: &root,
            dry_run: options.dry_run,
            has_lock,
            rows,
        };
        removal.remove_host_files(&options.state_dir);
        removal.remove_units();
        removal.remove_unfinished_uploads(&settings);
        removal.remove_state(&options.state_dir, options.keep_images);
        removal.rows
    })
    .await?;
    drop(lock);
    Ok((UninstallReport::new(dry_run, rows), unasked))
}

/// Takes the lock of the agent, so that none starts in the meantime, and looks at that of the content store: a registry
/// may serve it without an agent.
async fn refuse_while_in_use(options: &UninstallOptions) -> anyhow::Result<Option<RunLock>> {
    let state_dir = &options.state_dir;
    if !state_dir.is_dir() {
        return Ok(None);
    }
    let in_use = || {
        Explanation::new(
            format!("nothing is removed: an agent runs with the state directory `{state_dir}`"),
            "stop it (`systemctl stop landfall-agent`), and run the command again",
        )
    };
    if run_lock::is_running(state_dir)? {
        anyhow::bail!(in_use());
    }
    let store = RegistryDirs::of_agent(state_dir).store;
    if !options.keep_images
        && let Err(error @ StoreError::InUse { .. }) = ContentStore::serve_read_only(&store)
    {
        return Err(anyhow::Error::from(error).context("nothing is removed: the content store is in use"));
    }
    match options.dry_run {
        true => Ok(None),
        false => match RunLock::acquire(state_dir).await {
            Ok(lock) => Ok(Some(lock)),
            Err(error) => Err(error.context(in_use())),
        },
    }
}

/// The removal under way, and its report.
struct Removal<'a> {
    root: &'a HostRoot,
    dry_run: bool,
    /// True if the lock of the agent was there before this run took it.
    has_lock: bool,
    rows: Vec<UninstallRow>,
}

impl Removal<'_> {
    fn push(&mut self, what: UninstallKind, name: impl ToString, state: UninstallState, why: Option<String>) {
        let name = name.to_string();
        self.rows.push(UninstallRow { what, name, state, why });
    }

    fn keep(&mut self, what: UninstallKind, name: impl ToString, why: &str) {
        self.push(what, name, UninstallState::Kept, Some(why.to_owned()));
    }

    fn leave(&mut self, what: UninstallKind, name: impl ToString, why: String) {
        self.push(what, name, UninstallState::Left, Some(why));
    }

    /// Removes one thing, unless the run is dry. A failure is a row.
    fn remove<E: std::error::Error + 'static>(
        &mut self,
        what: UninstallKind,
        name: impl ToString,
        remove: impl FnOnce() -> Result<(), E>,
    ) {
        if self.dry_run {
            return self.push(what, name, UninstallState::WouldRemove, None);
        }
        match remove() {
            Ok(()) => self.push(what, name, UninstallState::Removed, None),
            Err(error) => self.leave(what, name, error_chain(&error)),
        }
    }

    fn has_failed(&self) -> bool {
        self.rows.iter().any(|row| row.state == UninstallState::Left)
    }

    /// Removes mirror files, login files and the configuration of the kubelet's plug-in, and the plug-in's link.
    fn remove_host_files(&mut self, state_dir: &Utf8Path) {
        let needed = self.kubelet_needs_plugin();
        let root = self.root;
        match ManagedFiles::new(root.clone(), state_dir).find_all() {
            Ok(found) => {
                for path in found.ours {
                    match &needed {
                        Some(why) if path == CONFIG_PATH => self.leave(UninstallKind::File, path, why.clone()),
                        _ => self.remove(UninstallKind::File, &path, || remove_file(root, &path).map(drop)),
                    }
                }
                for path in found.taken_over {
                    self.keep(UninstallKind::File, path, "its mark was removed: it is the user's");
                }
            }
            Err(error) => self.leave(UninstallKind::File, state_dir.join(MANIFEST), error_chain(&error)),
        }
        let link = Utf8Path::new(BIN_DIRECTORY).join(PLUGIN);
        match read_link(root, &link) {
            Ok(None) => {}
            Ok(Some(target)) if target.file_name() != Some(PROGRAM) => {
                self.keep(UninstallKind::Link, link, &format!("it leads to `{target}`"));
            }
            Ok(Some(_)) => match needed {
                Some(why) => self.leave(UninstallKind::Link, link, why),
                None => self.remove(UninstallKind::Link, &link, || remove_link(root, &link)),
            },
            Err(error) => self.leave(UninstallKind::Link, link, error_chain(&error)),
        }
    }

    /// Returns the reason why the kubelet needs configuration and plug-in: it does not start without files that its flags
    /// name.
    fn kubelet_needs_plugin(&self) -> Option<String> {
        let KubeletFacts::Found { reader, flags, .. } = find_kubelet(self.root) else {
            return None;
        };
        let is_needed = flags.config.is_some_and(|path| path == CONFIG_PATH)
            || flags.bin_directory.is_some_and(|path| path == BIN_DIRECTORY);
        is_needed.then(|| {
            line_with_hint(
                format_args!("`{reader}` runs with `--{CONFIG_FLAG}`, and would not start without it"),
                Some("take the two flags of the plug-in away, restart the kubelet, and run the command again"),
            )
        })
    }

    /// Removes the links by which systemd starts our units, and unit files that are those of this version.
    fn remove_units(&mut self) {
        let root = self.root;
        for directory in list_directory(root, Utf8Path::new(units::DIRECTORY)) {
            if !matches!(directory.extension(), Some("wants" | "requires")) {
                continue;
            }
            for (name, _) in units::UNITS {
                let link = directory.join(name);
                if let Ok(Some(_)) = read_link(root, &link) {
                    self.remove(UninstallKind::Link, &link, || remove_link(root, &link));
                }
            }
        }
        for (name, text) in units::UNITS {
            let file = Utf8Path::new(units::DIRECTORY).join(name);
            match root.read(&file) {
                Ok(None) => {}
                Ok(Some(content)) if content == text.as_bytes() => {
                    self.remove(UninstallKind::File, &file, || remove_file(root, &file).map(drop));
                }
                Ok(Some(_)) => self.keep(UninstallKind::File, file, "it differs from the unit of this version"),
                Err(error) => self.leave(UninstallKind::File, file, error_chain(&error)),
            }
        }
    }

    /// Removes the parts of bundles that were being uploaded. Complete bundles are the user's.
    fn remove_unfinished_uploads(&mut self, settings: &Settings) {
        let directory = settings.landfall.bundles.directory.join(uploads::DIRECTORY);
        if let Ok(path) = self.root.join(&directory)
            && path.is_dir()
        {
            self.remove(UninstallKind::Directory, &path, || remove_tree(&path));
        }
    }

    /// Removes our entries of the state directory, the lock of the agent last, and the directory if nothing is left.
    fn remove_state(&mut self, state_dir: &Utf8Path, keep_images: bool) {
        let mut names: Vec<String> = match state_dir.read_dir_utf8() {
            Ok(entries) => entries
                .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
                .collect(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.leave(UninstallKind::Directory, state_dir, error_chain(&error)),
        };
        names.sort_by_key(|name| (name == run_lock::FILE_NAME, name.clone()));
        // After a failure, the next run needs the list of the files and the configuration.
        let needed_again = match self.has_failed() {
            true => vec![MANIFEST, LAST_GOOD],
            false => Vec::new(),
        };
        let mut stays = false;
        for name in names {
            let path = state_dir.join(&name);
            if name == run_lock::FILE_NAME && !self.has_lock {
                if let Err(error) = remove_tree(&path) {
                    self.leave(UninstallKind::File, path, error_chain(&error));
                }
                continue;
            }
            let what = kind_of(&path);
            match owner_of(&name) {
                Owner::User => self.keep(what, path, "it is not Landfall's"),
                Owner::Images if keep_images => self.keep(what, path, "`--keep-images`"),
                Owner::State if needed_again.contains(&name.as_str()) => {
                    self.keep(
                        what,
                        path,
                        "the next run needs it, because something could not be removed",
                    );
                }
                Owner::State | Owner::Images => {
                    self.remove(what, &path, || remove_tree(&path));
                    continue;
                }
            }
            stays = true;
        }
        if !stays && matches!(is_mount_point(state_dir), Ok(true)) {
            self.keep(UninstallKind::Directory, state_dir, "a file system is mounted there");
        } else if !stays && !self.has_failed() {
            self.remove(UninstallKind::Directory, state_dir, || fs_err::remove_dir(state_dir));
        }
    }
}

fn kind_of(path: &Utf8Path) -> UninstallKind {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => UninstallKind::Directory,
        Ok(metadata) if metadata.is_symlink() => UninstallKind::Link,
        Ok(_) | Err(_) => UninstallKind::File,
    }
}
