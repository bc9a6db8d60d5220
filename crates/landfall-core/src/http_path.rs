//! The paths of the OCI distribution API that name content: `/v2/<name>/{manifests,blobs}/<reference>?ns=<registry>`.
//!
//! Decides what a request asks for; serves nothing. `ns` is what containerd adds when it asks a mirror: the registry
//! that the image is named after.

use crate::reference::{Digest, ImageReference, ReferenceError, RegistryHost, Repository, Tag};

/// What a request for content asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryPath {
    /// The repository.
    pub repository: Repository,
    /// The content in it.
    pub content: RegistryContent,
    /// `ns`: the registry that a mirror is asked to stand in for.
    pub namespace: Option<RegistryHost>,
}

/// The content that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryContent {
    /// A manifest by tag.
    ManifestTag(Tag),
    /// A manifest by digest.
    ManifestDigest(Digest),
    /// A blob.
    Blob(Digest),
}

/// Why a request's path names no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryPathError {
    /// It is not `/v2/<name>/{manifests,blobs}/<reference>`.
    #[error("`{path}` is not `/v2/<name>/manifests/<reference>` or `/v2/<name>/blobs/<digest>`")]
    Shape {
        /// The path.
        path: String,
    },
    /// One of its parts breaks the grammar.
    #[error("`{path}` names no content")]
    Part {
        /// The path.
        path: String,
        /// Which part, and why.
        #[source]
        source: ReferenceError,
    },
    /// A tag means nothing to a mirror that is not told whose it is.
    #[error("`ns` is missing: tag `{tag}` of `{repository}` could be any registry's")]
    NamespaceMissing {
        /// The repository.
        repository: Repository,
        /// The tag.
        tag: Tag,
    },
}

impl RegistryPath {
    /// The image that a mirror is asked for; `None` where only content is named, by digest and without a registry.
    ///
    /// # Errors
    /// When a tag comes without `ns`.
    pub fn mirrored_image(&self) -> Result<Option<ImageReference>, RegistryPathError> {
        let (tag, digest) = match &self.content {
            RegistryContent::ManifestTag(tag) => (Some(tag.clone()), None),
            RegistryContent::ManifestDigest(digest) | RegistryContent::Blob(digest) => (None, Some(digest.clone())),
        };
        match (&self.namespace, tag) {
            (Some(host), tag) => Ok(Some(ImageReference {
                host: host.clone(),
                repository: self.repository.clone(),
                tag,
                digest,
            })),
            (None, None) => Ok(None),
            (None, Some(tag)) => Err(RegistryPathError::NamespaceMissing {
                repository: self.repository.clone(),
                tag,
            }),
        }
    }
}

/// Parses the path and query of a request. The name may hold `/manifests/` and `/blobs/` itself: the last one counts.
///
/// # Errors
/// When the path has another shape, or its repository, tag, digest or `ns` is none.
pub fn parse_registry_path(path_and_query: &str) -> Result<RegistryPath, RegistryPathError> {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    let shape = || RegistryPathError::Shape { path: path.to_owned() };
    let part = |source| RegistryPathError::Part {
        path: path.to_owned(),
        source,
    };
    let (before, reference) = path.rsplit_once('/').ok_or_else(shape)?;
    let (before, kind) = before.rsplit_once('/').ok_or_else(shape)?;
    let name = before.strip_prefix("/v2/").ok_or_else(shape)?;
    let content = match kind {
        "manifests" if reference.contains(':') => RegistryContent::ManifestDigest(reference.parse().map_err(part)?),
        "manifests" => RegistryContent::ManifestTag(reference.parse().map_err(part)?),
        "blobs" => RegistryContent::Blob(reference.parse().map_err(part)?),
        _ => return Err(shape()),
    };
    Ok(RegistryPath {
        repository: name.parse().map_err(part)?,
        content,
        namespace: parse_namespace(query).map_err(part)?,
    })
}

/// The registry that the query of a request asks a mirror to stand in for; `None` when it names none.
///
/// # Errors
/// When `ns` is no registry.
pub fn parse_namespace(query: &str) -> Result<Option<RegistryHost>, ReferenceError> {
    let namespace = query.split('&').find_map(|pair| pair.strip_prefix("ns="));
    let namespace = namespace.filter(|host| !host.is_empty());
    namespace.map(|host| decode_host(host).parse()).transpose()
}

/// A host in a query: only the characters that a host may hold besides letters come percent-encoded.
fn decode_host(text: &str) -> String {
    let mut host = text.to_owned();
    for (encoded, plain) in [
        ("%3A", ":"),
        ("%3a", ":"),
        ("%5B", "["),
        ("%5b", "["),
        ("%5D", "]"),
        ("%5d", "]"),
    ] {
        host = host.replace(encoded, plain);
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_may_have_a_port_and_be_encoded() {
        for query in ["ns=reg.example%3A5000", "other=1&ns=reg.example:5000"] {
            let path = parse_registry_path(&format!("/v2/a/b/manifests/v1?{query}")).unwrap();
            let image = path.mirrored_image().unwrap().unwrap();
            assert_eq!(image.to_string(), "reg.example:5000/a/b:v1");
        }
    }

    #[test]
    fn a_name_may_hold_the_words_of_the_api() {
        let path = parse_registry_path("/v2/a/manifests/b/manifests/v1").unwrap();
        assert_eq!(path.repository.as_str(), "a/manifests/b");
    }

    #[test]
    fn content_by_digest_needs_no_namespace() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let path = parse_registry_path(&format!("/v2/a/blobs/{digest}")).unwrap();
        assert_eq!(path.mirrored_image(), Ok(None));
    }

    #[test]
    fn other_paths_are_refused() {
        for path in [
            "",
            "/",
            "/v2/",
            "/v2/a/tags/list",
            "/v1/a/manifests/x",
            "/v2//manifests/x",
            "/v2/manifests/x",
        ] {
            assert!(parse_registry_path(path).is_err(), "{path}");
        }
    }
}
