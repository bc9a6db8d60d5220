//! Admin socket: maintenance of a registry, served or not. `landfall registry gc`, `rm` and `verify --delete-damaged`
//! run a command themselves if no process holds the store's lock. Otherwise they send it to the process that does, over
//! a Unix socket in the store's directory.
//!
//! A command is a line of JSON, and so is its answer. No network reaches the socket. The kernel reports the peer's
//! user, and the registry accepts commands from root and from its own user only.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::failure::{Hint, error_chain};
use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::ContentStore;
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::repository::Registry;
use crate::repository::age_clock::READ_EVERY;
use crate::repository::directories::RegistryDirs;

/// Name of the socket, beside the store's `lock`.
const SOCKET: &str = "orders";
/// Size limit of a command, in bytes. The longest name, tag and digest together are a few hundred bytes.
const COMMAND_SIZE_MAX: u64 = 16 * 1024;
/// Timeout for reading a command. The next client waits meanwhile.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a failed `accept`.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A maintenance command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AdminCommand {
    /// Runs [`Registry::gc`].
    CollectGarbage {
        /// Age in seconds up to which a pushed blob is kept without a manifest.
        grace_seconds: u64,
    },
    /// Runs [`Registry::remove`].
    Remove {
        repository: Repository,
        /// A tag or a digest. `None` removes everything in the repository.
        selector: Option<String>,
    },
    /// Runs [`Registry::delete_damaged`].
    DeleteDamaged { digest: Digest },
}

/// Counts of what a command deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    pub tags: usize,
    /// Manifests removed from repositories.
    pub manifests: usize,
    /// Files deleted from the store.
    pub files: usize,
    /// Size of the deleted files, in bytes.
    pub bytes: u64,
}

/// Error of a maintenance command.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The store failed, or another process holds the store and has no admin socket.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process that holds the store does not answer.
    #[error("the process that serves the store `{root}` does not answer")]
    Unanswered {
        /// Directory of the store.
        root: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    /// The process that holds the store refused the command.
    #[error("the process that serves the store `{root}` answers: {message}")]
    Refused {
        /// Directory of the store.
        root: Utf8PathBuf,
        /// The message of that process.
        message: String,
    },
}

impl Hint for AdminError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            AdminError::Store(error) => error.hint(),
            AdminError::Unanswered { .. } | AdminError::Refused { .. } => None,
        }
    }
}

/// Runs a command on a registry, in the process that holds its store if there is one. Blocks until the command is done.
///
/// # Errors
/// Returns an error if the command fails, or if the process that holds the store has no admin socket.
pub fn run_admin_command(directories: &RegistryDirs, command: &AdminCommand) -> Result<Deleted, AdminError> {
    let root = &directories.store;
    let in_use = match ContentStore::open(root) {
        Ok(store) => return Ok(Registry::open(store, &directories.records)?.run_command(command)?),
        Err(in_use @ StoreError::InUse { .. }) => in_use,
        Err(error) => return Err(error.into()),
    };
    let answer = match send_command(root, command) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Err(in_use.into());
        }
        answer => answer,
    };
    let root = root.to_owned();
    match answer {
        Ok(Ok(deleted)) => Ok(deleted),
        Ok(Err(message)) => Err(AdminError::Refused { root, message }),
        Err(source) => Err(AdminError::Unanswered { root, source }),
    }
}

fn send_command(root: &Utf8Path, command: &AdminCommand) -> io::Result<Result<Deleted, String>> {
    let directory = fs::File::open(root)?;
    let mut stream = net::UnixStream::connect(socket_path(&directory))?;
    let mut line = serde_json::to_vec(command)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(serde_json::from_reader(stream)?)
}

/// Serves the admin socket of a registry of this process, one command after the other.
pub async fn serve_admin_socket(registry: Arc<Registry>) -> Infallible {
    let root = registry.store.root();
    let listener = match listen(root) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%root, %error, "the admin socket cannot be opened: `landfall registry gc` and `rm` do not work while this process serves the store");
            return std::future::pending().await;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sleep(READ_EVERY) => {
                let registry = registry.clone();
                let _saved = blocking(move || { registry.clock.save(); Ok(()) }).await;
                continue;
            }
        };
        let handled = match accepted {
            Ok((mut stream, _)) => handle_connection(&registry, &mut stream).await,
            Err(error) => {
                sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        };
        if let Err(error) = handled {
            tracing::debug!(%error, "a request on the admin socket could not be read");
        }
    }
}

/// Binds the socket. Only the process that holds the store's lock listens, so an existing socket is a leftover of a
/// process that ended.
fn listen(root: &Utf8Path) -> io::Result<UnixListener> {
    match fs::remove_file(root.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = fs::File::open(root)?;
    UnixListener::bind(socket_path(&directory))
}

/// Returns the socket's path through the open directory: a socket's path has at most 107 bytes, and the store's path
/// may be longer.
fn socket_path(directory: &fs::File) -> PathBuf {
    format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()).into()
}

async fn handle_connection(registry: &Arc<Registry>, stream: &mut UnixStream) -> io::Result<()> {
    let user = stream.peer_cred()?.uid();
    let own = rustix::process::geteuid().as_raw();
    let answer = if user == 0 || user == own {
        let mut line = String::new();
        let mut reader = BufReader::new(&mut *stream).take(COMMAND_SIZE_MAX);
        timeout(READ_TIMEOUT, reader.read_line(&mut line)).await??;
        run_line(registry, &line).await
    } else {
        Err(format!("the admin socket accepts root and user {own}, not user {user}"))
    };
    stream.write_all(&serde_json::to_vec(&answer)?).await
}

async fn run_line(registry: &Arc<Registry>, line: &str) -> Result<Deleted, String> {
    let command: AdminCommand =
        serde_json::from_str(line).map_err(|error| format!("this is not a request of the admin socket: {error}"))?;
    tracing::info!(?command, "admin command accepted");
    let registry = registry.clone();
    blocking(move || registry.run_command(&command))
        .await
        .map_err(|error| error_chain(&error))
}

impl Registry {
    /// Runs a command. Blocks.
    fn run_command(&self, command: &AdminCommand) -> Result<Deleted, StoreError> {
        match command {
            AdminCommand::CollectGarbage { grace_seconds } => {
                let report = self.gc(Duration::from_secs(*grace_seconds), SystemTime::now())?;
                Ok(Deleted {
                    files: report.deleted,
                    bytes: report.bytes,
                    ..Deleted::default()
                })
            }
            AdminCommand::Remove { repository, selector } => {
                let removed = self.remove(repository, selector.as_deref())?;
                Ok(Deleted {
                    tags: removed.tags,
                    manifests: removed.manifests,
                    ..Deleted::default()
                })
            }
            AdminCommand::DeleteDamaged { digest } => self.delete_damaged(digest),
        }
    }

    /// Deletes the file of a damaged blob or manifest, so that the next push uploads it again. Content that is intact
    /// stays. The records of the repositories stay as well: the images are not served until a push has repaired them, and
    /// then have all their tags. Blocks.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn delete_damaged(&self, digest: &Digest) -> Result<Deleted, StoreError> {
        let bytes = self.store.blob_size(digest)?.unwrap_or_default();
        match self.store.delete_damaged(digest) {
            Ok(false) | Err(StoreError::Missing { .. }) => Ok(Deleted::default()),
            Ok(true) => {
                self.manifest_cache.remove(digest);
                self.note_loss();
                Ok(Deleted {
                    files: 1,
                    bytes,
                    ..Deleted::default()
                })
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
