//! Sticks: block devices with a label of ours, mounted for reading below the state directory.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::process::{Command, Stdio};
use std::sync::Arc;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_host::root::HostRoot;

use crate::agent::host::Host;
use crate::state_dir::STICKS;

/// Labels of file systems with bundles: Landfall's own, and that of Palette's images.
const LABELS: [&str; 2] = ["LANDFALL", "COS_CONTENT"];
/// Directories in which udev links devices by a label: that of the file system, and that of the partition, for file
/// systems without one, e.g. squashfs.
const BY_LABEL: [&str; 2] = ["/dev/disk/by-label", "/dev/disk/by-partlabel"];
/// Directory with the kernel's knowledge of block devices.
const BLOCK_DEVICES: &str = "/sys/class/block";
/// Nothing on a stick is run, and no device or owner on it counts.
const OPTIONS: &str = "ro,nosuid,nodev,noexec";

/// The part of the system that mounts.
pub(super) trait Mounter: fmt::Debug + Send + Sync {
    /// Mounts a device for reading. Blocks.
    fn mount(&self, device: &Utf8Path, target: &Utf8Path) -> io::Result<()>;

    /// Unmounts a file system that is not in use. Blocks.
    fn unmount(&self, target: &Utf8Path) -> io::Result<()>;

    /// Unmounts, also if the device is gone or in use. Blocks.
    fn detach(&self, target: &Utf8Path) -> io::Result<()>;
}

/// The system's own `mount`, which knows the types of file systems.
#[derive(Debug)]
struct SystemMounter;

impl Mounter for SystemMounter {
    fn mount(&self, device: &Utf8Path, target: &Utf8Path) -> io::Result<()> {
        run("mount", &["-o", OPTIONS, "--", device.as_str(), target.as_str()])
    }

    fn unmount(&self, target: &Utf8Path) -> io::Result<()> {
        run("umount", &["--", target.as_str()])
    }

    fn detach(&self, target: &Utf8Path) -> io::Result<()> {
        run("umount", &["-l", "--", target.as_str()])
    }
}

/// Links in the place of mounts, below a root that is not the running host.
#[derive(Debug)]
struct LinkMounter;

impl Mounter for LinkMounter {
    fn mount(&self, device: &Utf8Path, target: &Utf8Path) -> io::Result<()> {
        fs::remove_dir(target)?;
        std::os::unix::fs::symlink(device, target)
    }

    fn unmount(&self, target: &Utf8Path) -> io::Result<()> {
        fs::remove_file(target)
    }

    fn detach(&self, target: &Utf8Path) -> io::Result<()> {
        self.unmount(target)
    }
}

fn run(program: &str, arguments: &[&str]) -> io::Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}

/// A block device with a label of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) path: Utf8PathBuf,
    /// Number that the kernel gives each medium once: another stick may come under the same path.
    pub(super) medium: Option<String>,
}

/// Returns the devices with a label of ours.
pub(super) fn list_labels(root: &HostRoot) -> Vec<(&'static str, Device)> {
    let directories: Vec<_> = BY_LABEL
        .iter()
        .filter_map(|directory| root.join(Utf8Path::new(directory)).ok())
        .collect();
    let device = |label: &'static str| {
        let mut links = directories.iter().map(|directory| directory.join(label));
        let path = links.find_map(|link| link.canonicalize_utf8().ok())?;
        let medium = medium_of(root, &path);
        Some((label, Device { path, medium }))
    };
    LABELS.into_iter().filter_map(device).collect()
}

/// Returns the directory in which each stick has a mount point, under its label.
pub(super) fn mount_points(host: &Host) -> Utf8PathBuf {
    host.state_dir.join(STICKS)
}

/// Returns the number of the medium in a device, or in the device of which it is a partition. `None` before Linux 5.15.
fn medium_of(root: &HostRoot, device: &Utf8Path) -> Option<String> {
    let directory = root.join(Utf8Path::new(BLOCK_DEVICES)).ok()?;
    let own = directory.join(device.file_name()?).canonicalize_utf8().ok()?;
    let mut files = [own.as_path(), own.parent()?]
        .map(|path| path.join("diskseq"))
        .into_iter();
    let number = files.find_map(|path| fs::read_to_string(path).ok())?;
    Some(number.trim().to_owned())
}

/// The sticks of this host.
#[derive(Debug)]
pub(super) struct Sticks {
    directory: Utf8PathBuf,
    mounter: Arc<dyn Mounter>,
    /// Mounted sticks: label to device and mount point.
    mounted: BTreeMap<&'static str, (Device, Utf8PathBuf)>,
    /// Sticks from which everything was taken, until they are pulled.
    done: BTreeMap<&'static str, Device>,
}

impl Sticks {
    pub(super) fn new(host: &Host) -> Sticks {
        let mounter: Arc<dyn Mounter> = match host.root.is_running_host() {
            true => Arc::new(SystemMounter),
            false => Arc::new(LinkMounter),
        };
        Sticks {
            directory: mount_points(host),
            mounter,
            mounted: BTreeMap::new(),
            done: BTreeMap::new(),
        }
    }

    /// Returns the mount points.
    pub(super) fn mounted(&self) -> impl Iterator<Item = &Utf8PathBuf> {
        self.mounted.values().map(|(_, target)| target)
    }

    /// Returns the places where the sticks were mounted from which everything was taken, until they are pulled.
    pub(super) fn done(&self) -> impl Iterator<Item = Utf8PathBuf> {
        self.done.keys().map(|label| self.directory.join(label))
    }

    /// Mounts new sticks and unmounts those that were pulled. Returns the mount points. A stick that cannot be mounted is
    /// logged, and tried again in the next pass.
    pub(super) async fn mount(&mut self, host: &Host, is_wanted: bool) -> Vec<Utf8PathBuf> {
        let found: BTreeMap<_, _> = match is_wanted {
            true => list_labels(&host.root).into_iter().collect(),
            false => BTreeMap::new(),
        };
        self.done.retain(|label, device| found.get(label) == Some(device));
        let pulled = self
            .mounted
            .extract_if(.., |label, (device, _)| found.get(label) != Some(device));
        let pulled: Vec<_> = pulled.map(|(_, (_, target))| target).collect();
        for target in pulled {
            self.call(target, |mounter, target| mounter.detach(target)).await;
        }
        for (label, device) in found {
            if self.mounted.contains_key(label) || self.done.contains_key(label) {
                continue;
            }
            let target = self.directory.join(label);
            let (mounter, from, to) = (self.mounter.clone(), device.path.clone(), target.clone());
            let mounted = tokio::task::spawn_blocking(move || mount_at(&*mounter, &from, &to)).await;
            match mounted.map_err(io::Error::other).flatten() {
                Ok(()) => drop(self.mounted.insert(label, (device, target))),
                Err(error) => tracing::warn!(device = %device.path, %error, "a stick cannot be mounted"),
            }
        }
        self.mounted().cloned().collect()
    }

    /// Unmounts a stick from which everything was taken. It can be pulled without loss. A pod that still reads from it
    /// delays the end of the file system, not that of the mount.
    pub(super) async fn release(&mut self, target: &Utf8Path) {
        let released = self.mounted.extract_if(.., |_, (_, mounted)| mounted == target);
        let released: Vec<_> = released.collect();
        for (label, (device, target)) in released {
            self.done.insert(label, device);
            let unmount = |mounter: &dyn Mounter, target: &Utf8Path| {
                mounter.unmount(target).or_else(|_in_use| mounter.detach(target))
            };
            self.call(target, unmount).await;
        }
    }

    async fn call(
        &self,
        target: Utf8PathBuf,
        unmount: impl Fn(&dyn Mounter, &Utf8Path) -> io::Result<()> + Send + 'static,
    ) {
        let mounter = self.mounter.clone();
        let unmounted = tokio::task::spawn_blocking(move || unmount(&*mounter, &target)).await;
        if let Err(error) = unmounted.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "a stick cannot be unmounted");
        }
    }
}

impl Drop for Sticks {
    fn drop(&mut self) {
        for target in self.mounted() {
            if let Err(error) = self.mounter.detach(target) {
                tracing::warn!(%error, "a stick cannot be unmounted");
            }
        }
    }
}

/// Mounts a device at a directory, which is made if it is missing. A mount that a killed agent left is ended first.
fn mount_at(mounter: &dyn Mounter, device: &Utf8Path, target: &Utf8Path) -> io::Result<()> {
    if fs::symlink_metadata(target).is_ok() {
        // There is usually nothing to unmount.
        drop(mounter.detach(target));
    }
    fs::create_dir_all(target)?;
    mounter.mount(device, target)
}
