//! The process that holds the lock of a directory, as the kernel shows it in `/proc`.

use std::fmt;
use std::os::unix::fs::MetadataExt;

use fs_err as fs;
use rustix::fs::{major, minor};

/// The process that holds a lock, as far as the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    pub pid: u32,
    /// Name of the program.
    pub program: Option<String>,
    pub user: Option<u32>,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        if let Some(program) = &self.program {
            write!(f, " (`{}`)", program.escape_default())?;
        }
        match self.user {
            Some(user) => write!(f, " of user {user}"),
            None => Ok(()),
        }
    }
}

/// Finds the process that holds the lock on this file.
#[must_use]
pub fn find_holder(lock: &fs::File) -> Option<LockHolder> {
    let metadata = lock.metadata().ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let device = (major(metadata.dev()), minor(metadata.dev()));
    let pid = parse_holder(&locks, device, metadata.ino())?;
    let process = format!("/proc/{pid}");
    let program = fs::read_to_string(format!("{process}/comm")).ok();
    Some(LockHolder {
        pid,
        program: program.map(|name| name.trim_end().to_owned()),
        user: fs::metadata(process).ok().map(|metadata| metadata.uid()),
    })
}

/// Finds the process with a `flock` on a file in the text of `/proc/locks` (proc_locks(5)). A process of another PID
/// namespace has the number 0 there.
fn parse_holder(locks: &str, device: (u32, u32), inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", device.0, device.1);
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, place, ..] if place == file => pid.parse().ok().filter(|pid| *pid != 0),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 77 fd:01:42 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 78 fd:01:43 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 79 fd:01:42 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 80 fd:01:42 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 fd:01:44 0 EOF\n";
        for (inode, expected) in [(42, Some(80)), (43, Some(78)), (44, None), (45, None)] {
            assert_eq!(parse_holder(locks, (0xfd, 1), inode), expected, "{inode}");
        }
        assert_eq!(parse_holder(locks, (0xfd, 2), 42), None);
    }
}
