//! Minimum of free disk space. Below it the registry rejects uploads, while pulls, deletions and garbage collection
//! continue: the reserve is for their writes.

use landfall_oci::store::ContentStore;
use landfall_oci::store::error::StoreError;
use rustix::fs::statvfs;

/// Free space that uploads must leave. On a small disk it is at most a twentieth of the disk.
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
    pub(crate) fn for_disk(self, total: u64) -> u64 {
        self.bytes.min(total / 20)
    }
}

/// Size of the disk of a store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskSpace {
    /// Bytes available to unprivileged users.
    pub(crate) free: u64,
    /// Total bytes.
    pub(crate) total: u64,
}

impl DiskSpace {
    pub(crate) fn of(store: &ContentStore) -> Result<DiskSpace, StoreError> {
        let disk = statvfs(store.root().as_std_path()).map_err(|errno| StoreError::Disk(errno.into()))?;
        Ok(DiskSpace {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
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
}
