//! Files with registry logins: docker's `config.json` (podman's `auth.json` has the same form) and Palette's
//! credentials JSON. This module parses them and selects the login for a repository. The caller reads the files and
//! runs the credential helpers that they name.
//!
//! Sources of the rules: docker/cli `cli/config`, `containers-auth.json(5)`, and Palette's own examples.

mod docker;
mod edit;
mod palette;
mod parse;

use secrecy::SecretString;

use crate::reference::{RegistryHost, Repository};

pub use docker::{DOCKER_HUB_KEY, DockerConfig, registry_key};
pub use edit::{remove_login, set_login};
pub use palette::PaletteCredentials;
pub use parse::{CredentialFile, parse_credential_file, parse_docker_config};

/// Login at a registry.
#[derive(Debug, Clone)]
pub enum Credential {
    /// A user name and a password, or an access token in its place.
    Password { username: String, password: SecretString },
    /// A token that is exchanged for access tokens (`identitytoken`; in OAuth 2.0 a refresh token).
    IdentityToken(SecretString),
}

/// The user name that credential helpers return if the secret is an identity token.
const IDENTITY_TOKEN_USER: &str = "<token>";

impl Credential {
    /// Converts a pair that a credential helper returned; `None` if it is empty.
    #[must_use]
    pub fn from_pair(username: &str, secret: &str) -> Option<Credential> {
        if secret.is_empty() {
            return None;
        }
        if username == IDENTITY_TOKEN_USER {
            return Some(Credential::IdentityToken(secret.into()));
        }
        (!username.is_empty()).then(|| Credential::Password {
            username: username.to_owned(),
            password: secret.into(),
        })
    }
}

/// Location of a login according to a file.
#[derive(Debug, Clone)]
pub enum Lookup<'a> {
    /// In the file itself.
    Stored(&'a Credential),
    /// In a credential helper. `otherwise` is the file's own login, for a helper that knows none.
    Helper {
        /// The suffix of the program's name: `docker-credential-NAME`.
        name: &'a str,
        /// The helper's name for the registry.
        server: String,
        /// The file's own login.
        otherwise: Option<&'a Credential>,
    },
}

/// Problem in a file. The message repeats no value of the file: any of it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialFileProblem {
    /// Not JSON, or a value has the wrong type.
    #[error("line {line}, column {column}: {what}")]
    Json {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        what: &'static str,
    },
    /// JSON of another purpose.
    #[error("it has neither `auths`, `credHelpers` or `credsStore` (docker) nor `image` (Palette)")]
    UnknownForm,
    /// An entry that cannot be used.
    #[error("the entry `{key}` is not usable: {what}")]
    Entry {
        /// The entry's key, or its position in the list.
        key: String,
        what: &'static str,
    },
}

impl CredentialFileProblem {
    fn of(error: &serde_json::Error) -> CredentialFileProblem {
        CredentialFileProblem::Json {
            line: error.line(),
            column: error.column(),
            what: match error.classify() {
                serde_json::error::Category::Eof => "the JSON ends too early",
                serde_json::error::Category::Data => "a value of another type is needed here",
                serde_json::error::Category::Syntax | serde_json::error::Category::Io => "this is not JSON",
            },
        }
    }
}

/// The part of a registry that a login is valid for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LoginScope {
    host: RegistryHost,
    /// The path without slashes at its ends; empty for the whole registry.
    path: String,
}

impl LoginScope {
    /// Parses `[scheme://]host[:port][/path]`. The paths `/v1/` and `/v2/` belong to the API and not to a repository.
    fn parse(text: &str) -> Option<LoginScope> {
        let bare = text.split_once("://").map_or(text, |(_, bare)| bare);
        let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
        let path = path.trim_matches('/');
        let path = if matches!(path, "v1" | "v2") { "" } else { path };
        Some(LoginScope {
            host: host.parse().ok()?,
            path: path.to_owned(),
        })
    }

    /// Returns the number of bytes of the repository's path that this scope covers; `None` if the scope does not match.
    fn covers(&self, host: &RegistryHost, repository: Option<&Repository>) -> Option<usize> {
        if self.host != *host {
            return None;
        }
        if self.path.is_empty() {
            return Some(0);
        }
        let rest = repository?.as_str().strip_prefix(self.path.as_str())?;
        (rest.is_empty() || rest.starts_with('/')).then_some(self.path.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_whole_segments() {
        let cases = [
            ("quay.io", Some("a/b"), Some(0)),
            ("quay.io/a", Some("a/b"), Some(1)),
            ("quay.io/a/b/", Some("a/b"), Some(3)),
            ("quay.io/a/b", Some("a/bc"), None),
            ("quay.io/a", None, None),
            ("https://quay.io/v2/", None, Some(0)),
            ("quay.io:443", Some("a"), None),
        ];
        for (scope, repository, expected) in cases {
            let repository = repository.map(|path| path.parse().unwrap());
            let found = LoginScope::parse(scope)
                .unwrap()
                .covers(&"quay.io".parse().unwrap(), repository.as_ref());
            assert_eq!(found, expected, "{scope}");
        }
    }

    #[test]
    fn a_helpers_token_user_means_an_identity_token() {
        assert!(matches!(
            Credential::from_pair("<token>", "t"),
            Some(Credential::IdentityToken(_))
        ));
        assert!(matches!(
            Credential::from_pair("AWS", "t"),
            Some(Credential::Password { .. })
        ));
        assert!(Credential::from_pair("ann", "").is_none() && Credential::from_pair("", "x").is_none());
    }
}
