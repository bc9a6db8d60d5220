//! Login files `/etc/kubernetes/registries/<host>.json`: `{username, password, duration}`, as users write them. The
//! agent adds three keys for logins of a part of a registry, for the exclusion of subdomains, and for the owner of the
//! file.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::lenient::without_mark;
use crate::reference::Repository;

/// The cache duration of an answer if the file has none; the default of generic-credential-provider, which this program
/// replaces.
const DEFAULT_DURATION: &str = "0h5m0s";
/// The mark in files that the agent writes.
const MANAGED_BY: &str = "landfall";

#[derive(Debug, Clone)]
pub struct LoginFile {
    /// The login for all repositories that no path below covers.
    pub general: Option<StoredLogin>,
    /// Logins for the repositories below a path.
    pub paths: Vec<PathLogin>,
    /// The cache duration of the answer, in Go's notation of durations.
    pub duration: String,
    /// True if the file also serves subdomains of the host that it is named after.
    pub subdomains: bool,
    /// True if the file's `duration` is invalid and the default replaces it.
    pub duration_ignored: bool,
    /// The parts of a login that the file lacks although it has no logins of paths either.
    pub missing: Option<MissingLogin>,
}

/// Lack of `username` or `password`. It names keys of ours only: any text of the file may be the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingLogin {
    /// The file is docker's `config.json`.
    DockerConfig,
    /// A key has another case or separators, e.g. `Username`: the key that was meant.
    OtherSpelling(&'static str),
    /// The file has neither.
    Both,
    Username,
    Password,
}

impl std::fmt::Display for MissingLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MissingLogin::DockerConfig => f.write_str("it is a `config.json` of docker, and no login file"),
            MissingLogin::OtherSpelling(key) => write!(f, "its `{key}` is spelt in another way"),
            MissingLogin::Both => f.write_str("it has no `username` and no `password`"),
            MissingLogin::Username => f.write_str("it has no `username`"),
            MissingLogin::Password => f.write_str("it has no `password`"),
        }
    }
}

#[derive(Debug, Clone)]
pub struct StoredLogin {
    pub username: String,
    pub password: SecretString,
}

/// A login for the repositories below a path.
#[derive(Debug, Clone)]
pub struct PathLogin {
    /// Whole segments, without slashes at the ends.
    pub path: String,
    pub login: StoredLogin,
}

/// An unusable file. The message repeats no text of the file: any of it may be the password.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct LoginFileProblem {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    pub what: &'static str,
}

#[derive(Deserialize)]
struct RawLoginFile {
    username: Option<String>,
    password: Option<SecretString>,
    duration: Option<serde_json::Value>,
    subdomains: Option<bool>,
    paths: Option<BTreeMap<String, Option<RawLogin>>>,
}

#[derive(Deserialize)]
struct RawLogin {
    username: String,
    password: SecretString,
}

/// Parses a file. Unknown keys are ignored, so that existing files stay valid.
///
/// # Errors
/// If it is not JSON, or a value has the wrong type.
pub fn parse_login_file(text: &str) -> Result<LoginFile, LoginFileProblem> {
    let raw: RawLoginFile = serde_json::from_str(without_mark(text)).map_err(|error| LoginFileProblem {
        line: error.line(),
        column: error.column(),
        what: match error.classify() {
            serde_json::error::Category::Eof => "the JSON ends too early",
            serde_json::error::Category::Data => "a value of another type is needed here",
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => "this is not JSON",
        },
    })?;
    let given = raw
        .duration
        .as_ref()
        .and_then(serde_json::Value::as_str)
        .filter(|text| is_duration(text));
    let general = match (raw.username, raw.password) {
        (None, None) => None,
        (username, password) => Some(StoredLogin {
            username: username.unwrap_or_default(),
            password: password.unwrap_or_default(),
        }),
    };
    let paths: Vec<PathLogin> = raw
        .paths
        .into_iter()
        .flatten()
        .filter_map(|(path, login)| {
            let login = login?;
            Some(PathLogin {
                path: path.trim_matches('/').to_owned(),
                login: StoredLogin {
                    username: login.username,
                    password: login.password,
                },
            })
        })
        .collect();
    let missing = match paths.is_empty() {
        true => missing_login(text, general.is_some()),
        false => None,
    };
    Ok(LoginFile {
        general,
        paths,
        duration: given.unwrap_or(DEFAULT_DURATION).to_owned(),
        subdomains: raw.subdomains.unwrap_or(true),
        duration_ignored: raw.duration.is_some() && given.is_none(),
        missing,
    })
}

/// Finds the reason for the lack of a part of the login.
fn missing_login(text: &str, has_some: bool) -> Option<MissingLogin> {
    let keys: BTreeMap<String, serde::de::IgnoredAny> = serde_json::from_str(without_mark(text)).ok()?;
    let plain = |key: &String| {
        let letters = key.chars().filter(char::is_ascii_alphanumeric);
        letters.map(|letter| letter.to_ascii_lowercase()).collect::<String>()
    };
    let lacks = |name: &str| !keys.contains_key(name);
    let other_spelling = ["username", "password"]
        .into_iter()
        .find(|name| lacks(name) && keys.keys().any(|key| plain(key) == *name));
    match (lacks("username"), lacks("password")) {
        (false, false) => None,
        _ if keys.contains_key("auths") && !has_some => Some(MissingLogin::DockerConfig),
        _ if other_spelling.is_some() => other_spelling.map(MissingLogin::OtherSpelling),
        (true, true) => Some(MissingLogin::Both),
        (true, false) => Some(MissingLogin::Username),
        (false, true) => Some(MissingLogin::Password),
    }
}

impl LoginFile {
    /// Returns the login for a repository: that of the longest matching path of whole segments, else the general one.
    #[must_use]
    pub fn login_for(&self, repository: &Repository) -> Option<&StoredLogin> {
        let below = |path: &str| {
            let rest = repository.as_str().strip_prefix(path);
            rest.is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        let covering = self.paths.iter().filter(|entry| below(&entry.path));
        let nearest = covering.max_by_key(|entry| entry.path.len()).map(|entry| &entry.login);
        nearest.or(self.general.as_ref())
    }
}

/// Renders the agent's login file: with our mark, and without subdomains.
#[must_use]
pub fn render_login_file(general: Option<&StoredLogin>, paths: &[PathLogin]) -> Zeroizing<String> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct RenderedFile<'a> {
        managed_by: &'static str,
        #[serde(flatten)]
        general: Option<RenderedLogin<'a>>,
        duration: &'static str,
        subdomains: bool,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        paths: BTreeMap<&'a str, RenderedLogin<'a>>,
    }
    #[derive(Serialize)]
    struct RenderedLogin<'a> {
        username: &'a str,
        password: &'a str,
    }
    fn shown(login: &StoredLogin) -> RenderedLogin<'_> {
        RenderedLogin {
            username: &login.username,
            password: login.password.expose_secret(),
        }
    }
    let file = RenderedFile {
        managed_by: MANAGED_BY,
        general: general.map(shown),
        duration: DEFAULT_DURATION,
        subdomains: false,
        paths: paths
            .iter()
            .map(|entry| (entry.path.as_str(), shown(&entry.login)))
            .collect(),
    };
    let mut text = Zeroizing::new(serde_json::to_string_pretty(&file).expect("strings and maps of strings are JSON"));
    text.push('\n');
    text
}

/// Returns true if Go's `time.ParseDuration` accepts the text and the duration is not negative: `5m0s`, `1.5h`, `0`. It
/// refuses what is longer than 2^63 - 1 nanoseconds, about 292 years.
fn is_duration(text: &str) -> bool {
    const UNITS: [(&str, u64); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    let mut nanoseconds = 0_u64;
    while !rest.is_empty() {
        let number = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (digits, tail) = rest.split_at(number);
        let is_number = digits.bytes().any(|byte| byte.is_ascii_digit()) && digits.matches('.').count() <= 1;
        let unit = UNITS
            .iter()
            .filter(|(unit, _)| tail.starts_with(unit))
            .max_by_key(|(unit, _)| unit.len());
        let (true, Some((unit, length))) = (is_number, unit) else {
            return false;
        };
        let whole = digits.split('.').next().unwrap_or_default();
        let whole = if whole.is_empty() { Ok(0) } else { whole.parse::<u64>() };
        // The fraction is less than one unit, and may only pass the limit together with the rest.
        let fraction = if digits.contains('.') { *length } else { 0 };
        let sum = whole.ok().and_then(|whole| {
            whole
                .checked_mul(*length)?
                .checked_add(nanoseconds)?
                .checked_add(fraction)
        });
        let Some(sum) = sum.filter(|sum| *sum <= i64::MAX.unsigned_abs()) else {
            return false;
        };
        nanoseconds = sum;
        rest = &tail[unit.len()..];
        parts += 1;
    }
    parts > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who<'a>(file: &'a LoginFile, repository: &str) -> Option<&'a str> {
        file.login_for(&repository.parse().unwrap())
            .map(|login| login.username.as_str())
    }

    #[test]
    fn a_users_file_is_read_as_it_always_was() {
        let file = parse_login_file(r#"{"username":"ann","password":"p","duration":"1h30m","note":[1]}"#).unwrap();
        assert_eq!(who(&file, "a/b"), Some("ann"));
        assert_eq!(
            (file.duration.as_str(), file.subdomains, file.duration_ignored),
            ("1h30m", true, false)
        );
        let file = parse_login_file(r#"{"password":"p"}"#).unwrap();
        assert_eq!((who(&file, "a"), file.duration.as_str()), (Some(""), "0h5m0s"));
        assert_eq!(who(&parse_login_file("{}").unwrap(), "a"), None);
    }

    #[test]
    fn the_longest_path_of_whole_segments_has_the_login() {
        let file = parse_login_file(
            r#"{"username":"all","password":"p","paths":{
                "team": {"username":"team","password":"p"},
                "team/a/": {"username":"a","password":"p"}}}"#,
        )
        .unwrap();
        for (repository, expected) in [
            ("team/a/x", "a"),
            ("team/ab", "team"),
            ("teams/x", "all"),
            ("team", "team"),
        ] {
            assert_eq!(who(&file, repository), Some(expected), "{repository}");
        }
    }

    #[test]
    fn a_duration_that_the_kubelet_would_refuse_is_not_passed_on() {
        for (text, usable) in [
            ("\"0h5m0s\"", true),
            ("\"0\"", true),
            ("\"1.5h\"", true),
            ("\"300ms\"", true),
            ("\"5us\"", true),
            ("300", false),
            ("\"300\"", false),
            ("\"-5m\"", false),
            ("\"5 m\"", false),
            ("\"\"", false),
            ("\"h\"", false),
            ("\"1.2.3s\"", false),
            ("\"2562047h47m16s\"", true),
            ("\"2562048h\"", false),
            ("\"9999999h\"", false),
            ("\"99999999999999999999s\"", false),
        ] {
            let file = parse_login_file(&format!(r#"{{"username":"u","duration":{text}}}"#)).unwrap();
            assert_eq!(file.duration_ignored, !usable, "{text}");
            assert_eq!(
                file.duration == DEFAULT_DURATION,
                !usable || text == "\"0h5m0s\"",
                "{text}"
            );
        }
    }

    #[test]
    fn a_file_without_a_login_is_told_from_one_with_it() {
        for (text, expected) in [
            (r#"{"username":"u","password":"p"}"#, None),
            (r#"{"username":"u","password":""}"#, None),
            (r#"{"paths":{"a":{"username":"u","password":"p"}}}"#, None),
            (r#"{"auths":{"r":{"auth":"dTpw"}}}"#, Some(MissingLogin::DockerConfig)),
            (
                r#"{"Username":"u","password":"p"}"#,
                Some(MissingLogin::OtherSpelling("username")),
            ),
            (
                r#"{"username":"u","pass_word":"p"}"#,
                Some(MissingLogin::OtherSpelling("password")),
            ),
            (r#"{"username":"u"}"#, Some(MissingLogin::Password)),
            (r#"{"password":"p"}"#, Some(MissingLogin::Username)),
            ("{}", Some(MissingLogin::Both)),
        ] {
            assert_eq!(parse_login_file(text).unwrap().missing, expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_without_its_text() {
        for (text, expected) in [
            ("", "line 1, column 0: the JSON ends too early"),
            ("username: canary", "line 1, column 1: this is not JSON"),
            (
                "{\"username\":\"u\",\n\"password\":[\"canary\"]}",
                "line 2, column 11: a value of another type is needed here",
            ),
        ] {
            assert_eq!(parse_login_file(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_the_agent_writes_is_read_back() {
        let login = |name: &str| StoredLogin {
            username: name.to_owned(),
            password: "p\"ä".into(),
        };
        let text = render_login_file(
            Some(&login("all")),
            &[PathLogin {
                path: "team".to_owned(),
                login: login("team"),
            }],
        );
        insta::assert_snapshot!(*text, @r#"
        {
          "managedBy": "landfall",
          "username": "all",
          "password": "p\"ä",
          "duration": "0h5m0s",
          "subdomains": false,
          "paths": {
            "team": {
              "username": "team",
              "password": "p\"ä"
            }
          }
        }
        "#);
        let file = parse_login_file(&text).unwrap();
        assert_eq!(
            (who(&file, "x"), who(&file, "team/x"), file.subdomains),
            (Some("all"), Some("team"), false)
        );
    }
}
