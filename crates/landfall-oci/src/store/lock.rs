//! The lock of a store's directory.

use std::fs::TryLockError;
use std::io;
use std::os::unix::fs::PermissionsExt;

use camino::Utf8Path;
use fs_err as fs;
use fs_err::os::unix::fs::OpenOptionsExt;

use crate::store::error::StoreError;
use crate::store::lock_holder::find_holder;

const LOCK_FILE: &str = "lock";
/// Mode of the lock: a user who can open it can also hold it, and keep the store from being opened.
const MODE: u32 = 0o600;

/// Locks a store for this process alone. Closing the file ends the lock.
pub(super) fn lock_store(root: &Utf8Path) -> Result<fs::File, StoreError> {
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(MODE)
        .open(root.join(LOCK_FILE))?;
    // Earlier versions made the file readable for everyone. Only its owner may change that.
    if lock.metadata()?.permissions().mode() & 0o777 != MODE {
        drop(lock.set_permissions(std::fs::Permissions::from_mode(MODE)));
    }
    take(root, &lock, lock.file().try_lock())?;
    Ok(lock)
}

/// Locks a store against a process that writes, if it has a lock that can be opened. Writes nothing.
pub(super) fn lock_store_shared(root: &Utf8Path) -> Result<Option<fs::File>, StoreError> {
    let lock = match fs::File::open(root.join(LOCK_FILE)) {
        Ok(lock) => lock,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    take(root, &lock, lock.file().try_lock_shared())?;
    Ok(Some(lock))
}

fn take(root: &Utf8Path, lock: &fs::File, taken: Result<(), TryLockError>) -> Result<(), StoreError> {
    match taken {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse {
            root: root.to_owned(),
            holder: find_holder(lock),
        }),
        Err(TryLockError::Error(error)) => Err(StoreError::Disk(error)),
    }
}
