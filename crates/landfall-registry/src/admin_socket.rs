//! Care for what a registry holds, whether it is served or not: `landfall registry gc`, `rm` and `verify --delete-damaged`
//! carry an order out by themselves where nobody has the store, and else hand it to the process that has, over a socket in
//! the store's directory.
//!
//! An order is a line of JSON, and so is its answer. Nothing of this can be reached over a network; the kernel tells who is
//! at the other end, and only root and the user that serves are heard.

use std::convert::Infallible;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::failure::error_chain;
use landfall_core::reference::{Digest, Repository};
use landfall_oci::store::ContentStore;
use landfall_oci::store::blocking::blocking;
use landfall_oci::store::error::StoreError;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

use crate::repository::Registry;
use crate::repository::directories::RegistryDirs;
use crate::repository::record::Change;

/// Beside the store's `lock`.
const SOCKET: &str = "orders";
/// The longest name, tag and digest together are a few hundred bytes.
const COMMAND_SIZE_MAX: u64 = 16 * 1024;
/// For how long whoever connects may take to say what he wants; the next one waits meanwhile.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Before the next attempt, when the system gives no connection.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum AdminCommand {
    /// As [`Registry::gc`].
    CollectGarbage {
        /// For how many seconds a pushed blob waits for its manifest.
        grace_seconds: u64,
    },
    /// As [`Registry::remove`].
    Remove {
        /// Where.
        repository: Repository,
        /// A tag or a digest; everything, when there is none.
        selector: Option<String>,
    },
    /// As [`Registry::delete_damaged`].
    DeleteDamaged {
        /// The blob.
        digest: Digest,
    },
}

/// What an order took away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// Tags.
    pub tags: usize,
    /// Manifests, out of repositories.
    pub manifests: usize,
    /// Files.
    pub files: usize,
    /// How many bytes the files had.
    pub bytes: u64,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The store cannot do it, or another process has it and takes no orders.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The process that has the store does not answer.
    #[error("the process that has the store `{root}` does not answer")]
    Unanswered {
        /// The store's directory.
        root: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process that has the store says why not.
    #[error("the process that has the store `{root}` says: {message}")]
    Refused {
        /// The store's directory.
        root: Utf8PathBuf,
        /// In its words.
        message: String,
    },
}

/// Carries an order out on a registry; by the process that has its store, when one has. Blocks until it is done.
///
/// # Errors
/// When it cannot be done, or the process that has the store takes no orders.
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

/// Takes orders for a registry that this process serves, one after the other, for ever.
pub async fn serve_admin_socket(registry: Arc<Registry>) -> Infallible {
    let root = registry.store.root();
    let listener = match listen(root) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%root, %error, "`landfall registry gc` and `rm` cannot be heard while this process has the store");
            return std::future::pending().await;
        }
    };
    loop {
        let handled = match listener.accept().await {
            Ok((mut stream, _)) => handle_connection(&registry, &mut stream).await,
            Err(error) => {
                sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        };
        if let Err(error) = handled {
            tracing::debug!(%error, "an order was not heard");
        }
    }
}

/// Whoever has the store's lock is the only one to listen: what is there is left from a process that is gone.
fn listen(root: &Utf8Path) -> io::Result<UnixListener> {
    match fs::remove_file(root.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let directory = fs::File::open(root)?;
    UnixListener::bind(socket_path(&directory))
}

/// By way of the open directory: the path of a socket has 107 bytes, that of a store any number.
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
        Err(format!(
            "orders are taken from root and from user {own}, not from user {user}"
        ))
    };
    stream.write_all(&serde_json::to_vec(&answer)?).await
}

async fn run_line(registry: &Arc<Registry>, line: &str) -> Result<Deleted, String> {
    let command: AdminCommand = serde_json::from_str(line).map_err(|error| format!("this is no order: {error}"))?;
    tracing::info!(order = ?command, "order taken");
    let registry = registry.clone();
    blocking(move || registry.run_command(&command))
        .await
        .map_err(|error| error_chain(&error))
}

impl Registry {
    /// Carries an order out. Blocks.
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

    /// Deletes a blob that is damaged, so that the next push brings it anew; nothing happens to one that is not. A manifest
    /// leaves its repositories with its tags: whoever is told that it is there does not push it. Blocks.
    ///
    /// # Errors
    /// When the disk does not answer.
    pub fn delete_damaged(&self, digest: &Digest) -> Result<Deleted, StoreError> {
        let Some(bytes) = self.store.blob_size(digest)? else {
            return Ok(Deleted::default());
        };
        if !self.store.delete_damaged(digest)? {
            return Ok(Deleted::default());
        }
        let mut deleted = Deleted {
            files: 1,
            bytes,
            ..Deleted::default()
        };
        for repository in self.records.names()? {
            let holds = self
                .records
                .peek(&repository, |record| record.manifests.contains_key(digest))?;
            if holds == Some(true) {
                deleted.tags += self.records.change(&repository, |record| {
                    let tags = record.tags.values().filter(|tagged| *tagged == digest).count();
                    (vec![Change::DropManifest { digest: digest.clone() }], tags)
                })?;
                deleted.manifests += 1;
            }
        }
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests;
