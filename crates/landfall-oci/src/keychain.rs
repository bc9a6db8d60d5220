//! Logins outside of the configuration: the files of docker and podman, a file that the user names, and the helper
//! programs in those files. [`landfall_core::credential_file`] interprets the files.
//!
//! Files are read again every few seconds, and helpers are asked again every few minutes. So a long-running agent sees
//! a new login, and a cloud's short-lived logins do not expire in its memory.

mod helper;
mod paths;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::credential_file::{
    Credential, CredentialFile, CredentialFileProblem, Lookup, parse_credential_file, parse_docker_config,
};
use landfall_core::failure::Hint;
use landfall_core::reference::{RegistryHost, Repository};
use landfall_core::sync::lock;
use tokio::time::Instant;

pub use helper::{HelperAction, HelperError, HelperProblem, run_helper};
pub use paths::{docker_config_path, login_file_paths};

/// Time for which a file is not read again.
const FILE_CACHE_TTL: Duration = Duration::from_secs(10);
/// Time for which a helper's login is used. Logins of cloud registries are valid for an hour or more.
const HELPER_CACHE_TTL: Duration = Duration::from_secs(300);
/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file that may hold logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFilePath {
    /// A file that the user names. It has either form and must exist.
    Named(Utf8PathBuf),
    /// A file at a standard path of docker or podman; it may be missing.
    Standard(Utf8PathBuf),
}

/// A login and its source, which the user has to change if the login is refused.
#[derive(Debug, Clone)]
pub struct FoundLogin {
    pub credential: Credential,
    /// Source in words, e.g. ``file `/root/.docker/config.json` ``.
    pub origin: String,
}

/// Failure of a look-up. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum KeychainError {
    #[error("cannot read the logins in `{path}`")]
    Read {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot use the logins in `{path}`")]
    File {
        path: Utf8PathBuf,
        #[source]
        source: CredentialFileProblem,
    },
    #[error("cannot get the login that `{path}` leaves to a helper")]
    Helper {
        /// The file that names the helper.
        path: Utf8PathBuf,
        #[source]
        source: HelperError,
    },
}

impl KeychainError {
    /// Finds a failed look-up of a login among an error and its causes.
    #[must_use]
    pub fn of<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e KeychainError> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| error.downcast_ref())
    }
}

impl Hint for KeychainError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            KeychainError::Helper { .. } => Some(Cow::Borrowed(
                "run the helper by hand to see why, or take it out of the file and log in with `landfall login`",
            )),
            KeychainError::Read { .. } => Some(Cow::Borrowed(
                "make the file readable, or name another: `--credentials` on the command line, \
                 `landfall.credentialsFile` in the user-data",
            )),
            KeychainError::File { .. } => Some(Cow::Borrowed(
                "correct the file: it has docker's form (`{\"auths\": {…}}`) or Palette's (`{\"image\": […]}`)",
            )),
        }
    }
}

/// All sources of logins, in order of precedence.
pub struct Keychain {
    files: Vec<LoginFilePath>,
    /// Search path for helpers, in the form of `PATH`; `None` stands for the `PATH` of this process.
    helper_path: Option<OsString>,
    read: Mutex<HashMap<Utf8PathBuf, ReadFile>>,
    /// Key: helper and server.
    helper_logins: Mutex<HashMap<(String, String), HelperLogin>>,
}

/// Time of the last read, and the parsed file; `None` if it is missing.
type ReadFile = (Instant, Option<Arc<CredentialFile>>);
/// Time and login of a helper's last answer. The lock is held while the helper runs, so that one run serves all waiting
/// tasks.
type HelperLogin = Arc<tokio::sync::Mutex<Option<(Instant, Option<Credential>)>>>;

impl std::fmt::Debug for Keychain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keychain")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Keychain {
    /// Creates a keychain of these files, in order of precedence, and reads nothing yet.
    #[must_use]
    pub fn new(files: Vec<LoginFilePath>) -> Keychain {
        Keychain {
            files,
            helper_path: None,
            read: Mutex::default(),
            helper_logins: Mutex::default(),
        }
    }

    /// Sets the search path for helpers, in the form of `PATH`.
    #[must_use]
    pub fn with_helper_path(mut self, path: OsString) -> Keychain {
        self.helper_path = Some(path);
        self
    }

    /// Finds the login for a repository, or for a registry as a whole; `None` if no file has one.
    ///
    /// # Errors
    /// Fails if a file cannot be read or parsed, or its helper fails.
    pub async fn find(
        &self,
        host: &RegistryHost,
        repository: Option<&Repository>,
    ) -> Result<Option<FoundLogin>, KeychainError> {
        for file in &self.files {
            let (LoginFilePath::Named(path) | LoginFilePath::Standard(path)) = file;
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

    /// Forgets the cached logins. The caller does this after a refusal: helpers may have a newer login.
    pub fn forget(&self) {
        lock(&self.helper_logins).clear();
        lock(&self.read).clear();
    }

    fn load(&self, file: &LoginFilePath, path: &Utf8Path) -> Result<Option<Arc<CredentialFile>>, KeychainError> {
        let mut read = lock(&self.read);
        if let Some((at, parsed)) = read.get(path)
            && at.elapsed() < FILE_CACHE_TTL
        {
            return Ok(parsed.clone());
        }
        let text = match read_bounded(path) {
            Ok(text) => Some(text),
            // Another user's directory counts as missing: `$XDG_RUNTIME_DIR` often survives `sudo`.
            Err(error)
                if matches!(file, LoginFilePath::Standard(_))
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
            LoginFilePath::Named(_) => parse_credential_file,
            LoginFilePath::Standard(_) => parse_docker_config,
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
            let mut helper_logins = lock(&self.helper_logins);
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
