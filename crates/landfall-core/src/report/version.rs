//! Output of `landfall version`.

use schemars::JsonSchema;
use serde::Serialize;

use super::API_VERSION;

/// The build of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VersionReport {
    /// Always `landfall.dev/v1alpha1`.
    pub api_version: &'static str,
    /// Always `Version`.
    pub kind: &'static str,
    /// The version of the program.
    pub version: &'static str,
    /// The commit of the source; null for a build that was not told.
    pub commit: Option<&'static str>,
    /// The platform that the program was built for, e.g. `linux/amd64`.
    pub platform: String,
}

impl VersionReport {
    #[must_use]
    pub fn new(version: &'static str, commit: Option<&'static str>, platform: String) -> VersionReport {
        VersionReport {
            api_version: API_VERSION,
            kind: "Version",
            version,
            commit,
            platform,
        }
    }
}
