//! The JSON Schemas of the input and the reports: for editors, and for programs that read `-o json`.

use landfall_core::{config, report};
use serde_json::Value;

/// What there are schemas of.
pub const NAMES: [&str; 5] = ["user-data", "profile", "plan", "images", "explain"];

/// The schema of that name; `None` when there is none.
#[must_use]
pub fn find(name: &str) -> Option<Value> {
    match name {
        "user-data" => Some(config::user_data_schema()),
        "profile" => Some(config::profile_schema()),
        report_kind => {
            let found = report::schemas()
                .into_iter()
                .find(|(kind, _)| kind.eq_ignore_ascii_case(report_kind));
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
