//! Adds a login to docker's file or removes one. Everything else in the file stays, byte for byte within untouched
//! values.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::de::{MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap};
use serde::{Deserialize, Deserializer, Serializer};
use serde_json::value::RawValue;

use super::CredentialFileProblem;
use super::docker::{registry_key, scope_of};
use crate::lenient::without_mark;
use crate::reference::RegistryHost;

const AUTHS: &str = "auths";

/// Returns the file with a login for a registry, under docker's key for it; `text` may be empty. Without a login, the
/// entry is only a mark that a helper keeps it, as docker writes it too.
///
/// # Errors
/// If `text` is not JSON of docker's form.
pub fn set_login(
    text: &str,
    host: &RegistryHost,
    login: Option<(&str, &SecretString)>,
) -> Result<SecretString, CredentialFileProblem> {
    let (mut file, mut auths) = read(text)?;
    let mut entry = Object::default();
    if let Some((username, password)) = login {
        let auth = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
        let quoted = RawValue::from_string(format!("\"{auth}\"")).expect("base64 needs no escapes");
        entry.set("auth", JsonValue::Raw(quoted));
    }
    auths.set(&registry_key(host), JsonValue::Object(entry));
    file.set(AUTHS, JsonValue::Object(auths));
    Ok(render(&file))
}

/// Returns the file without the logins for a registry as a whole, under any of docker's keys for it; `None` if it has
/// none.
///
/// # Errors
/// If `text` is not JSON of docker's form.
pub fn remove_login(text: &str, host: &RegistryHost) -> Result<Option<SecretString>, CredentialFileProblem> {
    let (mut file, mut auths) = read(text)?;
    let before = auths.0.len();
    auths
        .0
        .retain(|(key, _)| scope_of(key).is_none_or(|scope| scope.host != *host || !scope.path.is_empty()));
    if auths.0.len() == before {
        return Ok(None);
    }
    file.set(AUTHS, JsonValue::Object(auths));
    Ok(Some(render(&file)))
}

fn read(text: &str) -> Result<(Object, Object), CredentialFileProblem> {
    let text = without_mark(text);
    if text.trim().is_empty() {
        return Ok((Object::default(), Object::default()));
    }
    let problem = |error: serde_json::Error| CredentialFileProblem::of(&error);
    let file: Object = serde_json::from_str(text).map_err(problem)?;
    let auths = match file.get(AUTHS) {
        Some(JsonValue::Raw(auths)) if auths.get() != "null" => serde_json::from_str(auths.get()).map_err(problem)?,
        _ => Object::default(),
    };
    Ok((file, auths))
}

/// Renders the file with tabs, as docker does. The inside of untouched values stays as it was.
fn render(file: &Object) -> SecretString {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    file.serialize(&mut serializer)
        .expect("text and raw JSON can be written to memory");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("JSON is UTF-8").into()
}

/// A JSON object that keeps the order of its keys.
#[derive(Default)]
struct Object(Vec<(String, JsonValue)>);

/// A JSON value. Uninterpreted values stay byte for byte: numbers, order and white space survive.
enum JsonValue {
    Raw(Box<RawValue>),
    Object(Object),
}

impl Object {
    fn get(&self, key: &str) -> Option<&JsonValue> {
        let found = self.0.iter().find(|(found, _)| found == key);
        found.map(|(_, value)| value)
    }

    fn set(&mut self, key: &str, value: JsonValue) {
        match self.0.iter_mut().find(|(found, _)| found == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }
}

impl Serialize for JsonValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            JsonValue::Raw(raw) => raw.serialize(serializer),
            JsonValue::Object(object) => object.serialize(serializer),
        }
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry()? {
                    entries.push((key, JsonValue::Raw(value)));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
	"HttpHeaders": {
		"User-Agent":   "Docker-Client/19.03 (linux)"
	},
	"auths": {
		"https://index.docker.io/v1/": {
			"auth": "b2xkOm9sZA=="
		},
		"docker.io": {"auth": "b2xkOm9sZA=="},
		"quay.io/shop": {
			"auth": "c2hvcDpz", "email": "ann@example.com"
		}
	},
	"detachKeys": "ctrl-e,e",
	"number": 1e400
}
"#;

    fn host(text: &str) -> RegistryHost {
        text.parse().unwrap()
    }

    #[test]
    fn a_login_is_added_and_everything_else_stays_to_the_letter() {
        let password = SecretString::from("secret");
        let added = set_login(FILE, &host("reg:5000"), Some(("ann", &password))).unwrap();
        let at = FILE.find("\n\t},\n\t\"detachKeys").unwrap();
        let expected = format!(
            "{},\n\t\t\"reg:5000\": {{\n\t\t\t\"auth\": \"YW5uOnNlY3JldA==\"\n\t\t}}{}",
            &FILE[..at],
            &FILE[at..]
        );
        assert_eq!(added.expose_secret(), expected);
    }

    #[test]
    fn an_old_login_is_replaced_in_its_place() {
        let password = SecretString::from("secret");
        let replaced = set_login(FILE, &host("index.docker.io"), Some(("ann", &password))).unwrap();
        assert_eq!(
            replaced.expose_secret(),
            FILE.replacen("b2xkOm9sZA==", "YW5uOnNlY3JldA==", 1)
        );
        let marked = set_login(FILE, &host("docker.io"), None).unwrap();
        let expected = FILE.replacen("{\n\t\t\t\"auth\": \"b2xkOm9sZA==\"\n\t\t}", "{}", 1);
        assert_eq!(marked.expose_secret(), expected);
    }

    #[test]
    fn logging_out_takes_every_spelling_of_the_registry_and_no_path_below_it() {
        let removed = remove_login(FILE, &host("docker.io")).unwrap().unwrap();
        let (start, end) = (FILE.find("\t\t\"https").unwrap(), FILE.find("\t\t\"quay").unwrap());
        assert_eq!(removed.expose_secret(), format!("{}{}", &FILE[..start], &FILE[end..]));
        assert!(remove_login(FILE, &host("quay.io")).unwrap().is_none());
        assert!(remove_login("", &host("quay.io")).unwrap().is_none());
    }

    #[test]
    fn an_empty_file_becomes_one_with_a_login() {
        let made = set_login(" \n", &host("reg"), Some(("ann", &SecretString::from("secret")))).unwrap();
        insta::assert_snapshot!(made.expose_secret(), @r#"
        {
        	"auths": {
        		"reg": {
        			"auth": "YW5uOnNlY3JldA=="
        		}
        	}
        }
        "#);
        for text in ["[]", "{\"auths\": 7}", "{"] {
            assert!(set_login(text, &host("reg"), None).is_err(), "{text}");
        }
    }
}
