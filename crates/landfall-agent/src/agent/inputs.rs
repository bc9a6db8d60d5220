//! The input files: loading them, fingerprinting them, and keeping the last good ones.

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::diagnostic::NamedText;
use landfall_host::files::write_atomic;
use landfall_host::inputs::load_input;
use landfall_net::state_file::{StateFile, Unusable, load_state_file};
use landfall_oci::digest::{Algorithm, Digester};
use serde::{Deserialize, Serialize};

/// The file with the last good inputs. It holds their passwords, hence mode 0600.
pub(crate) const LAST_GOOD: &str = "last-good.json";

/// The texts of one configuration.
#[derive(Debug, Clone)]
pub(crate) struct ConfigTexts {
    /// The user-data; site data last.
    pub(crate) user_data: Vec<NamedText>,
    pub(crate) profiles: Vec<NamedText>,
}

/// Reads the input files.
///
/// # Errors
///
/// If one cannot be read, is too large, or is no text in UTF-8.
pub(crate) fn load_inputs(user_data: &[Utf8PathBuf], profiles: &[Utf8PathBuf]) -> anyhow::Result<ConfigTexts> {
    let load = |paths: &[Utf8PathBuf]| {
        let texts = paths.iter().map(|path| load_input(path));
        texts.collect::<Result<Vec<_>, _>>()
    };
    Ok(ConfigTexts {
        user_data: load(user_data)?,
        profiles: load(profiles)?,
    })
}

impl ConfigTexts {
    /// Returns the SHA-256 over names and texts, in hex. Only equal inputs have equal fingerprints.
    pub(crate) fn fingerprint(&self) -> String {
        let mut digester = Digester::new(Algorithm::Sha256);
        for texts in [&self.user_data, &self.profiles] {
            digester.update(&(texts.len() as u64).to_be_bytes());
            for part in texts.iter().flat_map(|text| [&text.name, &text.text]) {
                digester.update(&(part.len() as u64).to_be_bytes());
                digester.update(part.as_bytes());
            }
        }
        digester.finish().hex().to_owned()
    }
}

/// The version of the copy's format. Version 1 had no field for it.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct LastGood {
    #[serde(default)]
    version: u32,
    user_data: Vec<(String, String)>,
    profiles: Vec<(String, String)>,
}

/// Keeps these inputs as the last good ones. A restart with broken files goes on with them.
///
/// # Errors
///
/// If the copy cannot be written.
pub(crate) fn write_last_good(state_dir: &Utf8Path, inputs: &ConfigTexts) -> anyhow::Result<()> {
    let plain = |texts: &[NamedText]| {
        texts
            .iter()
            .map(|text| (text.name.to_string(), text.text.to_string()))
            .collect()
    };
    let kept = LastGood {
        version: VERSION,
        user_data: plain(&inputs.user_data),
        profiles: plain(&inputs.profiles),
    };
    write_atomic(&state_dir.join(LAST_GOOD), 0o600, &serde_json::to_vec(&kept)?)?;
    Ok(())
}

/// Loads the last good inputs.
pub(crate) fn load_last_good(state_dir: &Utf8Path) -> StateFile<ConfigTexts> {
    load_state_file(&state_dir.join(LAST_GOOD), parse_last_good)
}

/// Reads the last good inputs as [`load_last_good`] does, and changes nothing; `None` if they cannot be used.
pub(crate) fn read_last_good(state_dir: &Utf8Path) -> Option<ConfigTexts> {
    let bytes = fs_err::read(state_dir.join(LAST_GOOD)).ok()?;
    parse_last_good(&bytes).ok()
}

fn parse_last_good(bytes: &[u8]) -> Result<ConfigTexts, Unusable> {
    // serde's message could quote the text, which holds passwords.
    let damaged = || Unusable::Damaged("it is not what the agent wrote".to_owned());
    let kept: LastGood = serde_json::from_slice(bytes).map_err(|_may_hold_a_secret| damaged())?;
    if kept.version > VERSION {
        return Err(Unusable::Newer {
            found: kept.version,
            known: VERSION,
        });
    }
    let named = |texts: Vec<(String, String)>| {
        texts
            .into_iter()
            .map(|(name, text)| NamedText {
                name: name.into(),
                text: text.into(),
            })
            .collect()
    };
    Ok(ConfigTexts {
        user_data: named(kept.user_data),
        profiles: named(kept.profiles),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mk_inputs(user_data: &[(&str, &str)], profiles: &[(&str, &str)]) -> ConfigTexts {
        let mk = |texts: &[(&str, &str)]| {
            texts
                .iter()
                .map(|(name, text)| NamedText {
                    name: (*name).into(),
                    text: (*text).into(),
                })
                .collect()
        };
        ConfigTexts {
            user_data: mk(user_data),
            profiles: mk(profiles),
        }
    }

    #[test]
    fn any_difference_changes_the_fingerprint() {
        let inputs = [
            mk_inputs(&[("a", "b")], &[("c", "d")]),
            mk_inputs(&[("a", "B")], &[("c", "d")]),
            mk_inputs(&[("ab", "")], &[("c", "d")]),
            mk_inputs(&[("a", "b"), ("c", "d")], &[]),
            mk_inputs(&[], &[("a", "b"), ("c", "d")]),
        ];
        let distinct: std::collections::BTreeSet<_> = inputs.iter().map(ConfigTexts::fingerprint).collect();
        assert_eq!(distinct.len(), inputs.len());
        assert_eq!(inputs[0].fingerprint(), inputs[0].clone().fingerprint());
    }

    #[test]
    fn last_good_inputs_come_back_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = Utf8Path::from_path(dir.path()).unwrap();
        assert!(matches!(load_last_good(state_dir), StateFile::Missing));
        let inputs = mk_inputs(&[("u", "secret")], &[("p", "x")]);
        write_last_good(state_dir, &inputs).unwrap();
        let StateFile::Loaded(back) = load_last_good(state_dir) else {
            panic!("the inputs are gone")
        };
        assert_eq!(back.fingerprint(), inputs.fingerprint());
        let mode = fs_err::metadata(state_dir.join(LAST_GOOD))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        fs_err::write(state_dir.join(LAST_GOOD), r#"{"user_data": "secret", "profiles": []}"#).unwrap();
        let StateFile::SetAside(aside) = load_last_good(state_dir) else {
            panic!("damaged inputs are used")
        };
        assert!(!aside.to_string().contains("secret"), "{aside}");
    }
}
