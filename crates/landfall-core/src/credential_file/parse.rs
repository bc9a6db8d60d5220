//! A credential file of either form.

use super::docker::{self, DockerConfig};
use super::palette::{self, PaletteCredentials};
use super::{CredentialFileProblem, Lookup};
use crate::lenient::without_mark;
use crate::reference::{RegistryHost, Repository};

/// A file with registry logins.
#[derive(Debug, Clone)]
pub enum CredentialFile {
    /// A file of docker or podman.
    Docker(DockerConfig),
    /// Palette's credentials JSON.
    Palette(PaletteCredentials),
}

/// Parses a file of either form.
///
/// # Errors
/// If it is not JSON, or has neither form.
pub fn parse_credential_file(text: &str) -> Result<CredentialFile, CredentialFileProblem> {
    let keys: std::collections::BTreeMap<String, serde::de::IgnoredAny> =
        serde_json::from_str(without_mark(text)).map_err(|error| CredentialFileProblem::of(&error))?;
    let has = |key: &str| keys.contains_key(key);
    if has("image") || has("helm") {
        return palette::parse(text).map(CredentialFile::Palette);
    }
    if keys.is_empty() || ["auths", "credHelpers", "credsStore"].into_iter().any(has) {
        return docker::parse(text).map(CredentialFile::Docker);
    }
    Err(CredentialFileProblem::UnknownForm)
}

/// Parses docker's file, which may hold many other settings.
///
/// # Errors
/// If the text is not JSON of docker's form.
pub fn parse_docker_config(text: &str) -> Result<CredentialFile, CredentialFileProblem> {
    docker::parse(text).map(CredentialFile::Docker)
}

impl CredentialFile {
    /// Finds the login for a repository, or for the registry as a whole, by the host and the longest path prefix of
    /// whole segments.
    ///
    /// # Errors
    /// If the matching entry cannot be used.
    pub fn find(
        &self,
        host: &RegistryHost,
        repository: Option<&Repository>,
    ) -> Result<Option<Lookup<'_>>, CredentialFileProblem> {
        match self {
            CredentialFile::Docker(file) => file.find(host, repository),
            CredentialFile::Palette(file) => Ok(file.find(host, repository).map(Lookup::Stored)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_file_is_told_by_its_keys() {
        let cases = [
            (r#"{"auths":{}}"#, "docker"),
            (r#"{"credsStore":"x"}"#, "docker"),
            ("{}", "docker"),
            (r#"{"auths":null,"credHelpers":null}"#, "docker"),
            (
                "\u{feff}{\"auths\":{\"reg\":null,\"reg\":{\"email\":7,\"auth\":null,\"auth\":\"YTpi\"}}}",
                "docker",
            ),
            (
                r#"{"auths":{},"credsStore":null,"credHelpers":{"reg":null},"HttpHeaders":7}"#,
                "docker",
            ),
            (r#"{"image":[],"helm":[]}"#, "palette"),
            ("\u{feff}{\"image\":null,\"helm\":7}", "palette"),
            (
                r#"{"user":"ann"}"#,
                "it has neither `auths`, `credHelpers` or `credsStore` (docker) nor `image` (Palette)",
            ),
            ("{\n  \"auths\": ", "line 2, column 11: the JSON ends too early"),
            ("auths:\n  x: y", "line 1, column 1: this is not JSON"),
            (
                r#"{"auths":{"reg":{"auth":["canary"]}}}"#,
                "line 1, column 24: a value of another type is needed here",
            ),
            (
                r#"{"image":[{"endpoint":"canary"}]}"#,
                "line 1, column 31: a value of another type is needed here",
            ),
        ];
        for (text, expected) in cases {
            let found = match parse_credential_file(text) {
                Ok(CredentialFile::Docker(_)) => "docker".to_owned(),
                Ok(CredentialFile::Palette(_)) => "palette".to_owned(),
                Err(problem) => problem.to_string(),
            };
            assert_eq!(found, expected, "{text}");
        }
    }
}
