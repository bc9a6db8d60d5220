//! The free space that uploads must leave: below it they are refused, while pulls, deletions and the collection of
//! garbage go on. What is kept free is what those need to write.

use landfall_oci::store::ContentStore;
use landfall_oci::store::error::StoreError;
use rustix::fs::statvfs;

/// How much of the disk stays free, in bytes. Of a disk that is small, at most a twentieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MinFreeSpace {
    /// In bytes.
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
    /// What is kept free of a disk of `total` bytes.
    pub(crate) fn for_disk(self, total: u64) -> u64 {
        self.bytes.min(total / 20)
    }
}

/// How large a store's disk is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DiskSpace {
    /// What everybody may still fill, in bytes.
    pub(crate) free: u64,
    /// In bytes.
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
