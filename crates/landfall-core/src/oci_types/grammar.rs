//! Grammar of media types, and of the keys of manifests as other programs read them.

/// Longest type and longest subtype, in bytes (RFC 6838 section 4.2).
const NAME_LENGTH_MAX: usize = 127;

/// Keys of manifests and indexes that programs act on.
const KEYS: [&str; 9] = [
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "blobs",
    "manifests",
    "subject",
    "annotations",
];

/// Returns true for `type/subtype` without parameters (RFC 6838 section 4.2). Such a text is a valid HTTP header.
#[must_use]
pub fn is_media_type(text: &str) -> bool {
    let is_name = |name: &str| {
        name.len() <= NAME_LENGTH_MAX
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/')
        .is_some_and(|(kind, subtype)| is_name(kind) && is_name(subtype))
}

/// Returns true if a manifest may be served under a media type: `application/json` or `application/…+json`, because a
/// manifest is JSON. A browser would run content that is served as `text/html` or `image/svg+xml`.
#[must_use]
pub fn is_manifest_like_type(text: &str) -> bool {
    let subtype = text.strip_prefix("application/");
    is_media_type(text) && subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// Returns the key of manifests as which a program in Go reads this one, if that is another text. `encoding/json`
/// ignores case, and folds two letters outside of ASCII to `s` and `k`.
pub(super) fn folded_key(key: &str) -> Option<&'static str> {
    let fold = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    KEYS.into_iter()
        .find(|known| {
            let known = known.chars().map(|letter| letter.to_ascii_lowercase());
            key.chars().map(fold).eq(known)
        })
        .filter(|known| *known != key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_media_type_is_two_names_and_a_manifest_is_json() {
        for (text, valid, manifest) in [
            ("application/vnd.oci.image.manifest.v1+json", true, true),
            ("application/json", true, true),
            ("application/vnd.example-1.x_y+json", true, true),
            ("application/octet-stream", true, false),
            ("text/html", true, false),
            ("image/svg+xml", true, false),
            ("text/x+json", true, false),
            ("", false, false),
            (" ", false, false),
            ("application", false, false),
            ("application/", false, false),
            ("/json", false, false),
            ("application/json/x", false, false),
            ("application/json; charset=utf-8", false, false),
            ("application/+json", false, false),
            ("application/é+json", false, false),
            ("application/a\n+json", false, false),
            ("application/a\0+json", false, false),
            ("application/json\x7f", false, false),
            ("application/json\r\nX-Evil: 1", false, false),
        ] {
            assert_eq!(
                (is_media_type(text), is_manifest_like_type(text)),
                (valid, manifest),
                "{text:?}"
            );
        }
        for (length, valid) in [(127, true), (128, false)] {
            assert_eq!(is_media_type(&format!("a/{}", "x".repeat(length))), valid);
            assert_eq!(is_media_type(&format!("{}/a", "x".repeat(length))), valid);
        }
    }

    #[test]
    fn a_key_in_another_case_is_found() {
        for (key, expected) in [
            ("Manifests", Some("manifests")),
            ("CONFIG", Some("config")),
            ("mediatype", Some("mediaType")),
            ("layer\u{17f}", Some("layers")),
            ("manifests", None),
            ("mediaType", None),
            ("other", None),
            ("", None),
        ] {
            assert_eq!(folded_key(key), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn a_media_type_is_visible_ascii(text in "\\PC{0,4}[a-z]{0,4}/?[a-z+!#.]{0,6}\\PC{0,2}") {
            if is_media_type(&text) {
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
