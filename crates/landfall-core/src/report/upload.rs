//! Output of `landfall bundle upload`.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;
use crate::bundle::upload::UploadState;

/// The result of an upload of bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleUploadReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `BundleUpload`.
    pub kind: &'static str,
    /// The address of the host's status API.
    pub to: String,
    /// True if nothing was sent.
    pub dry_run: bool,
    /// The files, in the order in which they are sent.
    pub files: Vec<BundleUploadRow>,
}

/// An uploaded file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleUploadRow {
    /// The name of the file on the host.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
    /// The number of bytes that the host had before.
    pub bytes_before: u64,
    /// The number of bytes that the host took from this run.
    pub bytes_sent: u64,
    /// The state on the host.
    pub state: UploadState,
    /// The path on the host, once the file is complete.
    pub path: Option<String>,
}

impl BundleUploadReport {
    #[must_use]
    pub fn new(to: String, dry_run: bool, files: Vec<BundleUploadRow>) -> BundleUploadReport {
        BundleUploadReport {
            api_version: API_VERSION,
            kind: "BundleUpload",
            to,
            dry_run,
            files,
        }
    }
}
