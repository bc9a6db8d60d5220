//! Kinds of images in pods: those that the rules apply to, and those that are never redirected [spec:webhook.rewrite].
//! The webhook, the sweeper, `landfall explain` and the search for images in manifests use this module.

use crate::reference::{ImageReference, ReferenceError, parse_reference};

/// The `imagePullPolicy` or `pullPolicy` of an image that the kubelet never pulls.
pub const PULL_NEVER: &str = "Never";
/// Istio's placeholder for the proxy image; its own webhook replaces it.
const ISTIO_PLACEHOLDER: &str = "auto";
const LOCAL_HOST: &str = "localhost";

/// An image in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodImage {
    InRegistry(ImageReference),
    /// An image that is never redirected.
    LeftAlone(LeftAlone),
}

/// Reason why an image is never redirected, independent of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftAlone {
    /// The pull policy is [`PULL_NEVER`].
    NeverPulled,
    /// The name is a placeholder for another image.
    Placeholder,
    /// The name is an image ID.
    ImageId,
    /// The image was built on the node.
    BuiltOnNode,
}

impl LeftAlone {
    /// Returns the reason in words: the same for the audit log and for `landfall explain`.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            LeftAlone::NeverPulled => "it is never pulled",
            LeftAlone::Placeholder => "`auto` stands for an image that Istio fills in",
            LeftAlone::ImageId => "an image ID names content on one host",
            LeftAlone::BuiltOnNode => "`localhost/` names an image that was built on the node",
        }
    }
}

/// Parses the image of a pod.
///
/// # Errors
/// If it is no reference.
pub fn read_pod_image(image: &str) -> Result<PodImage, ReferenceError> {
    if image == ISTIO_PLACEHOLDER {
        return Ok(PodImage::LeftAlone(LeftAlone::Placeholder));
    }
    match parse_reference(image) {
        Ok(reference) if reference.host.as_str() == LOCAL_HOST => Ok(PodImage::LeftAlone(LeftAlone::BuiltOnNode)),
        Ok(reference) => Ok(PodImage::InRegistry(reference)),
        Err(ReferenceError::ImageId) => Ok(PodImage::LeftAlone(LeftAlone::ImageId)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_images_of_registries_are_anybodys_to_redirect() {
        let id = "0".repeat(64);
        for (image, expected) in [
            ("auto", Some(LeftAlone::Placeholder)),
            ("auto:1", None),
            ("localhost/a", Some(LeftAlone::BuiltOnNode)),
            ("localhost:5000/a", None),
            (id.as_str(), Some(LeftAlone::ImageId)),
            ("nginx", None),
        ] {
            let left_alone = match read_pod_image(image).unwrap() {
                PodImage::LeftAlone(why) => Some(why),
                PodImage::InRegistry(_) => None,
            };
            assert_eq!(left_alone, expected, "{image}");
        }
        read_pod_image("a b").unwrap_err();
    }
}
