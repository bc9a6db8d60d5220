//! Logins in docker's `config.json`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretString};
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};

use super::{Credential, CredentialFileProblem, LoginScope, Lookup};
use crate::lenient::{ReadFields, read_object, without_mark};
use crate::reference::{RegistryHost, Repository};

/// The key of Docker Hub, in docker's file and in requests to its helpers.
pub const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The helper name that podman writes to select the file itself.
const FILE_ITSELF: &str = "containers-auth.json";

/// Decodes with padding or without: hand-made files often lack it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The logins of a `config.json`, and the credential helpers that it names.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    entries: Vec<AuthEntry>,
    creds_store: Option<String>,
    cred_helpers: Vec<(RegistryHost, String)>,
}

#[derive(Debug, Clone)]
struct AuthEntry {
    key: String,
    scope: LoginScope,
    /// `None` if docker left only a mark that a helper knows the login.
    credential: Result<Option<Credential>, &'static str>,
}

/// Values that hold a login have to be texts: the user is told of others.
#[derive(Default)]
struct RawConfig {
    auths: Option<BTreeMap<String, Option<RawAuth>>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, Option<String>>>,
}

impl<'de> ReadFields<'de> for RawConfig {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "auths" => self.auths = map.next_value()?,
            "credsStore" => self.creds_store = map.next_value()?,
            "credHelpers" => self.cred_helpers = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for RawConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawConfig, D::Error> {
        read_object(deserializer)
    }
}

#[derive(Default)]
struct RawAuth {
    auth: Option<SecretString>,
    identitytoken: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
}

impl<'de> ReadFields<'de> for RawAuth {
    fn read_field<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "auth" => self.auth = map.next_value()?,
            "identitytoken" => self.identitytoken = map.next_value()?,
            "username" => self.username = map.next_value()?,
            "password" => self.password = map.next_value()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Deserialize<'de> for RawAuth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawAuth, D::Error> {
        read_object(deserializer)
    }
}

pub(super) fn parse(text: &str) -> Result<DockerConfig, CredentialFileProblem> {
    let raw: RawConfig = serde_json::from_str(without_mark(text)).map_err(|error| CredentialFileProblem::of(&error))?;
    let named = |name: &String| !name.is_empty() && name != FILE_ITSELF;
    // A key that is no host, e.g. an empty one, matches no registry.
    let entries = raw.auths.into_iter().flatten().filter_map(|(key, auth)| {
        Some(AuthEntry {
            scope: scope_of(&key)?,
            credential: auth.unwrap_or_default().credential(),
            key,
        })
    });
    Ok(DockerConfig {
        entries: entries.collect(),
        creds_store: raw.creds_store.filter(named),
        cred_helpers: raw
            .cred_helpers
            .into_iter()
            .flatten()
            .filter_map(|(key, name)| Some((scope_of(&key)?.host, name?)))
            .collect(),
    })
}

/// Parses a key. A key with a scheme is docker's old form, which names a whole registry even if it has a path.
pub(super) fn scope_of(key: &str) -> Option<LoginScope> {
    let mut scope = LoginScope::parse(key)?;
    if key.contains("://") {
        scope.path.clear();
    }
    Some(scope)
}

/// Returns docker's key for a registry, in its file and in requests to its helpers.
#[must_use]
pub fn registry_key(host: &RegistryHost) -> String {
    if host.is_docker_hub() {
        DOCKER_HUB_KEY.to_owned()
    } else {
        host.to_string()
    }
}

impl RawAuth {
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        let is_there = |secret: &SecretString| !secret.expose_secret().is_empty();
        if let Some(token) = self.identitytoken.filter(is_there) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(auth) = self.auth.filter(is_there) {
            return decode(auth.expose_secret()).map(Some);
        }
        let username = self.username.unwrap_or_default();
        let password = self.password.unwrap_or_default();
        Ok(Credential::from_pair(&username, password.expose_secret()))
    }
}

fn decode(auth: &str) -> Result<Credential, &'static str> {
    let bytes = BASE64.decode(auth.trim()).map_err(|_| "`auth` is not base64")?;
    let text = String::from_utf8(bytes).map_err(|_| "`auth` is not base64 of a text")?;
    let (username, password) = text
        .split_once(':')
        .ok_or("`auth` is not base64 of `username:password`")?;
    // Docker pads with NUL to hide the length.
    Credential::from_pair(username, password.trim_end_matches('\0')).ok_or("`auth` has no user name or no password")
}

impl DockerConfig {
    pub(super) fn find(
        &self,
        host: &RegistryHost,
        repository: Option<&Repository>,
    ) -> Result<Option<Lookup<'_>>, CredentialFileProblem> {
        let own = |entry: &&AuthEntry| !matches!(entry.credential, Ok(None));
        let preferred = registry_key(host);
        let best = self
            .entries
            .iter()
            .filter(own)
            .filter_map(|entry| Some(((entry.scope.covers(host, repository)?, entry.key == preferred), entry)))
            .max_by_key(|(rank, _)| *rank);
        let stored = match best.map(|(_, entry)| (entry, &entry.credential)) {
            None | Some((_, Ok(None))) => Ok(None),
            Some((_, Ok(Some(credential)))) => Ok(Some(credential)),
            Some((entry, Err(what))) => Err(CredentialFileProblem::Entry {
                key: entry.key.clone(),
                what,
            }),
        };
        let Some(name) = self.helper(host) else {
            return Ok(stored?.map(Lookup::Stored));
        };
        Ok(Some(Lookup::Helper {
            name,
            server: registry_key(host),
            // Docker itself asks only the helper, so a broken entry beside it must not prevent that.
            otherwise: stored.unwrap_or_default(),
        }))
    }

    /// Returns the helper that keeps the login for a registry; `None` if the file itself keeps it.
    #[must_use]
    pub fn helper(&self, host: &RegistryHost) -> Option<&str> {
        match self.cred_helpers.iter().find(|(found, _)| found == host) {
            Some((_, name)) if name == FILE_ITSELF || name.is_empty() => None,
            Some((_, name)) => Some(name),
            None => self.creds_store.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// The login `ann:canary` and others like it, in base64.
    const FILE: &str = r#"{
        "HttpHeaders": {"User-Agent": "Docker-Client/19.03"},
        "auths": {
            "": {"auth": "YW5uOmNhbmFyeQ=="},
            "https://index.docker.io/v1/": {"auth": "aHViOmNhbmFyeQ=="},
            "index.docker.io": {"auth": "b2xkOmNhbmFyeQ=="},
            "https://old.example.com/some/path": {"auth": "b2xkOmNhbmFyeQ"},
            "quay.io": {"auth": "YW55OmNhbmFyeQ=="},
            "quay.io/shop": {"auth": "c2hvcDpjYW5hcnk="},
            "quay.io/shop/app": {"identitytoken": "canary", "auth": "MDAwOg=="},
            "nul.example.com": {"auth": "YW5uOmNhbmFyeQAAAA=="},
            "plain.example.com": {"username": "ann", "password": "canary"},
            "broken.example.com": {"auth": "%%canary"},
            "nocolon.example.com": {"auth": "Y2FuYXJ5"},
            "stored.example.com": {}
        },
        "credHelpers": {"gcr.io": "gcloud", "123.dkr.ecr.eu-west-1.amazonaws.com": "ecr-login"}
    }"#;

    fn describe(file: &DockerConfig, host: &str, repository: Option<&str>) -> String {
        let repository = repository.map(|path| path.parse().unwrap());
        let mut text = String::new();
        let mut write = |credential: &Credential| match credential {
            Credential::Password { username, password } => {
                assert_eq!(password.expose_secret(), "canary");
                write!(text, "{username}").unwrap();
            }
            Credential::IdentityToken(_) => text.push_str("token"),
        };
        match file.find(&host.parse().unwrap(), repository.as_ref()) {
            Ok(None) => return "nothing".to_owned(),
            Err(problem) => return problem.to_string(),
            Ok(Some(Lookup::Stored(credential))) => write(credential),
            Ok(Some(Lookup::Helper {
                name,
                server,
                otherwise,
            })) => {
                otherwise.into_iter().for_each(write);
                return format!("helper {name} for {server}, otherwise `{text}`");
            }
        }
        text
    }

    #[test]
    fn a_login_is_found_by_host_and_the_longest_path() {
        let file = parse(FILE).unwrap();
        let cases = [
            ("docker.io", None, "hub"),
            ("registry-1.docker.io", Some("library/nginx"), "hub"),
            ("old.example.com", Some("other"), "old"),
            ("quay.io", Some("other/app"), "any"),
            ("quay.io", Some("shopping/app"), "any"),
            ("quay.io", Some("shop/db"), "shop"),
            ("quay.io", Some("shop/app"), "token"),
            ("quay.io:443", Some("shop/app"), "nothing"),
            ("nul.example.com", None, "ann"),
            ("plain.example.com", None, "ann"),
            ("stored.example.com", None, "nothing"),
            (
                "broken.example.com",
                None,
                "the entry `broken.example.com` is not usable: `auth` is not base64",
            ),
            (
                "nocolon.example.com",
                None,
                "the entry `nocolon.example.com` is not usable: `auth` is not base64 of `username:password`",
            ),
            ("gcr.io", Some("p/x"), "helper gcloud for gcr.io, otherwise ``"),
            (
                "123.dkr.ecr.eu-west-1.amazonaws.com",
                None,
                "helper ecr-login for 123.dkr.ecr.eu-west-1.amazonaws.com, otherwise ``",
            ),
        ];
        for (host, repository, expected) in cases {
            assert_eq!(describe(&file, host, repository), expected, "{host} {repository:?}");
        }
    }

    #[test]
    fn a_store_is_asked_for_every_registry_that_has_no_helper_of_its_own() {
        let text = FILE.replacen(
            '{',
            r#"{"credsStore": "secretservice", "credHelpersX": {"quay.io": ""},"#,
            1,
        );
        let text = text.replace(r#""gcr.io": "gcloud""#, r#""gcr.io": "containers-auth.json""#);
        let file = parse(&text).unwrap();
        let cases = [
            (
                "docker.io",
                "helper secretservice for https://index.docker.io/v1/, otherwise `hub`",
            ),
            (
                "broken.example.com",
                "helper secretservice for broken.example.com, otherwise ``",
            ),
            ("gcr.io", "nothing"),
        ];
        for (host, expected) in cases {
            assert_eq!(describe(&file, host, None), expected, "{host}");
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let shown = format!("{:?}", parse(FILE).unwrap());
        assert!(!shown.contains("canary") && !shown.contains("Y2FuYXJ5"), "{shown}");
    }
}
