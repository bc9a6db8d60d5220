//! Image references: the distribution grammar, exactly (SPEC section 4).
//!
//! Decides what a valid reference is and what a familiar name means (`nginx` is `docker.io/library/nginx`). Does not
//! decide where an image is fetched from: that is [`crate::resolve`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A registry's `host[:port]` in canonical form: the aliases of Docker Hub become `docker.io`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RegistryHost(String);

impl RegistryHost {
    /// The canonical text, e.g. `docker.io` or `10.0.0.1:5000` or `[::1]:8080`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host as one path component (SPEC section 5, rule 5): `other:8443` is `other_8443`; brackets and colons of an
    /// IPv6 address become `-`.
    #[must_use]
    pub fn as_path_component(&self) -> String {
        unimplemented!("contract")
    }
}

/// The path of a repository inside a registry, e.g. `library/nginx`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

/// A tag, e.g. `1.27`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// A content digest, `sha256:<64 hex>` or `sha512:<128 hex>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// An image reference with its host and path in canonical form and its tag and digest as they were written: both, one
/// or none. [`ImageReference::canonical`] adds the default tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    /// Where the repository lives.
    pub host: RegistryHost,
    /// The repository's path.
    pub repository: Repository,
    /// The tag, when one was written.
    pub tag: Option<Tag>,
    /// The digest, when one was written; it decides the pull when both are there.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// The canonical form: `latest` is added where there is neither tag nor digest.
    #[must_use]
    pub fn canonical(&self) -> ImageReference {
        unimplemented!("contract")
    }
}

/// Parses a reference as a person writes it: familiar names, with or without `docker://` or `container://`.
///
/// # Errors
/// Says which part is wrong and why.
pub fn parse_reference(text: &str) -> Result<ImageReference, ReferenceError> {
    let _ = text;
    unimplemented!("contract")
}

/// Why a text is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("the reference is empty")]
    Empty,
}
