//! Minimum of free disk space. Below it the store takes no blobs, while reads, deletions, garbage collection and the
//! small files beside the store continue: the reserve is for their writes.

use camino::Utf8Path;
use rustix::fs::statvfs;

use crate::store::error::StoreError;

/// Free space that new blobs must leave. On a small disk it is at most a twentieth of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinFreeSpace {
    pub bytes: u64,
}

impl Default for MinFreeSpace {
    fn default() -> MinFreeSpace {
        MinFreeSpace {
            bytes: 64 * 1024 * 1024,
        }
    }
}

impl MinFreeSpace {
    /// Returns the minimum for a disk of `total` bytes.
    #[must_use]
    pub fn for_disk(self, total: u64) -> u64 {
        self.bytes.min(total / 20)
    }
}

/// Size of a disk.
#[derive(Debug, Clone, Copy)]
pub struct DiskSpace {
    /// Bytes available to unprivileged users.
    pub free: u64,
    /// Total bytes.
    pub total: u64,
}

impl DiskSpace {
    /// Returns the size of the disk with this path.
    ///
    /// # Errors
    /// If the system call fails.
    pub fn of(path: &Utf8Path) -> Result<DiskSpace, StoreError> {
        let disk = statvfs(path.as_std_path()).map_err(|errno| StoreError::Disk(errno.into()))?;
        Ok(DiskSpace {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    /// Checks that `incoming` bytes leave the minimum of free space.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`] if they do not.
    pub fn check_room(self, min_free: MinFreeSpace, incoming: u64) -> Result<(), StoreError> {
        let floor = min_free.for_disk(self.total);
        if self.free < floor.saturating_add(incoming) {
            return Err(StoreError::NoSpace {
                free: self.free,
                floor,
                incoming,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_disk_keeps_a_twentieth() {
        let floor = MinFreeSpace { bytes: 1000 };
        assert_eq!((floor.for_disk(1_000_000), floor.for_disk(2000)), (1000, 100));
    }

    #[test]
    fn incoming_bytes_have_room_down_to_the_minimum() {
        let disk = DiskSpace {
            free: 700,
            total: 100_000,
        };
        let min_free = MinFreeSpace { bytes: 500 };
        for (incoming, has_room) in [(0, true), (199, true), (200, true), (201, false), (u64::MAX, false)] {
            match disk.check_room(min_free, incoming) {
                Ok(()) => assert!(has_room, "{incoming}"),
                Err(error) => {
                    assert!(!has_room, "{incoming}");
                    assert_eq!(
                        error.to_string(),
                        format!(
                            "no room for {incoming} more bytes: the disk has 700 bytes free, of which 500 are kept"
                        )
                    );
                }
            }
        }
    }
}
