//! JSON Schemas of the inputs and the reports, for editors and for programs that read `-o json`.

use landfall_core::{config, report};
use serde_json::Value;

/// Names of all schemas.
pub const NAMES: [&str; 20] = [
    "user-data",
    "profile",
    "validate",
    "plan",
    "images",
    "explain",
    "check",
    "transfer",
    "bundle",
    "bundle-verification",
    "bundle-diff",
    "bundle-receipt",
    "bundle-upload",
    "stages",
    "status",
    "events",
    "progress",
    "reload",
    "uninstall",
    "version",
];

/// Returns the schema of this name, if there is one.
#[must_use]
pub fn find(name: &str) -> Option<Value> {
    match name {
        "user-data" => Some(config::user_data_schema()),
        "profile" => Some(config::profile_schema()),
        command => {
            let found = report::schemas()
                .into_iter()
                .find(|(of_command, _)| *of_command == command);
            found.map(|(_, schema)| schema.to_value())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_a_schema_and_nothing_else_has() {
        for name in NAMES {
            assert!(find(name).is_some(), "{name}");
        }
        assert_eq!(find("nonsense"), None);
    }
}
