//! Manifests, indexes and descriptors: the fields that this program reads. The raw bytes are always kept beside them.

mod grammar;
mod platforms;
mod role;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::oci_types::grammar::folded_key;
use crate::reference::Digest;

pub use self::role::ContentRole;
pub use crate::oci_types::grammar::{is_manifest_like_type, is_media_type};

/// Pointer to content: media type, digest and size (OCI image specification, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    /// The content's size in bytes.
    pub size: u64,
    /// The platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Download addresses of foreign content.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The artifact type, in an index of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

/// The platform `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// For example `amd64`.
    pub architecture: String,
    /// For example `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// A text that is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform: write it as `linux/amd64` or `linux/arm/v7`")]
pub struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Platform, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        match parts[..] {
            [os, architecture] | [os, architecture, _] if parts.iter().all(is_word) => {
                let (architecture, implied) = usual_architecture(architecture);
                Ok(Platform {
                    os: os.to_ascii_lowercase(),
                    architecture,
                    variant: parts.get(2).copied().or(implied).map(str::to_owned),
                })
            }
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

/// Returns the name of an architecture in image indexes, and the variant that a user's name for it implies: users write
/// the words of `uname` and of Debian too (as in containerd's `platforms.Normalize`).
fn usual_architecture(text: &str) -> (String, Option<&'static str>) {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "x86_64" | "x86-64" | "x64" => ("amd64".to_owned(), None),
        "aarch64" => ("arm64".to_owned(), None),
        "armhf" | "armv7l" => ("arm".to_owned(), Some("v7")),
        "armel" | "armv6l" => ("arm".to_owned(), Some("v6")),
        "i386" | "i486" | "i586" | "i686" => ("386".to_owned(), None),
        "powerpc64le" => ("ppc64le".to_owned(), None),
        _ => (lower, None),
    }
}

impl Platform {
    /// Returns true if an image for `offered` satisfies a request for this platform. A request without a variant
    /// accepts every variant. `arm64` has only the variant `v8`, which images name or leave out.
    #[must_use]
    pub fn accepts(&self, offered: &Platform) -> bool {
        let variant = |platform: &Platform| match (platform.architecture.as_str(), platform.variant.as_deref()) {
            ("arm64", None | Some("8" | "v8")) => None,
            (_, variant) => variant.map(str::to_owned),
        };
        self.os == offered.os
            && self.architecture == offered.architecture
            && variant(self).is_none_or(|wanted| variant(offered) == Some(wanted))
    }
}

/// Media types that this program knows.
pub mod media_type {
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// A Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed OCI layer.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
}

/// A manifest or an index, with the fields that a walk over an image's graph needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestContent {
    /// One image, or one artifact.
    Image(Manifest),
    /// Several manifests, e.g. one for each platform.
    Index(Index),
}

/// An image manifest (OCI image specification, manifest.md; Docker's schema 2 has the same fields).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The media type that the manifest declares.
    #[serde(default)]
    pub media_type: Option<String>,
    #[serde(default)]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    /// The layers, lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// An index (OCI image specification, image-index.md; Docker's manifest list has the same fields).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// The media type that the index declares.
    #[serde(default)]
    pub media_type: Option<String>,
    #[serde(default)]
    pub artifact_type: Option<String>,
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl ManifestContent {
    /// Returns the media type that the content declares, or the OCI type of its shape.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            ManifestContent::Image(manifest) => manifest.media_type.as_deref().unwrap_or(media_type::OCI_MANIFEST),
            ManifestContent::Index(index) => index.media_type.as_deref().unwrap_or(media_type::OCI_INDEX),
        }
    }

    /// Returns the children, in order: the manifests of an index; the configuration and the layers of an image. The
    /// subject is no child: it may be missing (OCI distribution specification, "Pushing manifests with subject").
    pub fn children(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, rest) = match self {
            ManifestContent::Image(manifest) => (Some(&manifest.config), &manifest.layers),
            ManifestContent::Index(index) => (None, &index.manifests),
        };
        config.into_iter().chain(rest)
    }

    /// Returns the manifest that this one refers to, e.g. the image that a signature is for.
    #[must_use]
    pub fn subject(&self) -> Option<&Descriptor> {
        match self {
            ManifestContent::Image(manifest) => manifest.subject.as_ref(),
            ManifestContent::Index(index) => index.subject.as_ref(),
        }
    }

    /// Returns the artifact type in a list of referrers: the declared one, else the media type of the configuration.
    #[must_use]
    pub fn artifact_type(&self) -> Option<&str> {
        match self {
            ManifestContent::Image(manifest) => {
                Some(manifest.artifact_type.as_deref().unwrap_or(&manifest.config.media_type))
            }
            ManifestContent::Index(index) => index.artifact_type.as_deref(),
        }
    }

    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        match self {
            ManifestContent::Image(manifest) => &manifest.annotations,
            ManifestContent::Index(index) => &index.annotations,
        }
    }
}

impl Descriptor {
    /// Makes a descriptor with only type, digest and size.
    #[must_use]
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            artifact_type: None,
        }
    }

    /// Returns true if the content is itself a manifest or an index.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        is_manifest_type(&self.media_type)
    }

    /// Returns true if the content is a list of manifests.
    #[must_use]
    pub fn is_index(&self) -> bool {
        is_index_type(&self.media_type)
    }

    /// Returns true if the content is a layer that must not be redistributed. It is fetched from its own URL and may be
    /// missing here.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }
}

fn is_index_type(media_type: &str) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_INDEX].contains(&media_type)
}

/// Returns true for the media types of manifests and indexes that this program can read.
#[must_use]
pub fn is_manifest_type(media_type: &str) -> bool {
    [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_INDEX,
    ]
    .contains(&media_type)
}

/// Parses a manifest or an index; its fields decide which of both it is.
///
/// # Errors
/// If it is not JSON, is Docker's schema 1, has the fields of both kinds, has a field in another case, or declares
/// another type than its fields show. Different programs would read a document with the fields of both kinds
/// differently (CVE-2021-41190), and so one with `Layers`.
pub fn parse_manifest(bytes: &[u8]) -> Result<ManifestContent, ManifestError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ManifestFields {
        schema_version: Option<u32>,
        media_type: Option<String>,
        config: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
        manifests: Option<serde::de::IgnoredAny>,
    }
    let AmbiguousKey(ambiguous) = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if let Some((key, read_as)) = ambiguous {
        return Err(ManifestError::OtherCase { key, read_as });
    }
    let shape: ManifestFields = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
    if shape.schema_version == Some(1) {
        return Err(ManifestError::SchemaOne);
    }
    let is_index = match (
        shape.config.is_some() || shape.layers.is_some(),
        shape.manifests.is_some(),
    ) {
        (true, false) => false,
        (false, true) => true,
        (true, true) => return Err(ManifestError::Ambiguous),
        (false, false) => return Err(ManifestError::Unknown),
    };
    if let Some(stated) = shape.media_type
        && is_manifest_type(&stated)
        && is_index_type(&stated) != is_index
    {
        return Err(ManifestError::WrongType { stated });
    }
    if is_index {
        serde_json::from_slice(bytes).map(ManifestContent::Index)
    } else {
        serde_json::from_slice(bytes).map(ManifestContent::Image)
    }
    .map_err(ManifestError::Json)
}

/// First key of a JSON object that a program in Go reads as another one.
struct AmbiguousKey(Option<(String, &'static str)>);

impl<'de> Deserialize<'de> for AmbiguousKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<AmbiguousKey, D::Error> {
        struct KeysVisitor;

        impl<'de> serde::de::Visitor<'de> for KeysVisitor {
            type Value = AmbiguousKey;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<AmbiguousKey, A::Error> {
                let mut found = None;
                while let Some((key, _)) = map.next_entry::<Cow<'de, str>, serde::de::IgnoredAny>()? {
                    found = found.or_else(|| folded_key(&key).map(|read_as| (key.into_owned(), read_as)));
                }
                Ok(AmbiguousKey(found))
            }
        }

        deserializer.deserialize_map(KeysVisitor)
    }
}

/// Reason why bytes are not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON, or a field has the wrong type.
    #[error("the manifest is not one that we can read")]
    Json(#[source] serde_json::Error),
    /// Docker's schema 1.
    #[error(
        "the manifest has Docker's schema version 1, which carries no digests of its layers in a form that we accept"
    )]
    SchemaOne,
    /// The fields of both kinds.
    #[error("the manifest has the fields of an image and of an index")]
    Ambiguous,
    /// The fields of neither kind.
    #[error("the manifest has neither `config` and `layers` nor `manifests`")]
    Unknown,
    /// A field that programs in Go read as one of a manifest, and others do not.
    #[error("the manifest has a field `{key}`, which some programs read as `{read_as}` and others do not")]
    OtherCase { key: String, read_as: &'static str },
    /// A declared media type that contradicts the fields.
    #[error("the manifest calls itself `{stated}` and has the fields of another kind")]
    WrongType {
        /// The declared media type.
        stated: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,
        "digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}"#;

    #[test]
    fn a_platform_accepts_what_runs_on_it() {
        for (wanted, offered, accepted) in [
            ("linux/amd64", "linux/amd64", true),
            ("linux/amd64", "linux/arm64", false),
            ("linux/amd64", "windows/amd64", false),
            ("linux/arm64", "linux/arm64/v8", true),
            ("linux/arm64/v8", "linux/arm64", true),
            ("linux/arm", "linux/arm/v7", true),
            ("linux/arm/v7", "linux/arm", false),
            ("linux/arm/v7", "linux/arm/v6", false),
        ] {
            let platform = |text: &str| text.parse::<Platform>().unwrap();
            assert_eq!(
                platform(wanted).accepts(&platform(offered)),
                accepted,
                "{wanted} {offered}"
            );
            assert_eq!(platform(offered).to_string(), offered);
        }
        for (text, expected) in [
            ("linux/aarch64", "linux/arm64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armhf/v6", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_is_told_from_an_index_by_its_fields() {
        let image =
            parse_manifest(format!(r#"{{"schemaVersion":2,"config":{CONFIG},"layers":[]}}"#).as_bytes()).unwrap();
        assert_eq!(image.media_type(), media_type::OCI_MANIFEST);
        assert_eq!(image.children().count(), 1);
        let index = parse_manifest(br#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert_eq!(index.media_type(), media_type::OCI_INDEX);
        assert_eq!(index.children().count(), 0);
    }

    #[test]
    fn a_manifest_that_different_programs_would_read_differently_is_refused() {
        for (text, expected) in [
            (
                format!(r#"{{"config":{CONFIG},"manifests":[]}}"#),
                "the fields of an image and of an index",
            ),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(), "schema version 1"),
            ("{}".to_owned(), "neither"),
            (
                format!(r#"{{"mediaType":"{}","config":{CONFIG}}}"#, media_type::OCI_INDEX),
                "another kind",
            ),
            ("[1".to_owned(), "not one that we can read"),
            ("[]".to_owned(), "not one that we can read"),
            (
                format!(r#"{{"config":{CONFIG},"layers":[],"Manifests":[]}}"#),
                "a field `Manifests`, which some programs read as `manifests`",
            ),
            (
                r#"{"manifests":[],"\u0063onfiG":{}}"#.to_owned(),
                "a field `confiG`, which some programs read as `config`",
            ),
            (
                format!(r#"{{"config":{CONFIG},"layers":[],"layerſ":[]}}"#),
                "which some programs read as `layers`",
            ),
        ] {
            let error = parse_manifest(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
