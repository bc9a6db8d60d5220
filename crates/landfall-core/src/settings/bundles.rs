//! `landfall.bundles`: places, keys and policy of bundles [spec:bundles.settings].

use std::sync::Arc;

use camino::Utf8PathBuf;
use serde::Serialize;

use crate::bundle::policy::{ImageSignatures, UnsignedContent};
use crate::bundle::trust::KeyId;

/// Places, keys and policy of the bundles that a host takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BundleSettings {
    /// `directory`: the directory that is searched for bundles; `/opt/spectrocloud/content`.
    pub directory: Utf8PathBuf,
    /// `sticks`: true if block devices with the label `LANDFALL` or `COS_CONTENT` are searched too; true.
    pub sticks: bool,
    /// `publicKeys`: the keys that sign bundles for this host; none.
    pub public_keys: Vec<KeySource>,
    /// `retiredKeys`: keys whose bundles are no longer taken; none.
    pub retired_keys: Vec<KeyId>,
    /// `imageKeys`: the keys of cosign signatures of images; none.
    pub image_keys: Vec<KeySource>,
    pub policy: BundlePolicy,
}

/// A public key, or the place of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum KeySource {
    Pem(Arc<str>),
    /// An absolute path of a PEM file on the host. It is read when a bundle is found.
    File(Utf8PathBuf),
}

/// `landfall.bundles.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BundlePolicy {
    /// `unsignedContent`; `None` if the user leaves the decision to the keys.
    pub unsigned_content: Option<UnsignedContent>,
    /// `allowOlder`: true if a bundle with a lower number than the host has seen in its series is taken; false.
    pub allow_older: bool,
    /// `imageSignatures`; `None` if the user leaves the decision to the keys.
    pub image_signatures: Option<ImageSignatures>,
}

impl Default for BundleSettings {
    fn default() -> BundleSettings {
        BundleSettings {
            directory: Utf8PathBuf::from("/opt/spectrocloud/content"),
            sticks: true,
            public_keys: Vec::new(),
            retired_keys: Vec::new(),
            image_keys: Vec::new(),
            policy: BundlePolicy::default(),
        }
    }
}

impl BundleSettings {
    /// Returns the decision about bundles without a signature: a host with a key refuses them, unless it is told to
    /// take them.
    #[must_use]
    pub fn unsigned_content(&self) -> UnsignedContent {
        let has_key = !(self.public_keys.is_empty() && self.retired_keys.is_empty());
        self.policy.unsigned_content.unwrap_or(match has_key {
            true => UnsignedContent::Refuse,
            false => UnsignedContent::Allow,
        })
    }

    /// Returns the decision about images without a signature: a host with a key for images refuses them, unless it is
    /// told to take them.
    #[must_use]
    pub fn image_signatures(&self) -> ImageSignatures {
        self.policy
            .image_signatures
            .unwrap_or(match self.image_keys.is_empty() {
                true => ImageSignatures::Ignore,
                false => ImageSignatures::Require,
            })
    }
}
