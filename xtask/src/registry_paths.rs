//! Checks who writes the paths of the registry's API: the registry, its client, and the one parser between them.

use crate::product::select_product;
use crate::sources::{SourceFile, Violation};
use crate::tokens::Kind;

/// Root of the API's paths (OCI distribution specification, "Endpoints").
const API_ROOT: &str = "/v2/";

/// Beginnings of paths of files that may name it, each with the reason.
const ALLOWED: [(&str, &str); 7] = [
    ("crates/landfall-registry/", "answers these paths"),
    ("crates/landfall-oci/src/client", "asks for these paths"),
    (
        "crates/landfall-core/src/registry_path",
        "parses these paths, and names their root for others",
    ),
    ("crates/landfall-testkit/", "has a registry for tests"),
    ("bench/", "asks registries as their clients do"),
    ("tests-interop/", "asks registries as their clients do"),
    ("xtask/", "looks for the root"),
];

/// Returns a violation for each text in product code that holds the API's root and is not allowed to.
pub(crate) fn check_registry_paths(files: &[SourceFile]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in files.iter().filter(|file| file.is_our_rust() && is_checked(&file.path)) {
        for token in select_product(&file.text).tokens {
            if let Kind::Text(text) = token.kind
                && (text.contains(API_ROOT) || text.ends_with(API_ROOT.trim_end_matches('/')))
            {
                violations.push(Violation {
                    path: file.path.clone(),
                    line: token.line,
                    problem: format!(
                        "`{API_ROOT}` outside of the registry and its client: use `landfall_core::registry_path`"
                    ),
                });
            }
        }
    }
    violations
}

/// True for product code. Integration tests and the files of unit tests name the paths that they ask for.
fn is_checked(path: &str) -> bool {
    let is_test = path.contains("/tests/") || path.ends_with("/tests.rs") || path.starts_with("fuzz/");
    !is_test && !ALLOWED.iter().any(|(beginning, _)| path.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let file = SourceFile {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        check_registry_paths(&[file])
            .into_iter()
            .map(|violation| violation.line)
            .collect()
    }

    #[test]
    fn texts_of_product_code_are_checked() {
        let text = "// GET /v2/\nformat!(\"{host}/v2/{name}\");\nlet a = r\"https://x/v2\";\nlet b = \"/v2alpha\";";
        assert_eq!(lines("crates/landfall-agent/src/agent.rs", text), [2, 3]);
        assert_eq!(lines("crates/landfall-oci/src/copy.rs", text), [2, 3]);
    }

    #[test]
    fn registry_client_and_parser_are_allowed() {
        for path in [
            "crates/landfall-registry/src/api/route.rs",
            "crates/landfall-oci/src/client.rs",
            "crates/landfall-oci/src/client/blob.rs",
            "crates/landfall-core/src/registry_path.rs",
        ] {
            assert_eq!(lines(path, "\"/v2/\""), NONE, "{path}");
        }
    }

    #[test]
    fn tests_are_free() {
        assert_eq!(
            lines(
                "crates/landfall/src/a.rs",
                "#[cfg(test)] mod tests { const A: &str = \"/v2/\"; }"
            ),
            NONE
        );
        assert_eq!(lines("crates/landfall/tests/check.rs", "\"/v2/\""), NONE);
    }
}
