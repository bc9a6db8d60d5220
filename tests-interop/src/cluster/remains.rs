//! What a cluster leaves outside of its namespaces, and how it is removed: by the cluster itself at its end, and again by
//! `make cluster-down`, should the cluster have been killed.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use crate::poll::try_wait_for;
use crate::program::run;

const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Names that follow from the cluster's directory alone.
#[derive(Debug, Clone)]
pub struct Remains {
    directory: Utf8PathBuf,
    seed: u32,
    bridge: String,
    control_group: String,
}

impl Remains {
    /// Those of the cluster in this directory.
    #[must_use]
    pub fn of(directory: &Utf8Path) -> Remains {
        // FNV-1a: directories differ in a few characters.
        let seed = directory.as_str().bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        Remains {
            directory: directory.to_owned(),
            seed,
            bridge: format!("lf{seed:08x}"),
            control_group: format!("/landfall-test-cluster-{seed:08x}"),
        }
    }

    /// A number of this cluster's.
    #[must_use]
    pub fn seed(&self) -> u32 {
        self.seed
    }

    /// The bridge of its pods.
    #[must_use]
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// The control group that all its containers are in, in every hierarchy.
    #[must_use]
    pub fn control_group(&self) -> &str {
        &self.control_group
    }

    /// Removes them all; nothing of the cluster may run any more.
    ///
    /// # Panics
    /// When a control group or the directory cannot be removed.
    pub fn remove(&self) {
        let mut link = Command::new("ip");
        link.args(["link", "delete", &self.bridge]);
        // It may not have come to be.
        drop(run(link));
        for hierarchy in [
            "", "cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd", "unified",
        ] {
            let group = Utf8Path::new(CONTROL_GROUPS)
                .join(hierarchy)
                .join(self.control_group.trim_start_matches('/'));
            // A process that was killed leaves its group a moment later.
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

/// Removes a control group and those below it. Their files cannot be removed, and need not be.
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

/// Deepest first.
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
