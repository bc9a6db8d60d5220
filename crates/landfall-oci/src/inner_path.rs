//! Paths inside an archive or an image. They never lead out of it.

/// Resolves a path to one from the root, without `.`, `..` and doubled slashes. A relative path starts at the directory
/// `base`. Returns `None` if the path leaves the root. The root itself is the empty text.
pub(crate) fn resolve_inside(base: &str, path: &str) -> Option<String> {
    if path.contains('\0') {
        return None;
    }
    let base = if path.starts_with('/') { "" } else { base };
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Resolves the path of an entry like [`resolve_inside`]. An entry needs no `..`: returns `None` if the path has one.
pub(crate) fn entry_path(path: &str) -> Option<String> {
    if path.split('/').any(|part| part == "..") {
        return None;
    }
    resolve_inside("", path)
}

/// Returns the directory of a path from [`resolve_inside`].
pub(crate) fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Returns a path as text. Bytes that are not UTF-8 are written as `\\xNN`, so that different paths stay different.
pub(crate) fn path_text(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_stay_inside() {
        for (base, path, expected) in [
            ("", "./a/b", Some("a/b")),
            ("", "a//b/", Some("a/b")),
            ("a", "../b/layer.tar", Some("b/layer.tar")),
            ("a", "../../b", None),
            ("", "../b", None),
            ("a", "/etc/passwd", Some("etc/passwd")),
            ("", "a/../../b", None),
            ("a/b", "c", Some("a/b/c")),
            ("a", "b\0c", None),
        ] {
            assert_eq!(resolve_inside(base, path).as_deref(), expected, "{path} from {base}");
        }
        assert_eq!(entry_path("a/../b"), None);
        assert_eq!(entry_path("./a/..b").as_deref(), Some("a/..b"));
        assert_eq!(path_text(b"a/caf\xe9/\xc3\xa9.tar"), "a/caf\\xE9/é.tar");
        assert_eq!((parent_of("a/b/c"), parent_of("a")), ("a/b", ""));
    }

    proptest! {
        #[test]
        fn no_path_panics_or_leads_out(base in "[a./]{0,12}", path in "[a./\\PC]{0,12}") {
            let Some(base) = resolve_inside("", &base) else { return Ok(()) };
            if let Some(resolved) = resolve_inside(&base, &path) {
                prop_assert!(!resolved.starts_with('/'));
                prop_assert!(resolved.split('/').all(|part| part != ".." && part != "."));
                prop_assert_eq!(entry_path(&resolved), Some(resolved.clone()));
            }
        }
    }
}
