//! Opt-out labels of namespaces and pods: no redirection, or redirection by the node's own mirror files
//! [spec:webhook.labels]. No other module knows these labels.

use serde::{Deserialize, Serialize};

/// Landfall's own label, on a namespace or a pod.
pub const REDIRECT_LABEL: &str = "landfall.dev/redirect";
/// The value of [`REDIRECT_LABEL`] that opts out.
pub const DISABLED: &str = "disabled";
/// The value of [`REDIRECT_LABEL`] that leaves the redirection to the node's mirror files. It is meant for operators
/// that compare the pods in the cluster with the pods they created.
pub const NODE: &str = "node";
/// The opt-out label that Palette's users know, on a namespace.
pub const PALETTE_LABEL: &str = "stylus.io/imageswap";
/// The value of [`PALETTE_LABEL`] that opts out.
pub const PALETTE_DISABLED: &str = "disable";

/// Choice that excludes a namespace or a pod from the webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OptOut {
    /// No image is redirected.
    Disabled,
    /// The node's mirror files redirect pulls; the pod keeps the image that its owner wrote.
    Node,
}

impl OptOut {
    /// Returns the choice that one label of a namespace makes.
    #[must_use]
    pub fn of_label(key: &str, value: &str) -> Option<OptOut> {
        match (key, value) {
            (REDIRECT_LABEL, DISABLED) | (PALETTE_LABEL, PALETTE_DISABLED) => Some(OptOut::Disabled),
            (REDIRECT_LABEL, NODE) => Some(OptOut::Node),
            _ => None,
        }
    }

    /// Returns true for the key of a label that makes a choice.
    #[must_use]
    pub fn is_key(key: &str) -> bool {
        matches!(key, REDIRECT_LABEL | PALETTE_LABEL)
    }

    /// Returns the choice that the labels of a namespace make. `Disabled` wins over `Node`.
    pub fn of_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<OptOut> {
        labels
            .into_iter()
            .filter_map(|(key, value)| OptOut::of_label(key, value))
            .min()
    }

    /// Returns the reason why a pod in this namespace stays unchanged. The audit log and `landfall explain` use the
    /// same words.
    #[must_use]
    pub fn explain_namespace(self, namespace: &str) -> String {
        match self {
            OptOut::Disabled => format!("namespace `{namespace}` is opted out"),
            OptOut::Node => format!("namespace `{namespace}` chose redirection by the node's mirror files"),
        }
    }

    /// Returns the reason why a pod with this choice on itself stays unchanged.
    #[must_use]
    pub fn explain_pod(self) -> &'static str {
        match self {
            OptOut::Disabled => "its label opts it out",
            OptOut::Node => "its label chose redirection by the node's mirror files",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_choose_and_opting_out_beats_the_node() {
        for (labels, expected) in [
            (vec![], None),
            (vec![("landfall.dev/redirect", "enabled")], None),
            (vec![("stylus.io/imageswap", "disabled")], None),
            (vec![("stylus.io/imageswap", "disable")], Some(OptOut::Disabled)),
            (vec![("landfall.dev/redirect", "node")], Some(OptOut::Node)),
            (
                vec![("landfall.dev/redirect", "node"), ("stylus.io/imageswap", "disable")],
                Some(OptOut::Disabled),
            ),
        ] {
            assert_eq!(OptOut::of_labels(labels.clone()), expected, "{labels:?}");
        }
    }
}
