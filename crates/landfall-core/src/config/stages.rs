//! Reads `stages`: steps that the host runs when Kairos reaches a stage (SPEC section 10.1).

mod step;

use std::collections::BTreeMap;
use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::codes;
use crate::config::facts::{Facts, Sourced, WrittenFile};
use crate::config::node::Node;
use crate::config::report::Report;
use crate::diagnostic::mask::{self, LineBreaks};
use crate::stage::{CREDENTIAL_DIRECTORY, STAGES, SecretBytes, StageDirectory, StageFile, StageStep, base_of};
use crate::wording::nearest;

const MODE_PLAIN: u32 = 0o644;
const MODE_SECRET: u32 = 0o600;
const MODE_DIRECTORY: u32 = 0o755;
/// What a compressed file of a stage may grow to, in bytes.
const CONTENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Keys that Kairos ignores without a word, and what was meant.
const IGNORED_KEYS: [(&str, &str); 4] = [
    ("permission", "permissions"),
    ("mode", "permissions"),
    ("owner_string", "ownerstring"),
    ("ownerString", "ownerstring"),
];

/// Appends the steps below `stages` to what was read before.
pub(crate) fn read_stages(stages: &Node, facts: &mut Facts, report: &mut Report) {
    for entry in stages.entries() {
        let Some(stage) = entry.key.text() else { continue };
        check_stage_name(&entry.key, stage, report);
        for node in entry.value.items_or_self() {
            if let Some(step) = read_step(node, stage, facts, report) {
                facts.settings.stages.entry(stage.to_owned()).or_default().push(step);
            }
        }
    }
}

fn check_stage_name(key: &Node, stage: &str, report: &mut Report) {
    let base = base_of(stage);
    if !STAGES.contains(&base) {
        let draft = report.node(&codes::UNKNOWN_STAGE, key, format!("there is no stage `{stage}`"));
        match nearest(base, STAGES.into_iter()) {
            Some(near) => draft.help(format!("did you mean `{near}`?")),
            None => draft.help(format!(
                "stages are: {}; each with `.before` and `.after`",
                STAGES.join(", ")
            )),
        };
    }
}

/// `None` for a step whose condition cannot be asked: it must not run where it should not.
fn read_step(node: &Node, stage: &str, facts: &mut Facts, report: &mut Report) -> Option<StageStep> {
    let written_name = node.get("name").and_then(Node::text).unwrap_or(stage);
    let name = unique_name(written_name, &mut facts.step_names);
    step::check_keys(node, report);
    let lists = |key: &str| node.get(key).map(Node::items_or_self).unwrap_or_default();
    let mut files = Vec::new();
    for file in lists("files") {
        if let Some(read) = read_file(file, stage, facts, report) {
            files.push(read);
        }
    }
    let condition = node.get("if").filter(|condition| !condition.is_null());
    let is_askable = condition.is_none_or(|condition| condition.text().is_some()) && !step::has_other_condition(node);
    let step = StageStep {
        name,
        condition: condition.and_then(Node::text).map(str::to_owned),
        directories: lists("directories")
            .iter()
            .filter_map(|directory| read_directory(directory, report))
            .collect(),
        files,
        commands: node
            .get("commands")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Node::text)
            .map(str::to_owned)
            .collect(),
        users: step::read_users(node, report),
        systemctl: step::read_systemctl(node, report),
        environment: step::read_environment(node, report),
        location: node.location(),
    };
    is_askable.then_some(step)
}

/// Steps of one name overwrite each other in Kairos; here the second gets a number.
fn unique_name(name: &str, used: &mut BTreeMap<String, usize>) -> String {
    loop {
        let count = used.entry(name.to_owned()).or_default();
        *count += 1;
        if *count == 1 {
            return name.to_owned();
        }
        let candidate = format!("{name}-{count}");
        if !used.contains_key(&candidate) {
            used.insert(candidate.clone(), 1);
            return candidate;
        }
    }
}

fn read_file(node: &Node, stage: &str, facts: &mut Facts, report: &mut Report) -> Option<StageFile> {
    check_ignored_keys(node, report);
    let path = read_path(node, report)?;
    let content_node = node.get("content");
    if content_node.is_some_and(Node::is_unresolved) {
        return None;
    }
    let written = content_node.and_then(Node::text).unwrap_or_default();
    let content = match decode(written, node.get("encoding").and_then(Node::text)) {
        Ok(content) => content,
        Err(why) => {
            let at = content_node.unwrap_or(node);
            // What is encoded may be a secret, and cannot be told apart.
            report.secret(at.span());
            report
                .node(
                    &codes::BAD_CONTENT,
                    at,
                    format!("the content of `{path}` cannot be decoded: {why}"),
                )
                .help("encode it as `encoding` says, or remove `encoding`");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&content);
    let holds_secret =
        path.starts_with(CREDENTIAL_DIRECTORY) || !mask::secret_ranges(&text, LineBreaks::Real).is_empty();
    facts.stage_files.push(WrittenFile {
        stage: stage.to_owned(),
        path: Sourced::new(path.clone(), node.get("path").unwrap_or(node)),
        is_plain: text == written,
        content: Sourced::new(text.into_owned(), content_node.unwrap_or(node)),
        mode: mode(node).and_then(|mode| Some(Sourced::new(mode, node.get("permissions")?))),
        holds_secret,
    });
    Some(StageFile {
        mode: mode(node).unwrap_or(if holds_secret { MODE_SECRET } else { MODE_PLAIN }),
        owner: number(node, "owner"),
        group: number(node, "group"),
        owner_name: node.get("ownerstring").and_then(Node::text).map(str::to_owned),
        path,
        content: SecretBytes(content),
    })
}

fn read_directory(node: &Node, report: &mut Report) -> Option<StageDirectory> {
    check_ignored_keys(node, report);
    Some(StageDirectory {
        path: read_path(node, report)?,
        mode: mode(node).unwrap_or(MODE_DIRECTORY),
        owner: number(node, "owner"),
        group: number(node, "group"),
    })
}

fn read_path(node: &Node, report: &mut Report) -> Option<String> {
    let Some(path_node) = node.get("path") else {
        report
            .node(&codes::BAD_PATH, node, format!("`{}` has no `path`", node.path()))
            .help("add `path: /…`");
        return None;
    };
    good_path(path_node, report)
}

/// The path of a node, where it can be written to.
fn good_path(node: &Node, report: &mut Report) -> Option<String> {
    let path = node.text()?;
    if !is_good_path(path) {
        report
            .node(
                &codes::BAD_PATH,
                node,
                format!("`{}` is not an absolute path without `..`", node.path()),
            )
            .help("write the whole path, from `/` on");
        return None;
    }
    Some(path.to_owned())
}

fn is_good_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['\0', '\n']) && !path.split('/').any(|part| part == "..")
}

fn check_ignored_keys(node: &Node, report: &mut Report) {
    for (ignored, meant) in IGNORED_KEYS {
        if let Some(entry) = node.entries().iter().find(|entry| entry.key.text() == Some(ignored)) {
            report
                .node(
                    &codes::IGNORED_STAGE_KEY,
                    &entry.key,
                    format!("`{ignored}` is no key of a stage's file and has no effect"),
                )
                .help(format!("write `{meant}`"));
        }
    }
}

fn mode(node: &Node) -> Option<u32> {
    node.get("permissions").and_then(Node::mode)
}

fn number(node: &Node, key: &str) -> u32 {
    node.get(key)
        .and_then(Node::integer)
        .and_then(|number| u32::try_from(number).ok())
        .unwrap_or(0)
}

fn decode(written: &str, encoding: Option<&str>) -> Result<Vec<u8>, &'static str> {
    let base64 = |text: &str| {
        let compact: String = text.chars().filter(|character| !character.is_whitespace()).collect();
        STANDARD.decode(compact).map_err(|_| "it is not base64")
    };
    match encoding {
        Some("b64" | "base64") => base64(written),
        Some("gz" | "gzip") => inflate(written.as_bytes()),
        Some("gz+base64" | "gzip+base64" | "gz+b64" | "gzip+b64") => inflate(&base64(written)?),
        _ => Ok(written.as_bytes().to_vec()),
    }
}

fn inflate(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut content = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .take(CONTENT_BYTES_MAX + 1)
        .read_to_end(&mut content)
        .map_err(|_| "it is not gzip")?;
    if content.len() as u64 > CONTENT_BYTES_MAX {
        return Err("it grows beyond 16 MiB");
    }
    Ok(content)
}
