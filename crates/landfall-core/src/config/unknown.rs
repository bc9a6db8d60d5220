//! Search for the parts of the inputs that could not be read: the absence of a registry, a rule or an image is a
//! statement only if they could [spec:combinations.unknown].

use std::collections::BTreeSet;

use crate::config::codes::{self, CodeDoc};
use crate::config::effect::is_at_or_below;
use crate::config::report::{FoundError, Report};
use crate::settings::{Unknown, Unknowns};
use crate::wording::edit_distance;

/// Keys of a registry that do not decide which registry serves an image.
const OF_ACCESS: [&str; 12] = [
    "username",
    "user",
    "password",
    "encodedPassword",
    "insecure",
    "certificates",
    "certificate",
    "repositoryName",
    "usernameRef",
    "passwordRef",
    "listen",
    "tls",
];
/// Key paths whose values decide which registry serves an image. Of the first ones only the value as a whole does.
const WHOLE: [&str; 3] = ["", "stylus", "landfall"];
const SOURCES: [&str; 5] = [
    "stylus.registryCredentials",
    "stylus.externalRegistries",
    "stylus.imageRedirectWebhook.enable",
    "stylus.webhook.enable",
    "landfall.primary",
];
/// The key of a registry-connect pack, somewhere in a profile.
const CONNECT: &str = ".charts.registry-connect";
const NAMESPACE_LABELS: &str = ".pack.namespaceLabels";
/// Keys of user-data that name registries; at another place, or misspelt, they have no effect.
const INEFFECTIVE_SOURCES: [&str; 3] = ["externalRegistries", "registryMappingRules", "registryCredentials"];

/// A file that is not part of the settings.
pub(crate) struct UnreadFile<'f> {
    pub(crate) name: &'f str,
    pub(crate) is_profile: bool,
}

/// Returns the parts that the errors of a report leave unknown. The report holds the findings about single values, and
/// none about their combination.
pub(crate) fn find_unknowns(unread: &[UnreadFile<'_>], report: &Report) -> Unknowns {
    let mut unknowns = Unknowns::default();
    for file in unread {
        let error = report
            .errors()
            .find(|error| *error.span.location(error.key.clone()).file == *file.name);
        let Some(error) = error else { continue };
        let list = match file.is_profile {
            true => &mut unknowns.images,
            false => &mut unknowns.sources,
        };
        list.push(unknown(&error, report, true));
        // A profile may hold the rules of registry-connect and the primary registry.
        if file.is_profile {
            unknowns.sources.push(unknown(&error, report, true));
        }
    }
    for error in report.errors() {
        let location = error.span.location(error.key.clone());
        if unread.iter().any(|file| *location.file == *file.name) {
            continue;
        }
        let is_profile = error.key.starts_with("packs[") || error.key.starts_with("spec");
        if hides_source(error.doc, error.key, is_profile) {
            unknowns.sources.push(unknown(&error, report, false));
        } else if is_profile && error.key.contains(NAMESPACE_LABELS) {
            unknowns.namespaces.push(unknown(&error, report, false));
        } else if is_profile && hides_image(error.key) {
            unknowns.images.push(unknown(&error, report, false));
        }
    }
    // The key has no effect, but its writer meant that registries or rules exist.
    let slips = [&codes::MISPLACED, &codes::UNKNOWN_KEY];
    for slip in report.of_codes(&slips) {
        if means_source(slip.key) {
            unknowns.sources.push(unknown(&slip, report, false));
        }
    }
    // A file that is given twice has each finding twice.
    for list in [&mut unknowns.sources, &mut unknowns.images, &mut unknowns.namespaces] {
        let mut seen = BTreeSet::new();
        list.retain(|found| seen.insert(format!("{found:?}")));
    }
    unknowns
}

/// Returns true for a key, possibly misspelt, that names registries or rules where it has an effect.
fn means_source(key: &str) -> bool {
    const MISSPELT_MAX: usize = 3;
    let name = last_name(key).to_lowercase();
    let mut sources = INEFFECTIVE_SOURCES.iter().map(|source| source.to_lowercase());
    sources.any(|source| edit_distance(&name, &source, MISSPELT_MAX).is_some())
}

/// Returns the last name of a key path, without the number of a list's entry.
fn last_name(key: &str) -> &str {
    let last = key.rsplit('.').next().unwrap_or_default();
    last.split('[').next().unwrap_or_default()
}

fn unknown(error: &FoundError<'_>, report: &Report, is_whole_file: bool) -> Unknown {
    Unknown {
        location: error.span.location(error.key.clone()),
        message: report.mask(error.message),
        is_whole_file,
    }
}

fn hides_source(doc: &CodeDoc, key: &str, is_profile: bool) -> bool {
    if *doc == codes::MISSING_HEADER || OF_ACCESS.contains(&last_name(key)) {
        return false;
    }
    if is_profile {
        return key.contains(CONNECT);
    }
    WHOLE.contains(&key) || SOURCES.iter().any(|source| is_at_or_below(key, source))
}

/// Returns true for errors in values, manifests and images of packs, but not in logins and stages.
fn hides_image(key: &str) -> bool {
    ![".providerCredentials", ".stages", ".charts.registry-connect"]
        .iter()
        .any(|part| key.contains(part))
}
