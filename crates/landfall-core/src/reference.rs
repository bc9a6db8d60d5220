//! Image references by the exact grammar of distribution [spec:references].
//!
//! This module decides which references are valid and what a familiar name means (`nginx` is
//! `docker.io/library/nginx`). [`crate::resolve`] decides from where an image is fetched.
//!
//! Source of the rules: the grammar at the head of `reference.go` in github.com/distribution/reference, and that
//! module's normalisation of familiar names.

use std::borrow::Cow;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The canonical name of Docker Hub.
pub const DOCKER_HUB: &str = "docker.io";
/// Other names of Docker Hub.
pub(crate) const DOCKER_HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
const OFFICIAL_NAMESPACE: &str = "library";
const DEFAULT_TAG: &str = "latest";
const SCHEMES: [&str; 2] = ["docker://", "container://"];
/// The longest path of a repository, in bytes (all of the grammar is ASCII).
const REPOSITORY_LENGTH_MAX: usize = 255;
const TAG_LENGTH_MAX: usize = 128;

/// Defines a part of a reference: a text with one checked constructor. `Display` returns the same text.
macro_rules! reference_part {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ReferenceError;

            fn from_str(text: &str) -> Result<Self, ReferenceError> {
                $check(text).map(|checked| $name(Arc::from(checked)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = ReferenceError;

            fn try_from(text: String) -> Result<Self, ReferenceError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(part: $name) -> String {
                part.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

reference_part!(
    /// A registry's `host[:port]` in canonical form: lower case, and the aliases of Docker Hub become `docker.io`.
    /// A single label keeps its capitals, because only they distinguish it from a path.
    RegistryHost,
    canonical_host
);
reference_part!(
    /// The path of a repository inside a registry, e.g. `library/nginx`.
    Repository,
    checked_repository
);
reference_part!(
    /// A tag, e.g. `1.27`.
    Tag,
    checked_tag
);
reference_part!(
    /// A content digest, `sha256:<64 hex>` or `sha512:<128 hex>`, in lower case.
    Digest,
    checked_digest
);

impl RegistryHost {
    /// Returns true if every program reads this as a host in front of a path. A single label such as `reg` is not one:
    /// every program reads `reg/a` as `docker.io/reg/a`, but not `reg:443/a`.
    #[must_use]
    pub fn is_unmistakable(&self) -> bool {
        names_a_host(&self.0)
    }

    /// Returns true for Docker Hub.
    #[must_use]
    pub fn is_docker_hub(&self) -> bool {
        &*self.0 == DOCKER_HUB
    }

    /// Returns the name of this registry at the start of an image or an address, if it is not in canonical form there.
    #[must_use]
    pub fn spelling_in<'a>(&self, text: &'a str) -> Option<&'a str> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let name = text.split('/').next()?;
        (name != self.as_str() && canonical_host(name).is_ok_and(|host| host == self.as_str())).then_some(name)
    }

    /// Returns the host without its port. An IPv6 address keeps its brackets.
    #[must_use]
    pub fn name(&self) -> &str {
        split_port(&self.0).0
    }

    /// Returns the port, if one is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        split_port(&self.0).1.and_then(|port| port.parse().ok())
    }

    /// Returns true if the host is this machine: `localhost`, `127.0.0.0/8` or `[::1]`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let name = self.name();
        name == "localhost"
            || name == "[::1]"
            || name
                .parse::<std::net::Ipv4Addr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// Returns the host as one path component [spec:resolution.port]: `other:8443` becomes `other_8443`. Brackets and
    /// colons of an IPv6 address become `-`. Dashes at the ends are dropped, because the grammar does not allow them
    /// there.
    #[must_use]
    pub fn as_path_component(&self) -> Cow<'_, str> {
        let (name, port) = split_port(&self.0);
        let name = if name.starts_with('[') {
            let dashed = name.replace(['[', ']', ':'], "-");
            match dashed.trim_matches('-') {
                "" => Cow::Borrowed("0"),
                trimmed => Cow::Owned(trimmed.to_owned()),
            }
        } else if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        match port {
            Some(port) => Cow::Owned(format!("{name}_{port}")),
            None => name,
        }
    }
}

impl Digest {
    /// Returns the algorithm: `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// Returns the hexadecimal part.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }
}

/// An image reference. Host and path are canonical. Tag and digest are as written: both, one or none.
/// [`ImageReference::canonical`] adds the default tag.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    pub host: RegistryHost,
    pub repository: Repository,
    pub tag: Option<Tag>,
    /// The digest. It decides the pull if there is a tag, too.
    pub digest: Option<Digest>,
}

impl ImageReference {
    /// Returns the canonical form: `latest` is added if there is neither tag nor digest.
    #[must_use]
    pub fn canonical(&self) -> ImageReference {
        let mut canonical = self.clone();
        if canonical.tag.is_none() && canonical.digest.is_none() {
            canonical.tag = Some(Tag(Arc::from(DEFAULT_TAG)));
        }
        canonical
    }

    /// Returns the same image in another repository. Tag and digest are carried over unchanged.
    ///
    /// # Errors
    /// If `path` is not the path of a repository.
    pub fn in_repository(&self, host: &RegistryHost, path: &str) -> Result<ImageReference, ReferenceError> {
        Ok(ImageReference {
            host: host.clone(),
            repository: path.parse()?,
            tag: self.tag.clone(),
            digest: self.digest.clone(),
        })
    }

    /// Returns the name of other content in the same repository: under a tag, or else under its digest alone.
    #[must_use]
    pub fn beside(&self, tag: Option<&Tag>, digest: &Digest) -> ImageReference {
        ImageReference {
            host: self.host.clone(),
            repository: self.repository.clone(),
            tag: tag.cloned(),
            digest: tag.is_none().then(|| digest.clone()),
        }
    }

    /// Returns the path of this repository in a registry that stands in for several: the original host, as one path
    /// component [spec:resolution.port], and the original path.
    #[must_use]
    pub fn path_with_host(&self) -> String {
        format!("{}/{}", self.host.as_path_component(), self.repository)
    }

    /// Returns the selector for a request to a registry: the digest if there is one, else the tag, else `latest`.
    #[must_use]
    pub fn manifest_selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag.as_str(),
            (None, None) => DEFAULT_TAG,
        }
    }

    /// Returns the name of the image in CRI and containerd after the pull: with the default tag, and without the tag if
    /// there is a digest.
    #[must_use]
    pub fn runtime_name(&self) -> String {
        match &self.digest {
            Some(digest) => format!("{}/{}@{digest}", self.host, self.repository),
            None => format!("{}/{}:{}", self.host, self.repository, self.manifest_selector()),
        }
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<ImageReference, ReferenceError> {
        parse_reference(text)
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<ImageReference, ReferenceError> {
        parse_reference(&text)
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> String {
        reference.to_string()
    }
}

/// Parses a reference as a person writes it: familiar names, with or without `docker://` or `container://`.
///
/// # Errors
/// The part that is wrong and the reason.
pub fn parse_reference(text: &str) -> Result<ImageReference, ReferenceError> {
    let text = SCHEMES
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .unwrap_or(text);
    if is_image_id(text) {
        return Err(ReferenceError::ImageId);
    }
    let parts = split_suffix(text)?;
    let (host, path) = match parts.name.split_once('/') {
        Some((first, rest)) if names_a_host(first) => (first.parse()?, rest),
        _ => (RegistryHost(Arc::from(DOCKER_HUB)), parts.name),
    };
    let repository = if host.is_docker_hub() && !path.contains('/') {
        // The text is parsed as written first, so that an error names the text that the user knows.
        checked_repository(path)?;
        format!("{OFFICIAL_NAMESPACE}/{path}").parse()?
    } else {
        path.parse()?
    };
    Ok(ImageReference {
        host,
        repository,
        tag: parts.tag.map(str::parse).transpose()?,
        digest: parts.digest.map(str::parse).transpose()?,
    })
}

/// Parses a reference by the grammar alone, without familiar names: a first component followed by `/` is a host
/// whenever it can be one. This is for tools that show a reference as the grammar sees it. All other code uses
/// [`parse_reference`].
///
/// # Errors
/// As [`parse_reference`].
pub fn parse_grammar(text: &str) -> Result<GrammarParts<'_>, ReferenceError> {
    let mut parts = split_suffix(text)?;
    parts.host = parts
        .name
        .split_once('/')
        .filter(|(first, rest)| is_host(first) && checked_repository(rest).is_ok())
        .map(|(first, _)| first);
    if parts.host.is_none() {
        checked_repository(parts.name)?;
    }
    parts.tag.map_or(Ok(""), checked_tag)?;
    parts.digest.map_or(Ok(""), checked_digest)?;
    Ok(parts)
}

/// The parts of a reference, as [`parse_grammar`] sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrammarParts<'a> {
    /// Host and path.
    pub name: &'a str,
    /// The host, if the first component can be one.
    pub host: Option<&'a str>,
    pub tag: Option<&'a str>,
    pub digest: Option<&'a str>,
}

/// Error of a text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("the reference is empty")]
    Empty,
    /// A bare image ID. It names content on one host and cannot be pulled.
    #[error("64 hexadecimal digits, with or without `sha256:`, are an image ID and not a name that can be pulled")]
    ImageId,
    #[error("`{host}` is not a registry host: write `name[:port]`, an IPv4 address or `[IPv6]`")]
    Host { host: String },
    #[error("`{path}` has upper-case letters; a repository path is written in lower case")]
    Uppercase { path: String },
    #[error(
        "`{path}` is not a repository path: components of `a-z` and `0-9`, joined by `/`, with single `.` or `_`, `__` \
         or dashes inside"
    )]
    Path { path: String },
    #[error("the repository path has {length} characters; the limit is {REPOSITORY_LENGTH_MAX}")]
    TooLong { length: usize },
    #[error("`{tag}` is not a tag: letters, digits, `_`, `.` and `-`, at most {TAG_LENGTH_MAX}, not `.` or `-` first")]
    Tag { tag: String },
    #[error("`{digest}` is not a digest: write `sha256:` or `sha512:` and the hexadecimal digits")]
    Digest { digest: String },
    #[error("the digest has {length} hexadecimal digits where its algorithm has {expected}")]
    DigestLength { length: usize, expected: usize },
}

fn split_suffix(text: &str) -> Result<GrammarParts<'_>, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let last_component = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest[last_component..].split_once(':') {
        // A lone `host:5000/` part never gets here: only the last component is searched for a colon.
        Some((last, tag)) => (&rest[..last_component + last.len()], Some(tag)),
        None => (rest, None),
    };
    Ok(GrammarParts {
        name,
        host: None,
        tag,
        digest,
    })
}

/// Returns true if distribution's normalisation reads this first component as a host.
fn names_a_host(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// Returns true for a bare image ID, with or without its algorithm. `sha256:…` would otherwise parse as a tag of the
/// repository `sha256`.
fn is_image_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    hex.len() == 64 && hex.bytes().all(is_lower_hex)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

/// Returns true for digits up to 65535. No program can connect to a higher port.
fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => (&host[..colon], Some(&host[colon + 1..])),
        _ => (host, None),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = split_port(host);
    let port_is_good = port.is_none_or(is_port);
    port_is_good
        && match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => name.split('.').all(is_host_label),
        }
}

fn is_host_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn canonical_host(host: &str) -> Result<String, ReferenceError> {
    if !is_host(host) {
        return Err(ReferenceError::Host { host: host.to_owned() });
    }
    let lower = host.to_ascii_lowercase();
    if DOCKER_HUB_ALIASES.contains(&lower.as_str()) {
        Ok(DOCKER_HUB.to_owned())
    } else if names_a_host(&lower) {
        Ok(lower)
    } else {
        // A single label is a host by its capitals alone (`Reg/a`): in lower case it would be read as a path.
        Ok(host.to_owned())
    }
}

fn checked_repository(path: &str) -> Result<&str, ReferenceError> {
    if path.len() > REPOSITORY_LENGTH_MAX {
        return Err(ReferenceError::TooLong { length: path.len() });
    }
    if is_repository_path(path.as_bytes()) {
        return Ok(path);
    }
    let has_uppercase = path.bytes().any(|byte| byte.is_ascii_uppercase());
    if has_uppercase && is_repository_path(path.to_ascii_lowercase().as_bytes()) {
        return Err(ReferenceError::Uppercase { path: path.to_owned() });
    }
    Err(ReferenceError::Path { path: path.to_owned() })
}

/// Returns true for letters and digits with one separator between any two: `/`, `.`, `_`, `__` or any number of dashes.
/// It takes one pass, because every resolution checks the name that it makes.
fn is_repository_path(path: &[u8]) -> bool {
    // The start counts as the byte after a slash: a separator must not come first.
    let mut separator = b'/';
    let mut separator_length = 1_usize;
    for &byte in path {
        separator_length = match byte {
            b'a'..=b'z' | b'0'..=b'9' => 0,
            b'/' | b'.' | b'_' | b'-' if separator_length == 0 => 1,
            b'_' if separator == b'_' && separator_length == 1 => 2,
            b'-' if separator == b'-' => separator_length + 1,
            _ => return false,
        };
        separator = byte;
    }
    separator_length == 0
}

fn checked_tag(tag: &str) -> Result<&str, ReferenceError> {
    let bytes = tag.as_bytes();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let good = bytes.first().is_some_and(word)
        && bytes.len() <= TAG_LENGTH_MAX
        && bytes.iter().all(|byte| word(byte) || matches!(byte, b'.' | b'-'));
    if good {
        Ok(tag)
    } else {
        Err(ReferenceError::Tag { tag: tag.to_owned() })
    }
}

fn checked_digest(digest: &str) -> Result<&str, ReferenceError> {
    let wrong = || ReferenceError::Digest {
        digest: digest.to_owned(),
    };
    let (algorithm, hex) = digest.split_once(':').ok_or_else(wrong)?;
    let expected = match algorithm {
        "sha256" => 64,
        "sha512" => 128,
        _ => return Err(wrong()),
    };
    if !hex.bytes().all(is_lower_hex) {
        return Err(wrong());
    }
    if hex.len() != expected {
        return Err(ReferenceError::DigestLength {
            length: hex.len(),
            expected,
        });
    }
    Ok(digest)
}
