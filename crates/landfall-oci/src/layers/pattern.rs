//! Patterns for paths in an image.

use std::str::FromStr;

use crate::inner_path::entry_path;

/// A pattern for files: a directory, and a file name in it with at most one `*`, e.g. `/opt/kube-images/*.tar`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathPattern {
    directory: String,
    prefix: String,
    /// The text after the `*`; `None` without a `*`.
    suffix: Option<String>,
}

/// Returns the paths of a provider image with the archives of the core images, and with additional content
/// ([spec:agent.order]).
#[must_use]
pub fn provider_image_patterns() -> Vec<PathPattern> {
    ["/opt/kube-images/*.tar", "/opt/content/images/*"]
        .iter()
        .map(|pattern| pattern.parse().expect("the pattern has a directory and a name"))
        .collect()
}

impl PathPattern {
    /// Returns true if the pattern matches a path from the image's root, without a leading `/`.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let Some((directory, name)) = path.rsplit_once('/') else {
            return false;
        };
        directory == self.directory
            && match &self.suffix {
                None => name == self.prefix,
                Some(suffix) => name
                    .strip_prefix(self.prefix.as_str())
                    .is_some_and(|rest| rest.ends_with(suffix.as_str())),
            }
    }
}

/// Error of a text that is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a pattern: write a directory and a file name with at most one `*`")]
pub struct PatternError {
    pattern: String,
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<PathPattern, PatternError> {
        let wrong = || PatternError {
            pattern: text.to_owned(),
        };
        let path = entry_path(text).ok_or_else(wrong)?;
        let (directory, name) = path.rsplit_once('/').ok_or_else(wrong)?;
        let (prefix, suffix) = match name.split_once('*') {
            Some((prefix, suffix)) => (prefix, Some(suffix)),
            None => (name, None),
        };
        if directory.contains('*') || suffix.is_some_and(|suffix| suffix.contains('*')) {
            return Err(wrong());
        }
        Ok(PathPattern {
            directory: directory.to_owned(),
            prefix: prefix.to_owned(),
            suffix: suffix.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_the_files_of_one_directory() {
        let patterns = provider_image_patterns();
        for (path, expected) in [
            ("opt/kube-images/pause.tar", true),
            ("opt/kube-images/.tar", true),
            ("opt/kube-images/pause.tar.gz", false),
            ("opt/kube-images/deeper/pause.tar", false),
            ("opt/kube-images", false),
            ("opt/content/images/anything", true),
            ("opt/content/images-extra/anything", false),
            ("", false),
        ] {
            let matched = patterns.iter().any(|pattern| pattern.matches(path));
            assert_eq!(matched, expected, "{path}");
        }
        let whole: PathPattern = "a/b.tar".parse().unwrap();
        assert!(whole.matches("a/b.tar") && !whole.matches("a/b.tarx"));
        for bad in ["", "name", "a/*/b", "a/*x*", "../a/b"] {
            assert!(bad.parse::<PathPattern>().is_err(), "{bad}");
        }
    }
}
