//! Longest-prefix look-up by whole path segments. A thousand rules cost as much as one.

use std::collections::HashMap;

/// Values under `host/path` prefixes. The first value under a prefix stays.
#[derive(Debug)]
pub(crate) struct PrefixMap<V> {
    hosts: HashMap<String, Paths<V>>,
}

/// The prefixes of one host.
#[derive(Debug)]
struct Paths<V> {
    values: HashMap<String, V>,
    /// The length of the longest key, in bytes. Longer prefixes are not looked up.
    longest_key: usize,
}

impl<V> PrefixMap<V> {
    pub(crate) fn new() -> PrefixMap<V> {
        PrefixMap { hosts: HashMap::new() }
    }

    /// Inserts a value under a prefix, unless the prefix has one. An empty path stands for the whole host.
    pub(crate) fn insert(&mut self, host: &str, path: &str, value: V) {
        let paths = self.hosts.entry(host.to_owned()).or_insert_with(|| Paths {
            values: HashMap::new(),
            longest_key: 0,
        });
        paths.longest_key = paths.longest_key.max(path.len());
        paths.values.entry(path.to_owned()).or_insert(value);
    }

    /// Returns the value under the longest prefix, with the path of that prefix. Segments are dropped whole, from the
    /// right, so that `gcr.io/spectro-dev` never answers for `gcr.io/spectro-dev-public`.
    pub(crate) fn longest<'p>(&self, host: &str, path: &'p str) -> Option<(&'p str, &V)> {
        let paths = self.hosts.get(host)?;
        let mut prefix = path;
        loop {
            if prefix.len() <= paths.longest_key
                && let Some(value) = paths.values.get(prefix)
            {
                return Some((prefix, value));
            }
            if prefix.is_empty() {
                return None;
            }
            prefix = prefix.rfind('/').map_or("", |slash| &prefix[..slash]);
        }
    }
}

/// Returns the rest of `path` below `prefix`, by whole segments; `None` if it is not below.
pub(crate) fn below<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    if prefix.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(prefix)?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix('/')
    }
}

/// Joins path pieces with `/` and leaves empty ones out.
pub(crate) fn join(pieces: &[&str]) -> String {
    let mut path = String::with_capacity(pieces.iter().map(|piece| piece.len() + 1).sum());
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(piece);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_answers() {
        let mut map = PrefixMap::new();
        map.insert("gcr.io", "a", 1);
        map.insert("gcr.io", "a/b", 2);
        map.insert("gcr.io", "a", 9);
        map.insert("quay.io", "", 3);
        for (host, path, expected) in [
            ("gcr.io", "a", Some(("a", &1))),
            ("gcr.io", "a/x", Some(("a", &1))),
            ("gcr.io", "a/b/c", Some(("a/b", &2))),
            ("gcr.io", "ab", None),
            ("gcr.io", "a-b/c", None),
            ("quay.io", "any/thing", Some(("", &3))),
            ("ghcr.io", "a", None),
        ] {
            assert_eq!(map.longest(host, path), expected, "{host}/{path}");
        }
    }

    #[test]
    fn below_compares_whole_segments() {
        for (path, prefix, expected) in [
            ("a/b", "a", Some("b")),
            ("a", "a", Some("")),
            ("ab", "a", None),
            ("a/b", "", Some("a/b")),
            ("a", "a/b", None),
        ] {
            assert_eq!(below(path, prefix), expected, "{path} below {prefix}");
        }
    }
}
