//! A small file system in memory, to be filled.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::program::run;

/// A file system in memory, unmounted on drop. Needs root.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts a file system with these options of tmpfs(5), for example `size=24m`.
    ///
    /// # Panics
    /// Panics if it cannot be mounted.
    #[must_use]
    pub fn mount(options: &str) -> SmallDisk {
        let disk = SmallDisk {
            directory: tempfile::tempdir().expect("a temporary directory"),
        };
        disk.call_mount(options);
        disk
    }

    /// Gives the file system other limits. Its files stay.
    ///
    /// # Panics
    /// Panics if it cannot be mounted again.
    pub fn remount(&self, options: &str) {
        self.call_mount(&format!("remount,{options}"));
    }

    /// # Panics
    /// Never: temporary directories have UTF-8 names.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("a temporary directory with a UTF-8 name")
    }

    /// Returns the number of free bytes.
    ///
    /// # Panics
    /// Panics if the file system is gone.
    #[must_use]
    pub fn free(&self) -> u64 {
        let disk = rustix::fs::statvfs(self.path().as_std_path()).expect("a mounted file system");
        disk.f_bavail * disk.f_frsize
    }

    /// Writes a file that takes all free space, and returns its path.
    ///
    /// # Panics
    /// Panics if the file cannot be created.
    #[must_use]
    pub fn fill(&self) -> Utf8PathBuf {
        let hog = self.path().join("hog");
        let length = usize::try_from(self.free()).expect("a small file system");
        // Another byte than there is room for.
        fs_err::write(&hog, vec![0; length + 1]).expect_err("the file system is full");
        hog
    }

    fn call_mount(&self, options: &str) {
        let mut command = Command::new("mount");
        command
            .args(["-t", "tmpfs", "-o", options, "landfall-test"])
            .arg(self.path().as_std_path());
        drop(run(command).succeeded());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg(self.path().as_std_path());
        drop(run(command));
    }
}
