//! Readers of `landfall.bundles`, and of Palette's key for signed content.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::Utf8PathBuf;

use crate::bundle::policy::{ImageSignatures, UnsignedContent};
use crate::bundle::trust::KeyId;
use crate::config::address::report_unusable;
use crate::config::codes;
use crate::config::node::Node;
use crate::config::registry::is_der_base64;
use crate::config::report::Report;
use crate::settings::{BundlePolicy, BundleSettings, KeySource};

/// Labels of sections with a public key. Palette's own examples have both.
const KEY_LABELS: [&str; 2] = ["PUBLIC KEY", "RSA PUBLIC KEY"];

/// Reads `landfall.bundles`. `root` is the whole user-data: Palette's key for signed content is beside it.
pub(crate) fn read_bundles(root: &Node, report: &mut Report) -> BundleSettings {
    let defaults = BundleSettings::default();
    let own = root.at(&["landfall", "bundles"]);
    let get = |key: &str| own.and_then(|own| own.get(key));
    let mut public_keys = read_keys(get("publicKeys"), report);
    public_keys.extend(read_palette_key(root, report));
    let settings = BundleSettings {
        directory: read_directory(get("directory"), report).unwrap_or(defaults.directory),
        sticks: get("sticks").and_then(Node::boolean).unwrap_or(defaults.sticks),
        public_keys,
        retired_keys: read_retired_keys(get("retiredKeys"), report),
        image_keys: read_keys(get("imageKeys"), report),
        policy: get("policy").map(read_policy).unwrap_or_default(),
    };
    let signatures = settings.policy.image_signatures;
    if let Some(node) = get("policy").and_then(|policy| policy.get("imageSignatures"))
        && matches!(signatures, Some(ImageSignatures::Warn | ImageSignatures::Require))
        && settings.image_keys.is_empty()
    {
        report_unusable(
            node,
            "needs a key, and there is none",
            "add the public key of the images' signer to `landfall.bundles.imageKeys`",
            report,
        );
    }
    settings
}

fn read_policy(node: &Node) -> BundlePolicy {
    let word = |key: &str| node.get(key).and_then(Node::text);
    BundlePolicy {
        unsigned_content: match word("unsignedContent") {
            Some("refuse") => Some(UnsignedContent::Refuse),
            Some("allow") => Some(UnsignedContent::Allow),
            _ => None,
        },
        allow_older: node.get("allowOlder").and_then(Node::boolean).unwrap_or_default(),
        image_signatures: match word("imageSignatures") {
            Some("ignore") => Some(ImageSignatures::Ignore),
            Some("warn") => Some(ImageSignatures::Warn),
            Some("require") => Some(ImageSignatures::Require),
            _ => None,
        },
    }
}

fn read_directory(node: Option<&Node>, report: &mut Report) -> Option<Utf8PathBuf> {
    let node = node?;
    let text = node.text().filter(|text| !text.is_empty())?;
    if text.starts_with('/') {
        return Some(Utf8PathBuf::from(text));
    }
    report_unusable(
        node,
        "is not an absolute path",
        "start it with `/`, e.g. `/opt/spectrocloud/content`",
        report,
    );
    None
}

fn read_retired_keys(node: Option<&Node>, report: &mut Report) -> Vec<KeyId> {
    let read = |node: &Node| {
        let key = node.text()?.parse().ok();
        if key.is_none() {
            report_unusable(
                node,
                "is not the name of a key",
                "write the 64 hexadecimal digits that `landfall bundle show` prints for a signature",
                report,
            );
        }
        key
    };
    node.map_or(&[][..], Node::values).iter().filter_map(read).collect()
}

fn read_keys(node: Option<&Node>, report: &mut Report) -> Vec<KeySource> {
    let nodes = node.map_or(&[][..], Node::values);
    nodes.iter().filter_map(|node| read_key(node, report)).collect()
}

/// Reads a key: PEM, PEM in base64, or the path of a PEM file.
fn read_key(node: &Node, report: &mut Report) -> Option<KeySource> {
    let text = node.text().map(str::trim).filter(|text| !text.is_empty())?;
    if text.starts_with('/') && !text.contains('\n') {
        return Some(KeySource::File(Utf8PathBuf::from(text)));
    }
    let decoded = (!text.contains("-----BEGIN")).then(|| decode(text)).flatten();
    let pem = decoded.as_deref().unwrap_or(text);
    match describe_key(pem) {
        Ok(()) => Some(KeySource::Pem(Arc::from(pem))),
        Err((problem, help)) => {
            let message = format!("`{}` {problem}", node.path());
            report.node(&codes::BAD_KEY, node, message).help(help);
            None
        }
    }
}

/// Reads `content.signing.publicKey.base64EncodedValue`.
fn read_palette_key(root: &Node, report: &mut Report) -> Option<KeySource> {
    read_key(
        root.at(&["content", "signing", "publicKey", "base64EncodedValue"])?,
        report,
    )
}

fn decode(text: &str) -> Option<String> {
    let compact: String = text.split_whitespace().collect();
    String::from_utf8(STANDARD.decode(compact).ok()?).ok()
}

/// Checks that a text holds a public key.
fn describe_key(pem: &str) -> Result<(), (&'static str, &'static str)> {
    if pem.contains("PRIVATE KEY-----") {
        return Err((
            "is a private key",
            "write the public half, e.g. that of `openssl pkey -in KEY -pubout`, and treat this key as lost: it was in a \
             file that other people read",
        ));
    }
    let is_key = |label: &&str| {
        let body = pem.split_once(&format!("-----BEGIN {label}-----"));
        let body = body.and_then(|(_, rest)| rest.split_once(&format!("-----END {label}-----")));
        body.is_some_and(|(body, _)| is_der_base64(body))
    };
    match KEY_LABELS.iter().any(is_key) {
        true => Ok(()),
        false => Err((
            "is neither a public key nor the absolute path of one",
            "write it as a block, from `-----BEGIN PUBLIC KEY-----` to `-----END PUBLIC KEY-----`, or that text in base64",
        )),
    }
}
