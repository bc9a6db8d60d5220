//! Logins that the configuration does not hold: docker's and podman's files, a file that the user names, and the helper
//! programs that these files name. Decides nothing itself: what a file means is
//! [`landfall_core::credential_file`]'s.
//!
//! Files are read again every few seconds and helpers are asked again every few minutes, so that a long-running agent
//! sees a new login, and the short-lived ones of a cloud never grow old.

mod helper;
mod paths;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::credential_file::{
    Credential, CredentialFile, CredentialFileProblem, Lookup, parse_credential_file, parse_docker_config,
};
use landfall_core::reference::{RegistryHost, Repository};
use tokio::time::Instant;

pub use helper::{HelperAction, HelperError, HelperProblem, run_helper};
pub use paths::{docker_config_path, login_file_paths};

/// How long a file is taken to be as it was when it was last read.
const FILE_CACHE_TTL: Duration = Duration::from_secs(10);
/// How long a helper's answer is used. Logins of cloud registries live for an hour or more.
const HELPER_CACHE_TTL: Duration = Duration::from_secs(300);
/// A larger file holds something else, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file that may hold logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFile {
    /// Named by the user: of either form, and it has to be there.
    Named(Utf8PathBuf),
    /// At one of docker's or podman's places: used when it is there.
    Standard(Utf8PathBuf),
}

/// A login, and where it is from: the place to mend when it is refused.
#[derive(Debug, Clone)]
pub struct FoundLogin {
    /// The login.
    pub credential: Credential,
    /// In words, e.g. ``file `/root/.docker/config.json` ``.
    pub origin: String,
}

/// Why a login cannot be looked up. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    /// The file cannot be read.
    #[error("cannot read the logins in `{path}`")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file cannot be understood.
    #[error("cannot use the logins in `{path}`")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        #[source]
        source: CredentialFileProblem,
    },
    /// The helper failed.
    #[error("cannot get the login that `{path}` leaves to a helper")]
    Helper {
        /// The file that names the helper.
        path: Utf8PathBuf,
        /// How it failed.
        #[source]
        source: HelperError,
    },
}

/// All the places where logins may be, asked in order.
pub struct Keychain {
    files: Vec<LoginFile>,
    /// Where helpers are looked for, as `PATH` says it; `None` is the `PATH` of this process.
    helper_path: Option<OsString>,
    read: Mutex<HashMap<Utf8PathBuf, ReadFile>>,
    /// By helper and server.
    helper_logins: Mutex<HashMap<(String, String), HelperLogin>>,
}

/// When a file was read and what it means; `None` when it is not there.
type ReadFile = (Instant, Option<Arc<CredentialFile>>);
/// When a helper answered and what. The lock is held while the helper runs, so that it runs once for all who wait.
type HelperLogin = Arc<tokio::sync::Mutex<Option<(Instant, Option<Credential>)>>>;

impl std::fmt::Debug for Keychain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keychain")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Keychain {
    /// The files, in the order in which they are asked. Nothing is read yet.
    #[must_use]
    pub fn new(files: Vec<LoginFile>) -> Keychain {
        Keychain {
            files,
            helper_path: None,
            read: Mutex::default(),
            helper_logins: Mutex::default(),
        }
    }

    /// The same with helpers from these directories, written as in `PATH`.
    #[must_use]
    pub fn with_helper_path(mut self, path: OsString) -> Keychain {
        self.helper_path = Some(path);
        self
    }

    /// The login for a repository, or for a registry as a whole; `None` when no file has one.
    ///
    /// # Errors
    /// When a file cannot be read or understood, or its helper fails.
    pub async fn find(
        &self,
        host: &RegistryHost,
        repository: Option<&Repository>,
    ) -> Result<Option<FoundLogin>, KeychainError> {
        for file in &self.files {
            let (LoginFile::Named(path) | LoginFile::Standard(path)) = file;
            let Some(parsed) = self.load(file, path)? else { continue };
            let lookup = parsed.find(host, repository).map_err(|source| KeychainError::File {
                path: path.clone(),
                source,
            })?;
            let found = match lookup {
                None => None,
                Some(Lookup::Stored(credential)) => Some((credential.clone(), format!("file `{path}`"))),
                Some(Lookup::Helper {
                    name,
                    server,
                    otherwise,
                }) => {
                    let answer = self.ask_helper(name, &server).await;
                    let answer = answer.map_err(|source| KeychainError::Helper {
                        path: path.clone(),
                        source,
                    })?;
                    answer
                        .map(|credential| (credential, format!("helper `docker-credential-{name}`")))
                        .or_else(|| Some((otherwise?.clone(), format!("file `{path}`"))))
                }
            };
            if let Some((credential, origin)) = found {
                return Ok(Some(FoundLogin { credential, origin }));
            }
        }
        Ok(None)
    }

    /// Forgets what helpers said: a login was refused, and they may know a newer one.
    pub fn forget(&self) {
        self.helper_logins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn load(&self, file: &LoginFile, path: &Utf8Path) -> Result<Option<Arc<CredentialFile>>, KeychainError> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, parsed)) = read.get(path)
            && at.elapsed() < FILE_CACHE_TTL
        {
            return Ok(parsed.clone());
        }
        let text = match read_bounded(path) {
            Ok(text) => Some(text),
            // Another user's directory is as good as none: `$XDG_RUNTIME_DIR` often survives `sudo`.
            Err(error)
                if matches!(file, LoginFile::Standard(_))
                    && matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory
                    ) =>
            {
                None
            }
            Err(source) => {
                return Err(KeychainError::Read {
                    path: path.to_owned(),
                    source,
                });
            }
        };
        let parse = match file {
            LoginFile::Named(_) => parse_credential_file,
            LoginFile::Standard(_) => parse_docker_config,
        };
        // `docker logout` may leave an empty file.
        let text = text.filter(|text| !text.trim().is_empty());
        let parsed = text.map(|text| parse(&text)).transpose();
        let parsed = parsed.map_err(|source| KeychainError::File {
            path: path.to_owned(),
            source,
        })?;
        let parsed = parsed.map(Arc::new);
        read.insert(path.to_owned(), (Instant::now(), parsed.clone()));
        Ok(parsed)
    }

    async fn ask_helper(&self, name: &str, server: &str) -> Result<Option<Credential>, HelperError> {
        let key = (name.to_owned(), server.to_owned());
        let answer = {
            let mut helper_logins = self.helper_logins.lock().unwrap_or_else(PoisonError::into_inner);
            helper_logins.entry(key).or_default().clone()
        };
        let mut answer = answer.lock().await;
        if let Some((at, credential)) = answer.as_ref()
            && at.elapsed() < HELPER_CACHE_TTL
        {
            return Ok(credential.clone());
        }
        let credential = run_helper(name, HelperAction::Get { server }, self.helper_path.as_deref()).await?;
        *answer = Some((Instant::now(), credential.clone()));
        Ok(credential)
    }
}

fn read_bounded(path: &Utf8Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = fs_err::File::open(path)?;
    if file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)? as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {FILE_BYTES_MAX} bytes"),
        ));
    }
    Ok(text)
}
