//! Resources of a cluster outside of its namespaces, and their removal: by the cluster itself at its end, and
//! by `make cluster-down` if the cluster was killed.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use crate::poll::try_wait_for;
use crate::program::run;

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Names of the resources. They depend on the directory of the cluster alone.
#[derive(Debug, Clone)]
pub struct HostResources {
    directory: Utf8PathBuf,
    seed: u32,
    bridge: String,
    control_group: String,
}

impl HostResources {
    /// Returns the names for the cluster in this directory.
    #[must_use]
    pub fn of(directory: &Utf8Path) -> HostResources {
        // FNV-1a: directories differ in a few characters.
        let seed = directory.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        HostResources {
            directory: directory.to_owned(),
            seed,
            bridge: format!("lf{seed:08x}"),
            control_group: format!("/landfall-test-cluster-{seed:08x}"),
        }
    }

    /// Returns a number that identifies the cluster.
    #[must_use]
    pub fn seed(&self) -> u32 {
        self.seed
    }

    /// Returns the name of the bridge of the pods.
    #[must_use]
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Returns the control group of all containers, in every hierarchy.
    #[must_use]
    pub fn control_group(&self) -> &str {
        &self.control_group
    }

    /// Removes all resources. No process of the cluster may run any more.
    ///
    /// # Panics
    /// Panics if a control group or the directory cannot be removed.
    pub fn remove(&self) {
        let mut link = Command::new("ip");
        link.args(["link", "delete", &self.bridge]);
        // The bridge may not exist yet.
        drop(run(link));
        for hierarchy in [
            "", "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "unified",
        ] {
            let group = Utf8Path::new(CONTROL_GROUPS)
                .join(hierarchy)
                .join(self.control_group.trim_start_matches('/'));
            // A killed process leaves its control group a moment later.
            let removed = try_wait_for(|| remove_group(&group).ok());
            assert!(removed.is_some(), "cannot remove the control group {group}");
        }
        for mount in mounts_below(&self.directory) {
            let mut command = Command::new("umount");
            command.args(["--lazy", &mount]);
            drop(run(command));
        }
        if self.directory.exists() {
            fs_err::remove_dir_all(&self.directory).expect("a directory of our own, with nothing mounted below");
        }
    }
}

/// Removes a control group and its descendants. The kernel removes their files itself.
fn remove_group(group: &Utf8Path) -> std::io::Result<()> {
    if !group.exists() {
        return Ok(());
    }
    for entry in group.read_dir_utf8()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(entry.path())?;
        }
    }
    fs_err::remove_dir(group)
}

/// Returns the mount points below a directory, deepest first.
fn mounts_below(directory: &Utf8Path) -> Vec<String> {
    let table = fs_err::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut mounts: Vec<String> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .filter(|target| Utf8Path::new(target).starts_with(directory))
        .map(str::to_owned)
        .collect();
    mounts.reverse();
    mounts
}
