//! The free space that uploads must leave: below it they are refused, while pulls, deletions and the collection of
//! garbage go on. What is kept free is what those need to write.

use landfall_oci::store::ContentStore;
use landfall_oci::store::error::StoreError;
use rustix::fs::statvfs;

/// How much of the disk stays free, in bytes. Of a disk that is small, at most a twentieth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpaceFloor {
    /// In bytes.
    pub bytes: u64,
}

impl Default for SpaceFloor {
    fn default() -> SpaceFloor {
        SpaceFloor {
            bytes: 64 * 1024 * 1024,
        }
    }
}

impl SpaceFloor {
    /// What is kept free of a disk of `total` bytes.
    pub(crate) fn of_disk(self, total: u64) -> u64 {
        self.bytes.min(total / 20)
    }
}

/// How large a store's disk is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Disk {
    /// What everybody may still fill, in bytes.
    pub(crate) free: u64,
    /// In bytes.
    pub(crate) total: u64,
}

impl Disk {
    pub(crate) fn of(store: &ContentStore) -> Result<Disk, StoreError> {
        let disk = statvfs(store.root().as_std_path()).map_err(|errno| StoreError::Disk(errno.into()))?;
        Ok(Disk {
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
        let floor = SpaceFloor { bytes: 1000 };
        assert_eq!((floor.of_disk(1_000_000), floor.of_disk(2000)), (1000, 100));
    }
}
