//! Settings made without the parser, for tests of the later stages.
#![expect(clippy::unwrap_used, reason = "test set-up")]
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::sync::Arc;

use landfall_core::diagnostic::Location;
use landfall_core::reference::{ImageReference, parse_reference};
use landfall_core::settings::{
    Finding, ImageRole, Login, MappingRule, Primary, PrimaryKind, ProfileImage, RegistryRole, RegistrySettings,
    RulePrefix, Settings,
};

/// The password of every registry. No output may contain it.
pub(crate) const CANARY: &str = "canary-password";

pub(crate) fn mk_location(file: &str, line: u32) -> Location {
    Location {
        file: Arc::from(file),
        line,
        column: 1,
        key: Arc::from("a.key"),
    }
}

fn split(address: &str) -> (&str, &str) {
    let address = address.trim_end_matches('/');
    address.split_once('/').unwrap_or((address, ""))
}

/// Parses a reference that must be valid.
pub(crate) fn mk_reference(text: &str) -> ImageReference {
    parse_reference(text).unwrap_or_else(|error| panic!("`{text}`: {error}"))
}

/// Adds a registry at `host[:port][/path]`, with a password.
pub(crate) fn with_registry(mut settings: Settings, role: RegistryRole, address: &str) -> Settings {
    let (host, path) = split(address);
    let line = u32::try_from(settings.registries.len()).unwrap() + 5;
    settings.registries.push(RegistrySettings {
        role,
        host: host.parse().unwrap(),
        path: path.to_owned(),
        login: Some(Login {
            username: "robot".to_owned(),
            password: CANARY.into(),
            location: mk_location("user-data.yaml", line + 1),
        }),
        insecure: false,
        certificates: Vec::new(),
        repository_name: None,
        location: mk_location("user-data.yaml", line),
    });
    settings
}

/// Adds the external registry at an address.
pub(crate) fn with_external(settings: Settings, address: &str) -> Settings {
    with_registry(settings, RegistryRole::External, address)
}

/// Adds a mapping rule; `all` is the key of that name.
pub(crate) fn with_rule(mut settings: Settings, from: &str, to: &str) -> Settings {
    let (to_host, to_path) = split(to);
    let line = u32::try_from(settings.rules.len()).unwrap() + 20;
    settings.rules.push(MappingRule {
        from: if from == "all" {
            RulePrefix::All
        } else {
            let (host, path) = split(from);
            RulePrefix::Path {
                host: host.parse().unwrap(),
                path: path.to_owned(),
            }
        },
        to_host: to_host.parse().unwrap(),
        to_path: to_path.to_owned(),
        location: mk_location("user-data.yaml", line),
    });
    settings
}

/// Sets the primary registry, project `spectro-images`.
pub(crate) fn with_primary(mut settings: Settings, endpoint: &str, sync: bool) -> Settings {
    settings.primary = Some(Primary {
        kind: PrimaryKind::Embedded,
        endpoint: endpoint.parse().unwrap(),
        project: "spectro-images".to_owned(),
        sync,
        location: None,
    });
    with_registry(settings, RegistryRole::Primary, endpoint)
}

/// Adds an image of a profile.
pub(crate) fn with_image(mut settings: Settings, role: ImageRole, source: &str) -> Settings {
    let line = u32::try_from(settings.images.len()).unwrap() + 1;
    settings.images.push(ProfileImage {
        source: source.to_owned(),
        reference: mk_reference(source),
        role,
        layer: match role {
            ImageRole::Provider => "os",
            ImageRole::Infrastructure => "cni",
            ImageRole::Application => "addon",
        }
        .to_owned(),
        pack: "pack".to_owned(),
        profile: "edge".to_owned(),
        finding: Finding::Declared,
        location: mk_location("profile.yaml", line),
    });
    settings
}

/// Switches redirection off.
pub(crate) fn without_redirection(mut settings: Settings) -> Settings {
    settings.webhook.enable = false;
    settings
}
