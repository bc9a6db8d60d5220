//! Sticks: block devices of the kernel (loop devices), with a file system in a file.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

use crate::program::run;

/// Sectors of 512 bytes before the partition.
const BEFORE: u64 = 2048;

/// A stick in a port of this machine. Its drop pulls it.
#[derive(Debug)]
pub struct Stick {
    file: Utf8PathBuf,
    /// `/dev/loopN`
    disk: Utf8PathBuf,
    /// The disk, or its partition.
    device: Utf8PathBuf,
}

impl Stick {
    /// Makes a stick of this size in bytes with one partition, which has an empty ext4 with this label.
    ///
    /// # Panics
    /// Panics if a program fails, e.g. because it is not root.
    #[must_use]
    pub fn partitioned(file: &Utf8Path, size: u64, label: &str) -> Stick {
        let disk = fs_err::File::create(file).expect("a file in our own directory");
        disk.set_len(size).expect("a sparse file");
        let stick = Stick::plug(file, &[]).with_partition();
        let mut command = Command::new("mkfs.ext4");
        command.args(["-q", "-L", label, stick.device.as_str()]);
        drop(run(command).succeeded());
        stick
    }

    /// Makes a stick without partitions that cannot be written: a squashfs with the content of a directory.
    ///
    /// # Panics
    /// Panics if a program fails, e.g. because it is not root.
    #[must_use]
    pub fn squashfs(file: &Utf8Path, content: &Utf8Path) -> Stick {
        let mut command = Command::new("mksquashfs");
        command.args([content.as_str(), file.as_str(), "-quiet", "-no-progress", "-noappend"]);
        command.args(["-comp", "gzip", "-noD"]);
        drop(run(command).succeeded());
        Stick::plug(file, &["--read-only"])
    }

    /// Puts the file of a stick that was pulled into a free port.
    ///
    /// # Panics
    /// Panics if there is no free one.
    #[must_use]
    pub fn plug(file: &Utf8Path, options: &[&str]) -> Stick {
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--partscan"]).args(options).arg(file);
        let disk = Utf8PathBuf::from(run(command).succeeded().stdout().trim());
        Stick {
            file: file.to_owned(),
            device: disk.clone(),
            disk,
        }
    }

    /// Returns the stick with one partition, from the first mebibyte to its end. The test tells the kernel of it, which
    /// may know no partition tables.
    ///
    /// # Panics
    /// Panics if the kernel refuses it.
    #[must_use]
    pub fn with_partition(mut self) -> Stick {
        let size = fs_err::metadata(&self.file).expect("our own file").len();
        let mut command = Command::new("addpart");
        let (begin, length) = (BEFORE.to_string(), (size / 512 - BEFORE).to_string());
        command.args([self.disk.as_str(), "1", &begin, &length]);
        drop(run(command).succeeded());
        self.device = Utf8PathBuf::from(format!("{}p1", self.disk));
        self
    }

    /// Returns the file behind the stick.
    #[must_use]
    pub fn file(&self) -> &Utf8Path {
        &self.file
    }

    /// Returns the block device with the file system.
    #[must_use]
    pub fn device(&self) -> &Utf8Path {
        &self.device
    }

    /// Breaks the contact: every read of the device fails from now on. The file is moved away, to be plugged again.
    ///
    /// # Panics
    /// Panics if the file cannot be copied.
    pub fn break_contact(&self, moved: &Utf8Path) {
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", self.file.as_str(), moved.as_str()]);
        drop(run(copy).succeeded());
        let file = fs_err::OpenOptions::new().write(true).open(&self.file);
        file.expect("our own file").set_len(0).expect("our own file");
    }

    /// Returns true while the kernel has the stick: a file system of it that is mounted somewhere keeps it.
    ///
    /// # Panics
    /// Panics if losetup fails.
    #[must_use]
    pub fn is_in_use_after_pull(&self) -> bool {
        self.detach();
        let mut command = Command::new("losetup");
        command.args(["--noheadings", "--output", "NAME,BACK-FILE", "--list"]);
        let listed = run(command).succeeded().stdout();
        listed.lines().any(|line| line.contains(self.file.as_str()))
    }

    fn detach(&self) {
        let mut command = Command::new("losetup");
        command.args(["--detach", self.disk.as_str()]);
        // It may be gone already.
        drop(run(command));
    }
}

impl Drop for Stick {
    fn drop(&mut self) {
        self.detach();
    }
}
