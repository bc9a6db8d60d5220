//! containerd's own configuration, as it is in effect on a host [spec:mirror-files.effective]: are our mirror files read,
//! and if not, what has to be written, and into which file?
//!
//! A shell gathers [`ContainerdFacts`]: release, main file, imported files, and containerd's own dump. This module merges
//! them as containerd does and returns a [`MirrorReading`]. Sources, in containerd's repository:
//!
//! - 1.x (`services/server/config`): the table of a plug-in in an imported file replaces the whole table of the main file.
//!   A drop-in would remove `sandbox_image`, `SystemdCgroup` and the rest of the CRI section.
//! - 2.x (`cmd/containerd/server/config`): tables are merged. Up to 2.2 the `version` of the last file counts for all
//!   files, so a drop-in has the version of the main file. The default `imports` of 2.4 is not followed: only `imports` in
//!   a file is.
//! - `config dump` of 2.0 to 2.2 does not migrate files of version 2, so that it shows defaults in their place.
//! - Since 2.2 (`plugins/cri/images`) an empty `config_path` without inline mirrors means
//!   `/etc/containerd/certs.d:/etc/docker/certs.d`. But since 2.1 the transfer service pulls
//!   (`core/transfer/registry`), and takes such a list for the name of one directory: bare containerd 2.4 reads none of
//!   it (seen). With `use_local_image_pull` the list is one.
//! - `config_path` beside `registry.mirrors`, and in 1.x beside `registry.configs.*.tls`, keeps the CRI plug-in from
//!   loading: the node is not ready.

use std::collections::BTreeSet;

use camino::{Utf8Path, Utf8PathBuf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, TableLike};

use super::{Fragment, is_ours};
use crate::settings::{Dialect, Settings};

/// The directory in which containerd looks for the files, as set by the drop-in.
pub const CERTS_DIRECTORY: &str = "/etc/containerd/certs.d";
/// The directory of the drop-in file.
pub const DROP_INS: &str = "/etc/containerd/conf.d";
/// The drop-in file; `imports` of the main file must cover it.
pub const DROP_IN: &str = "/etc/containerd/conf.d/50-landfall.toml";
/// The main file, unless the settings name another.
pub const MAIN_FILE: &str = "/etc/containerd/config.toml";
/// The URIs of the CRI plug-in's parts that have the `registry` table: up to version 2 of the configuration, and since.
const CRI: &str = "io.containerd.grpc.v1.cri";
const CRI_IMAGES: &str = "io.containerd.cri.v1.images";
/// The directories that containerd takes by default since this release.
const DEFAULT_DIRECTORIES: &str = "/etc/containerd/certs.d:/etc/docker/certs.d";
const DEFAULT_SINCE: ContainerdRelease = ContainerdRelease { major: 2, minor: 2 };
/// The first release that takes a list of directories for one, unless it pulls without the transfer service.
const LIST_IS_ONE_SINCE: ContainerdRelease = ContainerdRelease { major: 2, minor: 1 };
/// The first release whose dump shows migrated files.
const DUMP_MIGRATES_SINCE: ContainerdRelease = ContainerdRelease { major: 2, minor: 3 };

/// A release of containerd: its first two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerdRelease {
    pub major: u32,
    pub minor: u32,
}

impl ContainerdRelease {
    /// Reads a release in `2`, `1.7.27`, `v2.0.5` or the output of `containerd --version`.
    #[must_use]
    pub fn parse(text: &str) -> Option<ContainerdRelease> {
        text.split_whitespace().find_map(|word| {
            let mut numbers = word.strip_prefix('v').unwrap_or(word).split('.');
            let major = numbers.next()?.parse().ok()?;
            let minor = numbers.next().unwrap_or("0");
            let digits = minor.find(|character: char| !character.is_ascii_digit());
            let minor = minor[..digits.unwrap_or(minor.len())].parse().ok()?;
            Some(ContainerdRelease { major, minor })
        })
    }
}

/// A file of containerd's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    pub path: Utf8PathBuf,
    pub text: String,
}

/// Facts that a shell found on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerdFacts {
    /// The release, if the program or its socket answered.
    pub release: Option<ContainerdRelease>,
    /// The path of the main file.
    pub main_file: Utf8PathBuf,
    /// The main file and the files that it imports, in containerd's order; empty if there is no main file.
    pub files: Vec<ConfigFile>,
    /// The output of `containerd config dump`, if it was available.
    pub dump: Option<String>,
    /// The reason for which nothing is known.
    pub unknown: Option<String>,
}

impl ContainerdFacts {
    /// Returns the facts of a host that was not looked at.
    #[must_use]
    pub fn unknown(reason: impl Into<String>) -> ContainerdFacts {
        ContainerdFacts {
            release: None,
            main_file: MAIN_FILE.into(),
            files: Vec::new(),
            dump: None,
            unknown: Some(reason.into()),
        }
    }

    /// Returns the version of the main file's format; `None` without a main file.
    fn main_version(&self) -> Option<i64> {
        let main = self.files.first()?;
        Some(parse(main).ok()?.version)
    }

    /// Returns the major release, also where only the format of the main file tells it.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        let of_format = || self.main_version().filter(|version| *version >= 3).map(|_| 2);
        self.release.map(|release| release.major).or_else(of_format)
    }
}

/// The extent to which containerd reads the mirror files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ReadingState {
    /// containerd reads the directory of the mirror files.
    Read,
    /// containerd will read them after its next start, by our drop-in.
    AfterRestart,
    /// containerd does not read them. An operator has to change its main file.
    NotRead,
    /// It is not known.
    Unknown,
}

/// The answer for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorReading {
    pub state: ReadingState,
    /// One sentence: the reason.
    pub message: String,
    /// The lines that the user has to write, one fragment for each format in question.
    pub lines: Vec<Fragment>,
    /// The version of our drop-in; `None` if no drop-in must be there.
    pub drop_in: Option<u8>,
}

impl MirrorReading {
    fn new(state: ReadingState, message: String) -> MirrorReading {
        MirrorReading {
            state,
            message,
            lines: Vec::new(),
            drop_in: None,
        }
    }
}

/// The settings of one file, or the result of a merge, as far as they concern mirror files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RegistrySection {
    version: i64,
    config_path: String,
    mirrors: BTreeSet<String>,
    /// The registries of `configs` with a `tls` table.
    tls: BTreeSet<String>,
    /// True if the file has a table of the plug-in.
    has_plugin: bool,
    /// True if the CRI plug-in pulls without the transfer service.
    pulls_locally: bool,
    cri_disabled: bool,
    imports: Vec<String>,
}

/// Decides if containerd reads the mirror files that the settings ask for; `None` if they ask for none.
#[must_use]
pub fn read_wanted_mirror_files(settings: &Settings, facts: &ContainerdFacts) -> Option<MirrorReading> {
    let is_wanted = settings.landfall.mirror.files.contains(&Dialect::Containerd);
    is_wanted.then(|| read_mirror_files(facts))
}

/// Decides if containerd reads the mirror files, and what has to be written.
#[must_use]
pub fn read_mirror_files(facts: &ContainerdFacts) -> MirrorReading {
    let main = &facts.main_file;
    if let Some(reason) = &facts.unknown {
        let message = format!("it is not known if containerd reads `{CERTS_DIRECTORY}`: {reason}");
        return MirrorReading {
            lines: lines_for_any(facts),
            ..MirrorReading::new(ReadingState::Unknown, message)
        };
    }
    let section = match effective(facts) {
        Ok(section) => section,
        Err(problem) => {
            let message = format!("it is not known if containerd reads `{CERTS_DIRECTORY}`: {problem}");
            return MirrorReading {
                lines: lines_for_any(facts),
                ..MirrorReading::new(ReadingState::Unknown, message)
            };
        }
    };
    if section.cri_disabled {
        let message =
            format!("the CRI plug-in is in `disabled_plugins` of `{main}`: no kubelet pulls by this containerd");
        return MirrorReading::new(ReadingState::NotRead, message);
    }
    if let Some(reading) = conflict(facts, &section) {
        return reading;
    }
    let release_before = |limit| facts.release.is_some_and(|release| release < limit);
    let has_default = facts.release.is_some_and(|release| release >= DEFAULT_SINCE);
    let by_default = section.config_path.is_empty() && section.pulls_locally && has_default;
    let directories = match by_default {
        true => DEFAULT_DIRECTORIES,
        false => section.config_path.as_str(),
    };
    let takes_list = section.pulls_locally || release_before(LIST_IS_ONE_SINCE);
    let reads_ours = match takes_list {
        true => directories
            .split(':')
            .any(|path| Utf8Path::new(path) == CERTS_DIRECTORY),
        false => Utf8Path::new(directories) == CERTS_DIRECTORY,
    };
    let followed = follows_drop_in(facts);
    let ours_is_there = facts.files.iter().any(is_our_drop_in);
    let drop_in = (facts.major() >= Some(2) && followed)
        .then(|| facts.main_version())
        .flatten()
        .and_then(|version| u8::try_from(version.clamp(0, 3)).ok())
        .filter(|version| *version >= 2);
    if reads_ours {
        let message = match by_default {
            true => format!("containerd reads `{CERTS_DIRECTORY}`, its default where `use_local_image_pull` is set"),
            false => format!("containerd reads `{CERTS_DIRECTORY}`: `config_path` names it"),
        };
        return MirrorReading {
            drop_in: drop_in.filter(|_| ours_is_there),
            ..MirrorReading::new(ReadingState::Read, message)
        };
    }
    if !directories.is_empty() {
        let (lost, wanted) = match takes_list {
            true => (String::new(), format!("{CERTS_DIRECTORY}:{directories}")),
            false => (
                "; the files there would be lost, since containerd takes one directory since 2.1: move them".to_owned(),
                CERTS_DIRECTORY.to_owned(),
            ),
        };
        let message =
            format!("containerd does not read `{CERTS_DIRECTORY}`: its `config_path` is `{directories}`{lost}");
        return MirrorReading {
            lines: lines_for(facts, &wanted),
            ..MirrorReading::new(ReadingState::NotRead, message)
        };
    }
    if let Some(version) = drop_in {
        let message = format!(
            "containerd follows `{DROP_IN}` by `imports` of `{main}`, and reads `{CERTS_DIRECTORY}` once it was restarted"
        );
        return MirrorReading {
            drop_in: Some(version),
            ..MirrorReading::new(ReadingState::AfterRestart, message)
        };
    }
    let because = match facts.major() {
        Some(2..) => format!(
            "no `imports` in `{main}` covers `{DROP_IN}`, so that a drop-in would not be read; \
             `imports = [\"/etc/containerd/conf.d/*.toml\"]` at its top would do as well"
        ),
        Some(_) => {
            "a drop-in would replace the whole section of the CRI plug-in in containerd 1.x, with `sandbox_image` and the \
             options of its runtimes"
                .to_owned()
        }
        None => "its release is not known, and a drop-in would replace the whole section of the CRI plug-in in 1.x".to_owned(),
    };
    MirrorReading {
        lines: lines_for(facts, CERTS_DIRECTORY),
        ..MirrorReading::new(
            ReadingState::NotRead,
            format!("containerd has no `config_path` and does not read `{CERTS_DIRECTORY}`; {because}"),
        )
    }
}

/// Returns the reading if inline settings of the user exclude `config_path`. It names what would be lost.
fn conflict(facts: &ContainerdFacts, section: &RegistrySection) -> Option<MirrorReading> {
    let tls = match facts.major() {
        Some(2..) => &BTreeSet::new(),
        _ => &section.tls,
    };
    let names = names_in_the_way(&section.mirrors, tls)?;
    let main = &facts.main_file;
    // Our own drop-in is about to be removed.
    let is_set = !section.config_path.is_empty() && !facts.files.iter().any(is_our_drop_in);
    let (message, lines) = match is_set {
        true => (
            format!(
                "containerd's CRI plug-in does not load: `config_path` stands beside {names} in `{main}` or its imports"
            ),
            Vec::new(),
        ),
        false => (
            format!(
                "containerd's CRI plug-in does not load with `config_path` beside {names}, which `{main}` or its imports \
                 set; they would be lost: move them into files below `{CERTS_DIRECTORY}` first, then write the lines"
            ),
            lines_for(facts, CERTS_DIRECTORY),
        ),
    };
    Some(MirrorReading {
        lines,
        ..MirrorReading::new(ReadingState::NotRead, message)
    })
}

/// Returns true if a file has a table of the CRI plug-in in the format of containerd 1.x.
#[must_use]
pub fn has_cri_section(text: &str) -> bool {
    let file = ConfigFile {
        path: "config.toml".into(),
        text: text.to_owned(),
    };
    parse(&file).is_ok_and(|section| section.version <= 2 && section.has_plugin)
}

/// Returns the names of the settings that stand beside `config_path` in these files, and exclude it in some release.
#[must_use]
pub fn excluded_by_config_path(files: &[ConfigFile]) -> Option<String> {
    let sections: Vec<RegistrySection> = files.iter().filter_map(|file| parse(file).ok()).collect();
    let has_path = sections.iter().any(|section| !section.config_path.is_empty());
    let all = |names: fn(&RegistrySection) -> &BTreeSet<String>| {
        sections.iter().flat_map(|section| names(section).clone()).collect()
    };
    names_in_the_way(&all(|section| &section.mirrors), &all(|section| &section.tls)).filter(|_| has_path)
}

/// Names the settings that exclude `config_path`; `None` if there are none.
fn names_in_the_way(mirrors: &BTreeSet<String>, tls: &BTreeSet<String>) -> Option<String> {
    let named = |key: &str, names: &BTreeSet<String>| {
        let names = names.iter().map(|name| format!("`registry.{key}.\"{name}\"`"));
        names.collect::<Vec<_>>()
    };
    let names = [named("mirrors", mirrors), named("configs", tls)].concat();
    (!names.is_empty()).then(|| names.join(", "))
}

/// Merges the files as containerd does, and takes its dump where that can be relied on.
fn effective(facts: &ContainerdFacts) -> Result<RegistrySection, String> {
    let is_first = facts.major().is_none_or(|major| major < 2);
    let mut merged = RegistrySection::default();
    let mut oldest = i64::MAX;
    for file in &facts.files {
        let section = parse(file)?;
        merged.cri_disabled |= section.cri_disabled;
        if is_first && is_our_drop_in(file) {
            // It is about to be removed: it hides the section of the main file.
            continue;
        }
        oldest = oldest.min(section.version);
        if is_first && section.has_plugin {
            // 1.x replaces the table of the plug-in.
            merged = RegistrySection {
                cri_disabled: merged.cri_disabled,
                ..section
            };
            continue;
        }
        if !section.config_path.is_empty() {
            merged.config_path = section.config_path;
        }
        merged.pulls_locally |= section.pulls_locally;
        merged.mirrors.extend(section.mirrors);
        merged.tls.extend(section.tls);
    }
    let hides_ours = is_first && facts.files.iter().any(is_our_drop_in);
    let migrates = is_first || oldest >= 3 || facts.release.is_some_and(|release| release >= DUMP_MIGRATES_SINCE);
    match &facts.dump {
        Some(dump) if migrates && !hides_ours => parse(&ConfigFile {
            path: "the output of `containerd config dump`".into(),
            text: dump.clone(),
        }),
        _ => Ok(merged),
    }
}

fn is_our_drop_in(file: &ConfigFile) -> bool {
    file.path == DROP_IN && is_ours(file.text.as_bytes())
}

/// Returns the patterns that a file imports, as absolute paths.
///
/// # Errors
/// If the file is not TOML; the message has the place.
pub fn imports_of(file: &ConfigFile) -> Result<Vec<Utf8PathBuf>, String> {
    let directory = file.path.parent().unwrap_or(Utf8Path::new("/"));
    Ok(parse(file)?.imports.iter().map(|path| directory.join(path)).collect())
}

/// Returns true if a pattern of `imports` covers a path. `*` and `?` stand for parts of the file's name, as in Go's
/// `filepath.Glob`.
#[must_use]
pub fn pattern_covers(pattern: &Utf8Path, path: &Utf8Path) -> bool {
    let (Some(pattern_name), Some(name)) = (pattern.file_name(), path.file_name()) else {
        return false;
    };
    pattern.parent() == path.parent() && wildcard_matches(pattern_name.as_bytes(), name.as_bytes())
}

fn wildcard_matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| wildcard_matches(rest, &name[skipped..])),
        (Some((b'?', rest)), Some((_, name))) => wildcard_matches(rest, name),
        (Some((left, rest)), Some((right, name))) => left == right && wildcard_matches(rest, name),
        (Some(_) | None, _) => false,
    }
}

/// Returns true if `imports` of a file that containerd reads covers our drop-in.
fn follows_drop_in(facts: &ContainerdFacts) -> bool {
    let patterns = facts.files.iter().filter_map(|file| imports_of(file).ok()).flatten();
    patterns
        .into_iter()
        .any(|pattern| pattern_covers(&pattern, Utf8Path::new(DROP_IN)))
}

fn parse(file: &ConfigFile) -> Result<RegistrySection, String> {
    let document: DocumentMut = file.text.parse().map_err(|error: toml_edit::TomlError| {
        let line = error
            .span()
            .map_or(1, |span| file.text[..span.start].lines().count().max(1));
        format!("`{}` is not TOML at line {line}: {}", file.path, error.message())
    })?;
    let version = document
        .get("version")
        .and_then(toml_edit::Item::as_integer)
        .unwrap_or(1);
    let texts = |key: &str| {
        let list = document.get(key).and_then(toml_edit::Item::as_array);
        let texts = list.into_iter().flat_map(toml_edit::Array::iter);
        texts
            .filter_map(|item| item.as_str().map(ToOwned::to_owned))
            .collect::<Vec<_>>()
    };
    let plugin = match version {
        ..=1 => ["cri", CRI],
        2 => [CRI, CRI],
        _ => [CRI_IMAGES, CRI_IMAGES],
    };
    let plugins = document.get("plugins").and_then(toml_edit::Item::as_table_like);
    let cri = plugins.and_then(|plugins| plugin.iter().find_map(|name| table(plugins, name)));
    let registry = cri.and_then(|cri| table(cri, "registry"));
    let keys = |name: &str, is_meant: &dyn Fn(&toml_edit::Item) -> bool| {
        let entries = registry.and_then(|registry| table(registry, name));
        let entries = entries.into_iter().flat_map(TableLike::iter);
        entries
            .filter(|(_, value)| is_meant(value))
            .map(|(key, _)| key.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let disabled = texts("disabled_plugins");
    Ok(RegistrySection {
        version,
        config_path: registry
            .and_then(|registry| registry.get("config_path")?.as_str())
            .unwrap_or_default()
            .to_owned(),
        mirrors: keys("mirrors", &|_| true),
        tls: keys("configs", &|entry| {
            let tls = entry.as_table_like().and_then(|entry| entry.get("tls"));
            tls.and_then(toml_edit::Item::as_table_like)
                .is_some_and(|tls| !tls.is_empty())
        }),
        has_plugin: cri.is_some(),
        pulls_locally: cri
            .and_then(|cri| cri.get("use_local_image_pull")?.as_bool())
            .unwrap_or_default(),
        cri_disabled: disabled
            .iter()
            .any(|name| ["cri", CRI, CRI_IMAGES].contains(&name.as_str())),
        imports: texts("imports"),
    })
}

fn table<'a>(parent: &'a dyn TableLike, key: &str) -> Option<&'a dyn TableLike> {
    parent.get(key)?.as_table_like()
}

/// Renders the setting for one version of containerd's configuration, without the line that states the version.
#[must_use]
pub fn render_config_path(version: i64, directories: &str) -> String {
    let plugin = match version {
        ..=1 => "cri",
        2 => CRI,
        _ => CRI_IMAGES,
    };
    let plugin = if version <= 1 {
        plugin.to_owned()
    } else {
        format!("\"{plugin}\"")
    };
    format!("[plugins.{plugin}.registry]\n  config_path = \"{directories}\"\n")
}

fn lines_for(facts: &ContainerdFacts, directories: &str) -> Vec<Fragment> {
    let main = &facts.main_file;
    match (facts.main_version(), facts.major()) {
        (Some(version), _) => vec![Fragment {
            place: format!("`{main}`, and restart containerd; if the table is there already, add the line to it"),
            text: render_config_path(version, directories),
        }],
        (None, Some(major)) => {
            let version = if major < 2 { 2 } else { 3 };
            vec![Fragment {
                place: format!("a new `{main}`, and restart containerd"),
                text: format!("version = {version}\n\n{}", render_config_path(version, directories)),
            }]
        }
        (None, None) => lines_for_any(facts),
    }
}

/// Returns the lines for each format that the main file may have.
fn lines_for_any(facts: &ContainerdFacts) -> Vec<Fragment> {
    let formats = [
        (2, "has `version = 2` (all of containerd 1.x)"),
        (3, "has `version = 3` or more (containerd 2)"),
    ];
    let is_first = facts.release.is_some_and(|release| release.major < 2);
    let possible = formats.into_iter().filter(|(version, _)| !is_first || *version == 2);
    let fragment = |(version, which)| Fragment {
        place: format!("`{}`, if it {which}; then restart containerd", facts.main_file),
        text: render_config_path(version, CERTS_DIRECTORY),
    };
    possible.map(fragment).collect()
}

#[cfg(test)]
mod tests;
