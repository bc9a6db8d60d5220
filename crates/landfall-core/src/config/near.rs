//! Rule for a key that is not in the table of its mapping: a known key was meant, here or at another place, or nothing
//! is known about it [spec:user-data.unknown-keys]. No list of single slips exists; only names of other programs for
//! the same thing are in the table (`Key::also`).

use crate::config::keys::is_step_key;
use crate::config::known_key::{Key, Shape, Unknown};
use crate::config::node::{KeyPath, Node, NodeValue};
use crate::stage::is_stage;
use crate::wording::edit_distance;

/// Guess at the meaning of an unknown key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// A key of the same mapping.
    Here(&'static str),
    /// A key of other mappings, which the paths name.
    At(Vec<String>),
    Nothing,
}

/// Tolerance for the distance between a key and a known one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tolerance {
    /// Keys of other programs are expected: only a very near or a distinctive key is reported.
    Low,
    /// All keys of the mapping are known, except new ones.
    High,
    /// All keys of the mapping are known, and other ones have no effect: longer and shorter names count as near.
    Words,
}

impl Tolerance {
    /// Returns the tolerance for the keys of a mapping.
    pub(crate) fn of(unknown: Unknown) -> Tolerance {
        match unknown {
            Unknown::Silent => Tolerance::Low,
            Unknown::Note => Tolerance::High,
            Unknown::Step | Unknown::Error => Tolerance::Words,
        }
    }
}

/// A mapping on the way from the root of a file to the mapping that is checked.
pub(crate) struct Level {
    /// The key path with `*` for keys of the user and `[]` for items, e.g. `stages.*[].files[]`.
    pub(crate) pattern: String,
    /// The key path in the file.
    pub(crate) path: KeyPath,
}

/// A list of places in a message has at most this many.
const PLACES_MAX: usize = 3;

/// Finds the key that was meant by `name` with the value `value`. `levels` are the mappings from the root to the one
/// that contains the key; `keys` are the known keys of the last.
pub(crate) fn find_meant(
    name: &str,
    value: &Node,
    keys: &'static [Key],
    levels: &[Level],
    root: &'static Shape,
    tolerance: Tolerance,
) -> Meant {
    if let Some(key) = near_here(name, keys, tolerance) {
        return Meant::Here(key);
    }
    if is_stage(name) && holds_steps(value) {
        return Meant::At(vec![format!("stages.{name}")]);
    }
    match places(name, value, levels, root, tolerance) {
        places if places.is_empty() => Meant::Nothing,
        places => Meant::At(places),
    }
}

/// Returns true for a value that has the form of a stage: steps with keys of one.
fn holds_steps(value: &Node) -> bool {
    let is_step = |step: &Node| {
        let keys = step.entries().iter().filter_map(|entry| entry.key.text());
        keys.filter(|key| is_step_key(key)).count() > 0
    };
    value.items_or_self().iter().any(is_step)
}

/// Returns the known name that is near, if there is one.
pub(crate) fn near_here(name: &str, keys: &'static [Key], tolerance: Tolerance) -> Option<&'static str> {
    let current = || keys.iter().filter(|key| key.replaced_by.is_none());
    let plain = plain(name);
    if plain.is_empty() {
        return None;
    }
    // An old spelling in another case is still that old spelling.
    let same = keys.iter().find(|key| {
        let other = self::plain(key.name);
        other == plain || other.len() > 3 && singular(&other) == singular(&plain)
    });
    let named_elsewhere = || current().find(|key| key.also.iter().any(|also| self::plain(also) == plain));
    // `proxy` is the end of `httpProxy`, `httpsProxy` and `noProxy`: none of them is meant more than another.
    let is_end_of_several = || {
        let ends = current().filter(|key| words(key.name).ends_with(&words(name)));
        ends.count() > 1
    };
    let by_edits = || {
        let lower = name.to_ascii_lowercase();
        if is_end_of_several() {
            return None;
        }
        current()
            .filter_map(|key| {
                let known = key.name.to_ascii_lowercase();
                Some((edits(&lower, &known, tolerance)?, key))
            })
            .min_by_key(|(edits, _)| *edits)
            .map(|(_, key)| key)
    };
    let by_words = || {
        let mut near = current().filter(|key| shares_words(name, key.name));
        let first = near.next().filter(|_| tolerance == Tolerance::Words)?;
        near.next().is_none().then_some(first)
    };
    same.or_else(named_elsewhere)
        .or_else(by_edits)
        .or_else(by_words)
        .map(|key| key.name)
}

/// Returns the name without case and separators.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|letter| letter.to_ascii_lowercase()).collect()
}

fn singular(plain: &str) -> String {
    match plain.strip_suffix("ies") {
        Some(stem) => format!("{stem}y"),
        None => plain.strip_suffix('s').unwrap_or(plain).to_owned(),
    }
}

/// Returns the number of edits between two names in lower case; `None` if they are too many for their length.
fn edits(name: &str, known: &str, tolerance: Tolerance) -> Option<usize> {
    let length = known.chars().count().min(name.chars().count() + 1);
    let edits_max = match (length, tolerance) {
        (0..=3, _) => 0,
        (4..=5, _) | (6..=7, Tolerance::Low) => 1,
        (6..=8, _) | (_, Tolerance::Low) => 2,
        _ => 3,
    };
    // In a short name only a swap of two letters is near: `fi` for `if`, but not `id`.
    let is_swap = || {
        let sorted = |text: &str| {
            let mut letters: Vec<char> = text.chars().collect();
            letters.sort_unstable();
            letters
        };
        tolerance != Tolerance::Low && sorted(name) == sorted(known)
    };
    match edit_distance(name, known, edits_max.max(1))? {
        edits if edits <= edits_max || is_swap() => Some(edits),
        _ => None,
    }
}

/// Splits a name into words: `lock_passwd`, `extra-dirs`, `localUI`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = vec![String::new()];
    let mut before = ' ';
    for letter in name.chars() {
        if !letter.is_ascii_alphanumeric() || letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            words.push(String::new());
        }
        if letter.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(letter.to_ascii_lowercase());
        }
        before = letter;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Returns true if one name is the end of the other by whole words (`hashed_passwd` and `passwd`), or if `name` is a
/// longer beginning of `known` (`home` and `homedir`).
fn shares_words(name: &str, known: &str) -> bool {
    let (short, long) = (words(name), words(known));
    let is_end = long.ends_with(&short) || short.ends_with(&long);
    let shorter = plain(name).len().min(plain(known).len());
    shorter > 3 && (is_end || plain(known).starts_with(&plain(name)))
}

/// Returns the places of the table at which a key of this name belongs: the nearest mapping around the key, else the
/// nearest ones below it, else the only one elsewhere.
fn places(name: &str, value: &Node, levels: &[Level], root: &'static Shape, tolerance: Tolerance) -> Vec<String> {
    let mut known = Vec::new();
    occurrences(root, "", name, &mut known);
    let Some(here) = levels.last() else { return Vec::new() };
    known.retain(|(pattern, shape)| {
        *pattern != here.pattern && (tolerance != Tolerance::Low || is_distinctive(name, value, shape))
    });
    // Every other mapping has a `name` or a `path`.
    if !matches!(name, "name" | "path") {
        let around = levels.iter().rev().skip(1);
        // A step's file has no business with the keys of cloud-init at the top.
        let is_in_step = here.pattern.starts_with(".stages");
        let fits = |level: &Level, shape: &Shape| {
            !is_in_step || !level.pattern.is_empty() || matches!(shape, Shape::Map(..) | Shape::MapOf(_))
        };
        let found = around
            .filter(|level| {
                let mut here = known.iter().filter(|(pattern, _)| *pattern == level.pattern);
                here.any(|(_, shape)| fits(level, shape))
            })
            .map(|level| level.path.key(name).to_string());
        if let Some(place) = found.into_iter().next() {
            return vec![place];
        }
    }
    let below: Vec<&str> = known
        .iter()
        .filter_map(|(pattern, _)| below(&here.pattern, pattern))
        .collect();
    let depth = |rest: &str| rest.matches('.').count();
    if let Some(least) = below.iter().map(|rest| depth(rest)).min() {
        let nearest = below.iter().filter(|rest| depth(rest) == least);
        let mut places: Vec<String> = nearest
            .map(|rest| shown(&format!("{}{rest}.{name}", here.path)))
            .map(|place| place.trim_start_matches('.').to_owned())
            .collect();
        places.dedup();
        if places.len() <= PLACES_MAX {
            return places;
        }
    }
    match known.as_slice() {
        [(pattern, _)] if words(name).len() > 1 => {
            let place = format!("{pattern}.{name}");
            vec![shown(place.trim_start_matches('.'))]
        }
        _ => Vec::new(),
    }
}

/// Returns the path from one mapping to another below it, e.g. `.site.network`.
fn below<'p>(here: &str, pattern: &'p str) -> Option<&'p str> {
    let rest = pattern.strip_prefix(here).filter(|rest| !rest.is_empty())?;
    (here.is_empty() || rest.starts_with(['.', '['])).then_some(rest)
}

fn shown(pattern: &str) -> String {
    pattern.replace(".*", ".<name>")
}

/// Collects the mappings of the table that have a key of this name, each with the shape of the key's value.
fn occurrences(shape: &'static Shape, pattern: &str, name: &str, found: &mut Vec<(String, &'static Shape)>) {
    match shape {
        Shape::Map(keys, _) | Shape::MapOrValue(keys, _) => {
            for key in keys.iter().filter(|key| key.replaced_by.is_none()) {
                if key.name == name {
                    found.push((pattern.to_owned(), &key.shape));
                }
                let below = join(pattern, key.name);
                occurrences(&key.shape, &below, name, found);
            }
        }
        Shape::MapOf(inner) => occurrences(inner, &join(pattern, "*"), name, found),
        Shape::List(inner) | Shape::Steps(inner) | Shape::OneOrMany(inner) => {
            occurrences(inner, &format!("{pattern}[]"), name, found);
        }
        Shape::Foreign(inner) => occurrences(inner, pattern, name, found),
        _ => {}
    }
}

/// Returns the pattern of a key in the mapping of a pattern.
pub(crate) fn join(pattern: &str, name: &str) -> String {
    if pattern.is_empty() {
        format!(".{name}")
    } else {
        format!("{pattern}.{name}")
    }
}

/// Returns true if the key can only be ours: its name has several words, or its value has one of the keys below it.
fn is_distinctive(name: &str, value: &Node, shape: &Shape) -> bool {
    let has_known_key = |keys: &[Key], node: &Node| {
        node.entries()
            .iter()
            .any(|entry| keys.iter().any(|key| entry.key.text() == Some(key.name)))
    };
    words(name).len() > 1
        || match (shape, &value.value) {
            (Shape::Map(keys, _), NodeValue::Mapping(_)) => has_known_key(keys, value),
            (Shape::Steps(Shape::Map(keys, _)), NodeValue::Sequence(items)) => {
                items.iter().any(|item| has_known_key(keys, item))
            }
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{USER_DATA, keys_at};

    fn near(mapping: &str, name: &str) -> Option<&'static str> {
        let tolerance = match mapping {
            "" => Tolerance::Low,
            _ if mapping.starts_with(".stages") => Tolerance::Words,
            _ => Tolerance::High,
        };
        near_here(name, keys_at(&USER_DATA, mapping), tolerance)
    }

    #[test]
    fn a_near_key_is_found_by_edits_case_number_separators_and_words() {
        let file = ".stages.*[].files[]";
        let step = ".stages.*[]";
        let user = ".stages.*[].users.*";
        for (mapping, name, known) in [
            (file, "permisions", "permissions"),
            (file, "permsisions", "permissions"),
            (file, "premissions", "permissions"),
            (file, "Permissions", "permissions"),
            (file, "permission", "permissions"),
            (file, "mode", "permissions"),
            (file, "contents", "content"),
            (file, "conent", "content"),
            (file, "encodin", "encoding"),
            (file, "ownerString", "ownerstring"),
            (file, "owner_string", "ownerstring"),
            (file, "onwer", "owner"),
            (file, "paht", "path"),
            (file, "user", "ownerstring"),
            (step, "comands", "commands"),
            (step, "command", "commands"),
            (step, "file", "files"),
            (step, "write_files", "files"),
            (step, "user", "users"),
            (step, "direcories", "directories"),
            (step, "directory", "directories"),
            (step, "systemclt", "systemctl"),
            (step, "enviroment", "environment"),
            (step, "environmentFile", "environment_file"),
            (step, "Name", "name"),
            (step, "nam", "name"),
            (step, "fi", "if"),
            (step, "data_sources", "datasource"),
            (user, "password", "passwd"),
            (user, "passwdd", "passwd"),
            (user, "hashed_passwd", "passwd"),
            (user, "ssh_authorized_key", "ssh_authorized_keys"),
            (user, "ssh-authorized-keys", "ssh_authorized_keys"),
            (user, "authorized_keys", "ssh_authorized_keys"),
            (user, "lock_password", "lock_passwd"),
            (user, "home", "homedir"),
            (".stylus", "registryCredential", "registryCredentials"),
            (".stylus", "local_ui", "localUI"),
            (".stylus.site", "edgehostToken", "edgeHostToken"),
            (".stylus.site.network", "noproxy", "noProxy"),
            (".stylus.site.network", "http_proxy", "httpProxy"),
            (".stylus", "installationmode", "installationMode"),
            ("", "landfal", "landfall"),
            ("", "Stages", "stages"),
            ("", "stage", "stages"),
            ("", "write-files", "write_files"),
        ] {
            assert_eq!(near(mapping, name), Some(known), "`{name}` in `{mapping}`");
        }
    }

    #[test]
    fn a_key_of_another_program_is_not_near() {
        for (mapping, name) in [
            (".stages.*[]", "id"),
            (".stages.*[]", "description"),
            (".stages.*[].files[]", "append"),
            (".stylus", "somethingElse"),
            (".stylus.site", "region"),
            (".stylus.site.network", "proxy"),
            ("", "stable"),
            ("", "version"),
            ("", "stylusPackage"),
        ] {
            assert_eq!(near(mapping, name), None, "`{name}` in `{mapping}`");
        }
    }

    #[test]
    fn no_known_key_of_a_mapping_is_near_to_another_program_s_key_by_words_alone() {
        assert!(shares_words("hashed_passwd", "passwd") && shares_words("home", "homedir"));
        assert!(!shares_words("bypasswd", "passwd") && !shares_words("fs", "fsLabel"));
    }
}
