//! A small file system that a test may fill. Only root can mount it.

use std::process::Command;

use camino::Utf8Path;

use crate::program::run;

/// A file system in memory, unmounted on drop.
#[derive(Debug)]
pub struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// Mounts one of this size, as `mount` writes sizes.
    ///
    /// # Panics
    /// If this program is not root.
    pub fn mount(size: &str) -> SmallDisk {
        let disk = SmallDisk {
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "landfall-test"])
            .arg(disk.path().as_std_path());
        drop(run(command).succeeded());
        disk
    }

    /// Returns its directory.
    ///
    /// # Panics
    /// If the directory for temporary files is not UTF-8.
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("a UTF-8 path")
    }

    /// Returns its free bytes.
    ///
    /// # Panics
    /// If the kernel does not tell.
    pub fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path().as_std_path()).expect("it is mounted");
        disk.f_bavail * disk.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg(self.path().as_std_path());
        drop(run(command));
    }
}
