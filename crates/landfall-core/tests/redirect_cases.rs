//! The rows of `data/redirect-cases.tsv`: the common behaviour of earlier projects, each row tested by its kind.

mod common;

use std::collections::BTreeMap;

use common::{mk_reference, with_external, with_rule};
use landfall_core::credential::kubelet_pattern_matches;
use landfall_core::reference::{parse_grammar, parse_reference};
use landfall_core::registry_path::{Route, parse_namespace};
use landfall_core::resolve::Resolver;
use landfall_core::settings::{ImageRole, Settings};

const CASES: &str = include_str!("data/redirect-cases.tsv");

struct Case<'a> {
    kind: &'a str,
    input: &'a str,
    configuration: &'a str,
    expected: &'a str,
}

fn cases() -> impl Iterator<Item = Case<'static>> {
    CASES.lines().skip(1).map(|line| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [_, input, configuration, expected] = columns[..] else {
            panic!("four columns are needed: {line}");
        };
        let (kind, _) = configuration.split_once(';').unwrap_or((configuration, ""));
        Case {
            kind: kind.strip_prefix("kind=").unwrap_or_else(|| panic!("no kind: {line}")),
            input,
            configuration,
            expected,
        }
    })
}

#[test]
fn every_row_holds() {
    let mut rows = BTreeMap::new();
    let mut failures = Vec::new();
    for case in cases() {
        let found = match case.kind {
            "rewrite" => rewrite(&case),
            "reference-parse" => reference_parse(&case),
            "normalize" => normalize(&case),
            "registry-of" => registry_of(&case),
            "grammar" => grammar(&case),
            "credential" => credential(&case),
            "registry-http-path" => registry_http_path(&case),
            kind => panic!("unknown kind `{kind}`"),
        };
        // An error's text belongs to the other project; only the fact of an error counts.
        let expected = if case.expected.starts_with("ERROR") {
            "ERROR"
        } else {
            case.expected
        };
        if found != expected {
            failures.push(format!(
                "{}: `{}`: `{found}` instead of `{expected}`",
                case.kind, case.input
            ));
        }
        *rows.entry(case.kind).or_insert(0) += 1;
    }
    assert_eq!(failures, Vec::<String>::new());
    let counts: Vec<(&str, i32)> = rows.into_iter().collect();
    assert_eq!(
        counts,
        [
            ("credential", 16),
            ("grammar", 13),
            ("normalize", 27),
            ("reference-parse", 65),
            ("registry-http-path", 6),
            ("registry-of", 15),
            ("rewrite", 3),
        ]
    );
}

fn rewrite(case: &Case<'_>) -> String {
    let settings = rewrite_settings(case.configuration);
    let resolution = Resolver::new(&settings).resolve(&mk_reference(case.input), ImageRole::Application);
    resolution.runtime(false).reference.to_string()
}

fn rewrite_settings(configuration: &str) -> Settings {
    if let Some((_, domain)) = configuration.split_once("domain=") {
        return with_external(Settings::default(), domain);
    }
    let rule = configuration
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .and_then(|(rule, _)| rule.split_once(": "));
    let (from, to) = rule.unwrap_or_else(|| panic!("no rule: {configuration}"));
    with_rule(Settings::default(), from, to)
}

fn reference_parse(case: &Case<'_>) -> String {
    match parse_reference(case.input) {
        Err(_) => "ERROR".to_owned(),
        Ok(_) if case.expected == "VALID" => "VALID".to_owned(),
        Ok(reference) => format!(
            "host={} path={} tag={} digest={}",
            reference.host,
            reference.repository,
            reference.tag.map(String::from).unwrap_or_default(),
            reference.digest.map(String::from).unwrap_or_default()
        ),
    }
}

fn normalize(case: &Case<'_>) -> String {
    let reference = mk_reference(case.input);
    if case.configuration.contains("tag dropped when a digest is present") {
        reference.runtime_name()
    } else if case.configuration.contains("without default tag") {
        match case.expected.split_once(" (") {
            None => reference.to_string(),
            Some(_) => format!("{reference} (host={} path={})", reference.host, reference.repository),
        }
    } else {
        reference.canonical().to_string()
    }
}

fn registry_of(case: &Case<'_>) -> String {
    let reference = parse_reference(case.input);
    if case.configuration.contains("is it Docker Hub?") {
        return reference
            .is_ok_and(|reference| reference.host.is_docker_hub())
            .to_string();
    }
    match reference {
        Err(_) => "ERROR".to_owned(),
        Ok(reference) if case.expected.starts_with("host=") => {
            format!("host={} path={}", reference.host, reference.repository)
        }
        Ok(reference) => reference.host.to_string(),
    }
}

fn grammar(case: &Case<'_>) -> String {
    match parse_grammar(case.input) {
        Err(_) => "ERROR".to_owned(),
        Ok(parts) => format!(
            "name={} host={} tag={} digest={}",
            parts.name,
            parts.host.unwrap_or_default(),
            parts.tag.unwrap_or_default(),
            parts.digest.unwrap_or_default()
        ),
    }
}

fn credential(case: &Case<'_>) -> String {
    let matches = |marker: &str| {
        let (_, pattern) = case.configuration.split_once(marker)?;
        Some(kubelet_pattern_matches(pattern, case.input))
    };
    match (matches("kubelet glob "), matches("keyring entry ")) {
        (Some(found), None) => format!("match={found}"),
        (None, Some(true)) => "hit".to_owned(),
        (None, Some(false)) => "miss".to_owned(),
        _ => panic!("no pattern: {}", case.configuration),
    }
}

fn registry_http_path(case: &Case<'_>) -> String {
    // The rows are a mirror's: it serves nothing without the registry that it stands in for.
    let (path, query) = case.input.split_once('?').unwrap_or((case.input, ""));
    let (Ok(route), Ok(Some(_registry))) = (Route::parse(path), parse_namespace(query)) else {
        return "ERROR".to_owned();
    };
    match route {
        Route::Manifest { name, selector } if selector.contains(':') => {
            format!("name={name} tag= digest={selector} kind=Manifest")
        }
        Route::Manifest { name, selector } => format!("name={name} tag={selector} digest= kind=Manifest"),
        Route::Blob { name, digest } => format!("name={name} tag= digest={digest} kind=Blob"),
        route => panic!("no path of a mirror: {route:?}"),
    }
}
