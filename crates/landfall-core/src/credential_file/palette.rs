//! Palette's credentials JSON: `{"image": [{"endpoint", "username", "password"}], "helm": […]}`.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Credential, CredentialFileProblem, LoginScope};
use crate::lenient::without_mark;
use crate::reference::{RegistryHost, Repository};

/// The logins of `image`. Those of `helm` are for chart museums, which hold no images.
#[derive(Debug, Clone)]
pub struct PaletteCredentials {
    entries: Vec<(LoginScope, Credential)>,
}

#[derive(Deserialize)]
struct RawPaletteFile<'a> {
    #[serde(borrow, default)]
    image: Option<Vec<RawPaletteLogin<'a>>>,
}

#[derive(Deserialize)]
struct RawPaletteLogin<'a> {
    endpoint: String,
    username: String,
    /// A string, or the object of a Google service account (`_json_key`), which is sent as it is written.
    #[serde(borrow)]
    password: &'a RawValue,
}

pub(super) fn parse(text: &str) -> Result<PaletteCredentials, CredentialFileProblem> {
    let raw: RawPaletteFile<'_> =
        serde_json::from_str(without_mark(text)).map_err(|error| CredentialFileProblem::of(&error))?;
    let entries = raw.image.into_iter().flatten().enumerate().map(|(index, login)| {
        let problem = |what| CredentialFileProblem::Entry {
            key: format!("image[{index}]"),
            what,
        };
        let scope = LoginScope::parse(&login.endpoint).ok_or(problem("`endpoint` is not `host[:port][/path]`"))?;
        let password = password_of(login.password).ok_or(problem("`password` is neither a string nor an object"))?;
        if login.username.is_empty() {
            return Err(problem("`username` is empty"));
        }
        let credential = Credential::Password {
            username: login.username,
            password,
        };
        Ok((scope, credential))
    });
    Ok(PaletteCredentials {
        entries: entries.collect::<Result<_, _>>()?,
    })
}

fn password_of(raw: &RawValue) -> Option<SecretString> {
    let text = raw.get();
    if text.starts_with('{') {
        return Some(text.into());
    }
    serde_json::from_str(text).ok()
}

impl PaletteCredentials {
    pub(super) fn find(&self, host: &RegistryHost, repository: Option<&Repository>) -> Option<&Credential> {
        let covering = self
            .entries
            .iter()
            .filter_map(|(scope, credential)| Some((scope.covers(host, repository)?, credential)));
        covering.max_by_key(|(covered, _)| *covered).map(|(_, found)| found)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_service_accounts_object_is_the_password_as_it_is_written() {
        let text = r#"{
            "image": [
                {"endpoint": "https://us-docker.pkg.dev/palette/", "username": "_json_key",
                 "password": {"type": "service_account",  "private_key": "a\nb"}},
                {"endpoint": "us-docker.pkg.dev", "username": "ann", "password": "s\u00e9cret"}
            ],
            "helm": [{"endpoint": "charts.example.com", "username": "x", "password": 7}]
        }"#;
        let file = parse(text).unwrap();
        let find = |repository: &str| {
            let found = file.find(
                &"us-docker.pkg.dev".parse().unwrap(),
                Some(&repository.parse().unwrap()),
            );
            let Some(Credential::Password { username, password }) = found else {
                panic!("{repository} has no login");
            };
            (username.clone(), password.expose_secret().to_owned())
        };
        let (username, password) = find("palette/app");
        assert_eq!(username, "_json_key");
        assert_eq!(password, r#"{"type": "service_account",  "private_key": "a\nb"}"#);
        assert_eq!(find("other/app"), ("ann".to_owned(), "sécret".to_owned()));
    }

    #[test]
    fn an_entry_that_cannot_be_used_is_named_by_its_place() {
        let cases = [
            (
                r#"{"endpoint":"a b","username":"u","password":"canary"}"#,
                "the entry `image[0]` is not usable: `endpoint` is not `host[:port][/path]`",
            ),
            (
                r#"{"endpoint":"a.b","username":"u","password":["canary"]}"#,
                "the entry `image[0]` is not usable: `password` is neither a string nor an object",
            ),
            (
                r#"{"endpoint":"a.b","username":"","password":"canary"}"#,
                "the entry `image[0]` is not usable: `username` is empty",
            ),
        ];
        for (entry, expected) in cases {
            let problem = parse(&format!(r#"{{"image":[{entry}]}}"#)).unwrap_err();
            assert_eq!(problem.to_string(), expected);
        }
    }
}
