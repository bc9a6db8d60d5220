//! `landfall/bundle.json`: names everything in a bundle by its digest. Its SHA-256 is the bundle's id, and it alone is
//! signed [spec:bundles.identity]. It has no time and no host: the same input gives the same bytes.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::bundle::trust::Edition;
use crate::failure::Hint;
use crate::lenient;
use crate::oci_types::{Descriptor, Platform};
use crate::reference::{Digest, ImageReference, Tag};

/// Version of the format that this program writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Path of the document in a bundle.
pub const DOCUMENT_PATH: &str = "landfall/bundle.json";
/// Path of the signatures in a bundle.
pub const SIGNATURES_PATH: &str = "landfall/bundle.sig";
/// Directory of the files that a bundle carries beside images.
pub const CARRIED_PREFIX: &str = "landfall/files/";
/// Largest document in bytes: 100,000 blobs take 10 MiB.
pub const DOCUMENT_SIZE_MAX: u64 = 32 * 1024 * 1024;
/// Largest number of blobs in a bundle.
pub const BLOBS_MAX: usize = 100_000;

/// The content of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleDocument {
    /// [`FORMAT`].
    pub format: u32,
    /// Name of the bundles that replace one another at a site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<String>,
    /// Number in the series: a site refuses a lower one than it has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Inventory, receipt or bundle that a delta counts on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// The other metadata files.
    pub files: Vec<BundleFile>,
    pub images: Vec<BundledImage>,
    /// Blobs and manifests in the order of the file.
    pub blobs: Vec<BundledBlob>,
    /// Blobs that are not in the bundle: the site has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<NeededBlob>,
}

/// A metadata file of a bundle, or a file that it carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFile {
    pub path: String,
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// An image of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundledImage {
    /// The full reference.
    pub name: ImageReference,
    /// The manifest or index.
    pub digest: Digest,
    pub media_type: String,
    /// Size of the manifest in bytes.
    pub size: u64,
    /// Platforms in the bundle; empty for an image without an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub platforms: Vec<Platform>,
    /// Index entries that are not in the bundle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Signatures, attestations and bills of materials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub companions: Vec<Companion>,
}

/// An index entry that is not in the bundle. The index names it still, so that digests and signatures stay valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// A manifest that refers to an image or to one of its index entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Companion {
    pub digest: Digest,
    pub media_type: String,
    /// Size of the manifest in bytes.
    pub size: u64,
    /// The manifest that it refers to.
    pub subject: Digest,
    /// The tag by which clients find it, if they do not find it by its subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
}

/// A blob or manifest of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundledBlob {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    pub how: BlobPlace,
}

/// Place of a blob in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobPlace {
    /// In the compressed frame at the beginning.
    Head,
    /// In stored frames of its own.
    Stored,
}

/// A blob that a delta leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeededBlob {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// One of the images with the blob.
    pub image: ImageReference,
}

/// A document that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    #[error("`{DOCUMENT_PATH}` is no description of a bundle")]
    Json(#[source] serde_json::Error),
    #[error("the bundle has format {found}, and this program reads up to {FORMAT}")]
    Format { found: u32 },
    #[error("`{DOCUMENT_PATH}` lists more than {BLOBS_MAX} blobs")]
    Blobs,
    #[error("`{DOCUMENT_PATH}` lists `{digest}` twice")]
    Twice { digest: Digest },
    #[error("`{DOCUMENT_PATH}` lists a blob in the head behind a stored one: `{digest}`")]
    Order { digest: Digest },
    #[error("the blobs of `{DOCUMENT_PATH}` have more than 2^62 bytes")]
    Size,
    /// It is there twice, or leads out of the bundle.
    #[error("`{DOCUMENT_PATH}` lists the file {path:?}, which is no path in a bundle, or lists it twice")]
    Path { path: String },
    #[error("`{DOCUMENT_PATH}` names the image `{name}` with the digest `{digest}`, and does not list that manifest")]
    Manifest { name: ImageReference, digest: Digest },
}

impl Hint for DocumentError {
    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            DocumentError::Format { .. } => Some("use a newer version of Landfall".into()),
            _ => Some("make the bundle again, or fetch it again: it is not as Landfall wrote it".into()),
        }
    }
}

/// The field that a reader looks at first.
#[derive(Deserialize)]
struct FormatOnly {
    format: u32,
}

impl BundleDocument {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// If it has a newer format, or contradicts itself.
    pub fn parse(bytes: &[u8]) -> Result<BundleDocument, DocumentError> {
        let FormatOnly { format } = lenient::from_slice(bytes).map_err(DocumentError::Json)?;
        if format == 0 || format > FORMAT {
            return Err(DocumentError::Format { found: format });
        }
        let document: BundleDocument = lenient::from_slice(bytes).map_err(DocumentError::Json)?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), DocumentError> {
        if self.blobs.len() > BLOBS_MAX || self.needs.len() > BLOBS_MAX {
            return Err(DocumentError::Blobs);
        }
        let mut paths = HashSet::new();
        let is_right =
            |path: &str| !path.contains('\0') && path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if let Some(file) = self
            .files
            .iter()
            .find(|file| !is_right(&file.path) || !paths.insert(&file.path))
        {
            let path = file.path.clone();
            return Err(DocumentError::Path { path });
        }
        let mut listed = HashSet::new();
        let mut sum = 0_u64;
        let mut is_head = true;
        for BundledBlob { digest, size, how } in &self.blobs {
            if !listed.insert(digest) {
                return Err(DocumentError::Twice { digest: digest.clone() });
            }
            if *how == BlobPlace::Head && !is_head {
                return Err(DocumentError::Order { digest: digest.clone() });
            }
            is_head = *how == BlobPlace::Head;
            sum = sum.saturating_add(*size);
        }
        if sum > 1 << 62 {
            return Err(DocumentError::Size);
        }
        if let Some(need) = self.needs.iter().find(|need| !listed.insert(&need.digest)) {
            let digest = need.digest.clone();
            return Err(DocumentError::Twice { digest });
        }
        match self.images.iter().find(|image| !listed.contains(&image.digest)) {
            None => Ok(()),
            Some(image) => Err(DocumentError::Manifest {
                name: image.name.clone(),
                digest: image.digest.clone(),
            }),
        }
    }

    /// Returns the bytes that are signed.
    #[must_use]
    pub fn render(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("the document has texts and numbers only, which JSON can hold")
    }

    /// Returns the blobs in stored frames, in the order of the file.
    pub fn stored(&self) -> impl Iterator<Item = &BundledBlob> {
        self.blobs.iter().filter(|blob| blob.how == BlobPlace::Stored)
    }

    /// Returns the blobs in the head, in the order of the file.
    pub fn head(&self) -> impl Iterator<Item = &BundledBlob> {
        self.blobs.iter().filter(|blob| blob.how == BlobPlace::Head)
    }

    /// Returns the place of the bundle in its series; `None` if it belongs to none.
    #[must_use]
    pub fn edition(&self) -> Option<Edition> {
        Some(Edition {
            series: self.series.clone()?,
            sequence: self.sequence?,
        })
    }

    /// Returns the number of bytes of all blobs in the bundle.
    #[must_use]
    pub fn content_size(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.size).sum()
    }
}

impl BundledImage {
    /// Returns the descriptor of the image's manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.size)
    }
}

impl Companion {
    /// Returns the descriptor of the companion's manifest.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest.clone(), self.size)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mk_digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn mk_document() -> Value {
        json!({
            "format": 1,
            "files": [{"path": "index.json", "digest": mk_digest('a'), "size": 10}],
            "images": [{
                "name": "reg.example:5000/shop/till:1", "digest": mk_digest('1'), "mediaType": "m", "size": 3,
                "leftOut": [{"digest": mk_digest('9'), "platform": {"os": "linux", "architecture": "arm64"}}],
            }],
            "blobs": [
                {"digest": mk_digest('1'), "size": 3, "how": "head"},
                {"digest": mk_digest('2'), "size": 70000, "how": "stored"},
            ],
            "needs": [{"digest": mk_digest('3'), "size": 5, "image": "reg.example:5000/shop/till:1"}],
        })
    }

    fn parse(document: &Value) -> Result<BundleDocument, DocumentError> {
        BundleDocument::parse(document.to_string().as_bytes())
    }

    #[test]
    fn rendering_undoes_parsing() {
        let document = parse(&mk_document()).unwrap();
        assert_eq!(BundleDocument::parse(&document.render()).unwrap(), document);
        assert_eq!(document.content_size(), 70003);
        assert_eq!(document.stored().count(), 1);
    }

    #[test]
    fn a_document_that_contradicts_itself_is_refused() {
        let cases: [(&str, Value, &str); 9] = [
            (
                "/format",
                json!(2),
                "the bundle has format 2, and this program reads up to 1",
            ),
            (
                "/format",
                json!(0),
                "the bundle has format 0, and this program reads up to 1",
            ),
            ("/blobs/1/digest", json!(mk_digest('1')), "lists `sha256:1111"),
            ("/needs/0/digest", json!(mk_digest('2')), "lists `sha256:2222"),
            ("/blobs/1/size", json!(1_u64 << 63), "have more than 2^62 bytes"),
            ("/images/0/digest", json!(mk_digest('7')), "does not list that manifest"),
            ("/files/0/path", json!("../index.json"), "is no path in a bundle"),
            ("/files/0/path", json!("/etc/passwd"), "is no path in a bundle"),
            ("/files/0/path", json!("a\0b"), "is no path in a bundle"),
        ];
        for (pointer, value, message) in cases {
            let mut document = mk_document();
            *document.pointer_mut(pointer).unwrap() = value;
            let error = parse(&document).unwrap_err().to_string();
            assert!(error.contains(message), "{pointer}: {error}");
        }
        let mut order = mk_document();
        order["blobs"].as_array_mut().unwrap().swap(0, 1);
        assert!(matches!(parse(&order), Err(DocumentError::Order { .. })));
        for no_document in ["", "{}", "[]", "{\"format\":1}", "{\"format\":\"1\"}"] {
            assert!(BundleDocument::parse(no_document.as_bytes()).is_err(), "{no_document}");
        }
    }
}
