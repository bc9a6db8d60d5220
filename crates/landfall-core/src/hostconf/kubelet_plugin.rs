//! The kubelet's credential provider on a host: does the kubelet call our plug-in? Without it, the image of a pod that was
//! redirected to a registry with a login cannot be pulled [spec:credential-provider.kubelet].

use camino::{Utf8Path, Utf8PathBuf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kubelet::{BIN_DIRECTORY, CONFIG_PATH, PLUGIN, render_logins};
use crate::settings::Settings;

/// The kubelet's flag for the `CredentialProviderConfig`.
pub const CONFIG_FLAG: &str = "image-credential-provider-config";
const BIN_FLAG: &str = "image-credential-provider-bin-dir";

/// The kubelet's flags for credential providers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginFlags {
    pub config: Option<Utf8PathBuf>,
    pub bin_directory: Option<Utf8PathBuf>,
}

impl PluginFlags {
    /// Takes the missing flags from another set.
    #[must_use]
    pub fn or(self, other: PluginFlags) -> PluginFlags {
        PluginFlags {
            config: self.config.or(other.config),
            bin_directory: self.bin_directory.or(other.bin_directory),
        }
    }
}

/// Facts that a shell found on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KubeletFacts {
    /// No kubelet runs.
    NotFound,
    Found {
        /// The program that contains the kubelet: `kubelet` or `k3s`.
        reader: String,
        flags: PluginFlags,
        /// The text of the file that the flag names, if it can be read.
        config: Option<String>,
        /// True if our plug-in is in the directory that the flag names.
        has_plugin: bool,
    },
}

/// The state of the kubelet's logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LoginState {
    /// The kubelet calls our plug-in.
    Ready,
    /// The kubelet does not call it: images of registries with a login cannot be pulled.
    NotReady,
    /// It is not known: no kubelet runs.
    Unknown,
}

/// The answer for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletLogins {
    pub state: LoginState,
    /// One sentence.
    pub message: String,
    /// One thing to do.
    pub hint: Option<&'static str>,
}

/// Returns true if the kubelet needs the plug-in: a registry of the configuration has a login.
#[must_use]
pub fn needs_plugin(settings: &Settings) -> bool {
    !render_logins(settings).is_empty()
}

/// Decides if the kubelet calls our plug-in.
#[must_use]
pub fn read_kubelet(facts: &KubeletFacts) -> KubeletLogins {
    let not_ready = |message: String, hint| KubeletLogins {
        state: LoginState::NotReady,
        message: format!("{message}: images of registries with a login cannot be pulled"),
        hint: Some(hint),
    };
    let flags_hint =
        "`landfall redirect render --for kubelet` shows the two flags and their places; then restart the kubelet";
    let (reader, flags, config, has_plugin) = match facts {
        KubeletFacts::NotFound => {
            return KubeletLogins {
                state: LoginState::Unknown,
                message: "no kubelet runs: it is not known if it calls the credential provider".to_owned(),
                hint: None,
            };
        }
        KubeletFacts::Found {
            reader,
            flags,
            config,
            has_plugin,
        } => (reader, flags, config, *has_plugin),
    };
    let (Some(path), Some(directory)) = (&flags.config, &flags.bin_directory) else {
        let missing = if flags.config.is_none() { CONFIG_FLAG } else { BIN_FLAG };
        return not_ready(format!("the {reader} runs without `--{missing}`"), flags_hint);
    };
    match config {
        Some(text) if text.contains(PLUGIN) => {}
        Some(_) => {
            let message = format!("`{path}`, which the {reader} reads, does not name `{PLUGIN}`");
            return not_ready(message, flags_hint);
        }
        None => return not_ready(format!("`{path}`, which the {reader} reads, is not there"), flags_hint),
    }
    if !has_plugin {
        return not_ready(
            format!("`{directory}/{PLUGIN}` is not there"),
            "link that name to the program: `ln -s /usr/bin/landfall PATH`",
        );
    }
    KubeletLogins {
        state: LoginState::Ready,
        message: format!("the {reader} calls `{PLUGIN}`"),
        hint: None,
    }
}

/// Returns the flags among the arguments of a kubelet.
#[must_use]
pub fn flags_in_arguments(arguments: &[&str]) -> PluginFlags {
    let value = |flag: &str| {
        arguments.iter().enumerate().find_map(|(at, argument)| {
            let rest = argument.trim_start_matches('-').strip_prefix(flag)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(Utf8PathBuf::from(value)),
                None if rest.is_empty() => Some(Utf8PathBuf::from(*arguments.get(at + 1)?)),
                None => None,
            }
        })
    };
    PluginFlags {
        config: value(CONFIG_FLAG),
        bin_directory: value(BIN_FLAG),
    }
}

/// Returns the flags in a configuration of K3s, as `kubelet-arg` or as its own setting.
#[must_use]
pub fn flags_in_text(text: &str) -> PluginFlags {
    let value = |flag: &str| {
        let (_, rest) = text.split_once(flag)?;
        let rest = rest.trim_start_matches(['=', ':', ' ', '"', '\'']);
        let end = rest.find(|character: char| character.is_whitespace() || "\"',]".contains(character));
        let value = &rest[..end.unwrap_or(rest.len())];
        value.starts_with('/').then(|| Utf8PathBuf::from(value))
    };
    PluginFlags {
        config: value(CONFIG_FLAG),
        bin_directory: value(BIN_FLAG),
    }
}

/// Returns the flags that K3s sets by itself if the directory exists.
#[must_use]
pub fn default_flags() -> PluginFlags {
    let directory = Utf8Path::new("/var/lib/rancher/credentialprovider");
    PluginFlags {
        config: Some(directory.join("config.yaml")),
        bin_directory: Some(directory.join("bin")),
    }
}

/// Returns the flags that lead to our plug-in.
#[must_use]
pub fn our_flags() -> PluginFlags {
    PluginFlags {
        config: Some(CONFIG_PATH.into()),
        bin_directory: Some(BIN_DIRECTORY.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(flags: PluginFlags, config: Option<&str>, has_plugin: bool) -> KubeletFacts {
        KubeletFacts::Found {
            reader: "kubelet".to_owned(),
            flags,
            config: config.map(ToOwned::to_owned),
            has_plugin,
        }
    }

    #[test]
    fn flags_are_found_in_every_form() {
        for arguments in [
            &[
                "/usr/bin/kubelet",
                "--image-credential-provider-config=/etc/kubernetes/landfall-credential-provider.yaml",
                "--image-credential-provider-bin-dir=/usr/libexec/landfall",
            ][..],
            &[
                "kubelet",
                "--image-credential-provider-bin-dir",
                "/usr/libexec/landfall",
                "-image-credential-provider-config",
                "/etc/kubernetes/landfall-credential-provider.yaml",
            ],
        ] {
            assert_eq!(flags_in_arguments(arguments), our_flags(), "{arguments:?}");
        }
        let rendered = super::super::kubelet::render_flags();
        let k3s = rendered.iter().find(|part| part.place.starts_with("K3s")).unwrap();
        assert_eq!(flags_in_text(&k3s.text), our_flags());
        assert_eq!(
            flags_in_text("image-credential-provider-config: \"/a b\"\n").config,
            Some("/a".into())
        );
        assert_eq!(flags_in_text("node-name: a\n"), PluginFlags::default());
    }

    #[test]
    fn what_is_missing_is_named() {
        let config = "kind: CredentialProviderConfig\nproviders:\n- name: landfall-credential-provider\n";
        for (facts, state, message) in [
            (KubeletFacts::NotFound, LoginState::Unknown, "no kubelet runs"),
            (
                found(PluginFlags::default(), None, false),
                LoginState::NotReady,
                "without `--image-credential-provider-config`",
            ),
            (found(our_flags(), None, true), LoginState::NotReady, "is not there"),
            (
                found(our_flags(), Some("providers: []"), true),
                LoginState::NotReady,
                "does not name `landfall-credential-provider`",
            ),
            (
                found(our_flags(), Some(config), false),
                LoginState::NotReady,
                "`/usr/libexec/landfall/landfall-credential-provider` is not there",
            ),
            (found(our_flags(), Some(config), true), LoginState::Ready, "calls"),
        ] {
            let reading = read_kubelet(&facts);
            assert_eq!(reading.state, state, "{}", reading.message);
            assert!(reading.message.contains(message), "{}", reading.message);
        }
    }
}
