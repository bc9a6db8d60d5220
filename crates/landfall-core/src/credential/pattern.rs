//! The kubelet's exact matching of `matchImages` and of the keys of an answer. Source of the rules: `URLsMatch` in
//! `pkg/credentialprovider/keyring.go` of Kubernetes, and the description of `matchImages` in
//! `kubelet.config.k8s.io/v1`.

/// Returns true if the kubelet's pattern covers an image: equal port, equal number of host labels, each label by its
/// glob (`*` stands for any part of one label), the pattern's path a prefix of the image's. A scheme in front is
/// ignored, and so are `/v1/` and `/v2/` behind the host, as in the keys of `config.json`.
#[must_use]
pub fn kubelet_pattern_matches(pattern: &str, image: &str) -> bool {
    let (pattern, image) = (UrlParts::of(pattern), UrlParts::of(image));
    pattern.port == image.port
        && image.path.starts_with(pattern.path)
        && pattern.host.split('.').count() == image.host.split('.').count()
        && pattern
            .host
            .split('.')
            .zip(image.host.split('.'))
            .all(|(glob, label)| label_matches(glob, label))
}

struct UrlParts<'a> {
    host: &'a str,
    port: &'a str,
    /// The path with its leading slash; empty if nothing follows the host.
    path: &'a str,
}

impl<'a> UrlParts<'a> {
    fn of(text: &'a str) -> UrlParts<'a> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let (authority, path) = text.split_at(text.find('/').unwrap_or(text.len()));
        let path = ["/v1/", "/v2/"]
            .iter()
            .find(|version| path.starts_with(**version))
            .map_or(path, |version| &path[version.len() - 1..]);
        // The colons of an IPv6 address stand in brackets; a port follows the last colon outside.
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port),
            _ => (authority, ""),
        };
        UrlParts {
            host,
            port,
            path: if path == "/" { "" } else { path },
        }
    }
}

fn label_matches(glob: &str, label: &str) -> bool {
    let Some((head, tail)) = glob.split_once('*') else {
        return glob == label;
    };
    let Some(rest) = label.strip_prefix(head) else {
        return false;
    };
    (0..=rest.len()).any(|skipped| rest.is_char_boundary(skipped) && label_matches(tail, &rest[skipped..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_part_of_one_label() {
        for (pattern, image, expected) in [
            ("app*.k8s.io", "app1.k8s.io/x", true),
            ("a*b*c.io", "axxbyyc.io", true),
            ("a*b*c.io", "axxbyy.io", false),
            ("*", "reg/x", true),
            ("*.io", "a.b.io", false),
            ("[::1]:5000", "[::1]:5000/x", true),
            ("[::1]", "[::1]:5000/x", false),
            ("reg:30003/a", "reg:30003/ab", true),
        ] {
            assert_eq!(
                kubelet_pattern_matches(pattern, image),
                expected,
                "{pattern} for {image}"
            );
        }
    }
}
