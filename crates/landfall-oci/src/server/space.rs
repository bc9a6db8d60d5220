//! The free space that uploads must leave: below it they are refused, while pulls, deletions and the collection of
//! garbage go on. What is kept free is what those need to write.

use rustix::fs::statvfs;

use crate::server::Registry;
use crate::store::ContentStore;
use crate::store::error::StoreError;

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
    fn of_disk(self, total: u64) -> u64 {
        self.bytes.min(total / 20)
    }
}

/// How large a store's disk is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disk {
    /// What everybody may still fill, in bytes.
    pub(super) free: u64,
    /// In bytes.
    pub(super) total: u64,
}

impl Disk {
    pub(super) fn of(store: &ContentStore) -> Result<Disk, StoreError> {
        let disk = statvfs(store.root().as_std_path()).map_err(|errno| StoreError::Disk(errno.into()))?;
        Ok(Disk {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }
}

impl Registry {
    /// Refuses bytes for which there is no room.
    pub(super) fn check_space(&self, incoming: u64) -> Result<(), StoreError> {
        let Disk { free, total } = Disk::of(&self.store)?;
        let floor = self.floor.of_disk(total);
        if free < floor.saturating_add(incoming) {
            return Err(StoreError::NoSpace { free, floor, incoming });
        }
        Ok(())
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
