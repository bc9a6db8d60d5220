//! The token that uploads need: a file that only root can read, made by the agent.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use landfall_core::reference::Digest;
use landfall_net::durable;
use landfall_net::random::random_bytes;
use landfall_net::serve::budget::ClientAddress;
use landfall_net::serve::login_throttle::LoginThrottle;
use landfall_oci::digest::{Algorithm, Digester};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

/// Name of the file in the state directory.
pub(crate) const FILE: &str = "upload-token";
/// Characters of the shortest token: one that a person writes into the file may not be a word.
const LENGTH_MIN: usize = 20;

/// The token of uploads. It is read anew for each request: who deletes the file, ends it.
pub(crate) struct UploadToken {
    path: Utf8PathBuf,
    /// Key of the hashes that are compared, so that the time of a comparison tells nothing.
    key: [u8; 32],
    names: RandomState,
    throttle: LoginThrottle,
}

impl fmt::Debug for UploadToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UploadToken")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl UploadToken {
    /// Returns the token of a state directory, and makes it if there is none.
    pub(crate) fn new(state_dir: &Utf8Path) -> UploadToken {
        let token = UploadToken {
            path: state_dir.join(FILE),
            key: random_bytes(),
            names: RandomState::new(),
            throttle: LoginThrottle::default(),
        };
        if let Err(error) = token.load_or_make() {
            tracing::warn!(path = %token.path, %error, "there is no token for uploads");
        }
        token
    }

    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Returns true if a client has the token. Each wrong one counts as a wrong login of its own: guesses do not lock out
    /// a client of the same address that has shown the right one before.
    ///
    /// # Errors
    ///
    /// The time after which a client that guessed too often may come again.
    pub(crate) fn admits(&self, client: ClientAddress, presented: &SecretString) -> Result<bool, Duration> {
        let presented = presented.expose_secret();
        let user = self.names.hash_one(presented);
        let attempt = self.throttle.begin(client, user, Instant::now())?;
        let token = self.load_or_make().unwrap_or_else(|error| {
            tracing::warn!(path = %self.path, %error, "the token for uploads cannot be read");
            None
        });
        let is_right = token.is_some_and(|token| self.hash(token.expose_secret()) == self.hash(presented));
        if is_right {
            attempt.succeed(Instant::now());
        }
        Ok(is_right)
    }

    /// Reads the token. Returns `None` if the file has none.
    fn load_or_make(&self) -> io::Result<Option<SecretString>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => {
                let token = text.trim();
                Ok((token.len() >= LENGTH_MIN).then(|| token.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let bytes: [u8; 32] = random_bytes();
                let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                durable::replace_private_file(&self.path, format!("{token}\n").as_bytes())?;
                Ok(Some(token.into()))
            }
            Err(error) => Err(error),
        }
    }

    fn hash(&self, text: &str) -> Digest {
        let mut digester = Digester::new(Algorithm::Sha256);
        digester.update(&self.key);
        digester.update(text.as_bytes());
        digester.finish()
    }
}
