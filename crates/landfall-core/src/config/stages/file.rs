//! Readers of the files and directories of a stage's step.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::codes;
use crate::config::facts::{Facts, Sourced, WrittenFile};
use crate::config::node::Node;
use crate::config::report::Report;
use crate::diagnostic::secrets::holds_credential;
use crate::stage::{CREDENTIAL_DIRECTORY, SecretBytes, StageDirectory, StageFile};

pub(super) const MODE_PLAIN: u32 = 0o644;
pub(super) const MODE_SECRET: u32 = 0o600;
const MODE_DIRECTORY: u32 = 0o755;
/// The maximum size of a decompressed file of a stage, in bytes.
const CONTENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
pub(super) fn read_file(node: &Node, stage: &str, facts: &mut Facts, report: &mut Report) -> Option<StageFile> {
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
            // Encoded content may be a secret, and cannot be examined.
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
    let holds_secret = path.starts_with(CREDENTIAL_DIRECTORY) || holds_credential(&text);
    // Encoded content is a secret too.
    if holds_secret && text != written {
        report.secret(content_node.unwrap_or(node).span());
    }
    facts.stage_files.push(WrittenFile {
        stage: stage.to_owned(),
        path: Sourced::new(path.clone(), node.get("path").unwrap_or(node)),
        is_plain: text == written,
        content: Sourced::new(text.to_string(), content_node.unwrap_or(node)),
        mode: mode(node).and_then(|mode| Some(Sourced::new(mode, node.get("permissions")?))),
        holds_secret,
        is_foreign: false,
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

/// Reads an entry of `write_files`, which Kairos writes, for the checks that look into files. Values that it cannot use
/// are no findings: the file is not ours.
pub(crate) fn read_foreign_file(node: &Node, stage: &str, facts: &mut Facts, report: &mut Report) {
    let Some(path) = node.get("path").filter(|path| path.text().is_some_and(is_good_path)) else {
        return;
    };
    let content_node = node.get("content");
    let written = content_node.and_then(Node::text).unwrap_or_default();
    let encoding = node.get("encoding").and_then(Node::text);
    let content = decode(written, encoding).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let location = path.text().unwrap_or_default();
    let holds_secret = location.starts_with(CREDENTIAL_DIRECTORY) || holds_credential(&text);
    if text != written {
        report.secret(content_node.unwrap_or(node).span());
    }
    // yip takes any digits as octal, in quotes or not.
    let mode = node.get("permissions").and_then(|permissions| {
        let mode = u32::from_str_radix(permissions.text()?, 8).ok()?;
        Some(Sourced::new(mode, permissions))
    });
    facts.stage_files.push(WrittenFile {
        stage: stage.to_owned(),
        path: Sourced::new(location.to_owned(), path),
        is_plain: text == written,
        content: Sourced::new(text.to_string(), content_node.unwrap_or(node)),
        mode,
        holds_secret,
        is_foreign: true,
    });
}

pub(super) fn read_directory(node: &Node, report: &mut Report) -> Option<StageDirectory> {
    Some(StageDirectory {
        path: read_path(node, report)?,
        mode: mode(node).unwrap_or(MODE_DIRECTORY),
        owner: number(node, "owner"),
        group: number(node, "group"),
    })
}

fn read_path(node: &Node, report: &mut Report) -> Option<String> {
    if node.is_null() {
        return None;
    }
    let Some(path_node) = node.get("path") else {
        report
            .node(&codes::BAD_PATH, node, format!("`{}` has no `path`", node.path()))
            .help("add `path: /…`");
        return None;
    };
    good_path(path_node, report)
}

/// Reads a path; `None` if files cannot be written to it.
pub(super) fn good_path(node: &Node, report: &mut Report) -> Option<String> {
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

pub(super) fn is_good_path(path: &str) -> bool {
    path.starts_with('/') && !path.contains(['\0', '\n']) && !path.split('/').any(|part| part == "..")
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
