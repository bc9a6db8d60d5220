//! The lock that allows one agent per state directory, and shows others that an agent runs. It is a lock on a file,
//! which the kernel releases when a process is killed.

use std::fs::TryLockError;
use std::io;
use std::time::Duration;

use anyhow::bail;
use camino::Utf8Path;
use landfall_net::state_file::clear_for_writing;
use landfall_oci::store::lock_holder::find_holder;

/// The name of the lock file in the state directory.
pub(crate) const FILE_NAME: &str = "agent.lock";

/// The time to wait for the lock. A process that checks for an agent holds the lock briefly, and an agent that ends
/// releases it a moment later.
const PATIENCE: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_millis(20);

/// The lock, held as long as an agent runs.
#[derive(Debug)]
pub(crate) struct RunLock(#[expect(dead_code, reason = "its lock is let go with it")] fs_err::File);

impl RunLock {
    /// Takes the lock of an existing state directory.
    ///
    /// # Errors
    ///
    /// If another agent holds the lock, or the file cannot be created.
    pub(crate) async fn acquire(state_dir: &Utf8Path) -> anyhow::Result<RunLock> {
        let path = state_dir.join(FILE_NAME);
        drop(clear_for_writing(&path));
        let mut options = fs_err::OpenOptions::new();
        let made = options.create(true).truncate(false).write(true).open(&path);
        // A full or read-only disk must not stop the agent: then the directory itself has the lock.
        let file = made.or_else(|error| open_lock(state_dir).map_err(|_| error))?;
        let give_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            match file.file().try_lock() {
                Ok(()) => return Ok(RunLock(file)),
                Err(TryLockError::Error(error)) => return Err(error.into()),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < give_up => {
                    tokio::time::sleep(INTERVAL).await;
                }
                Err(TryLockError::WouldBlock) => {
                    bail!("another agent runs with this state directory: `{path}` is locked");
                }
            }
        }
    }
}

/// Returns true if an agent runs with this state directory.
///
/// # Errors
///
/// If the lock file exists and cannot be read.
pub(crate) fn is_running(state_dir: &Utf8Path) -> io::Result<bool> {
    let file = match open_lock(state_dir) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match file.file().try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Finds the process of the agent that runs with this state directory, as far as the kernel tells.
pub(crate) fn find_agent(state_dir: &Utf8Path) -> Option<u32> {
    let holder = find_holder(&open_lock(state_dir).ok()?)?;
    Some(holder.pid)
}

/// Opens the lock file, or the directory that has the lock in its place.
fn open_lock(state_dir: &Utf8Path) -> io::Result<fs_err::File> {
    match fs_err::File::open(state_dir.join(FILE_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs_err::File::open(state_dir),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use camino::Utf8PathBuf;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn second_agent_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
        assert!(!is_running(&path).unwrap());
        let first = RunLock::acquire(&path).await.unwrap();
        assert!(is_running(&path).unwrap());
        assert_eq!(find_agent(&path), Some(std::process::id()));
        let refused = RunLock::acquire(&path).await.unwrap_err();
        assert!(refused.to_string().starts_with("another agent runs"), "{refused}");
        drop(first);
        assert!(!is_running(&path).unwrap());
        RunLock::acquire(&path).await.unwrap();
    }
}
