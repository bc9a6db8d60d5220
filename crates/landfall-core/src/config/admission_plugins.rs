//! Finds `AlwaysPullImages` in the configuration of Kubernetes, and computes the line without it.
//!
//! The flag is in kubeadm's `extraArgs` (a mapping, or v1beta4's list of name and value), or in an item of
//! `kube-apiserver-arg` of K3s and RKE2. All are in `cluster.config`, a string of YAML inside the values of a pack.

use std::ops::Range;

use crate::config::node::{Node, UNRESOLVED_END, UNRESOLVED_START};

const FLAG: &str = "enable-admission-plugins";
const PLUGIN: &str = "AlwaysPullImages";

/// A list of admission plug-ins that contains `AlwaysPullImages`.
#[derive(Debug, Clone)]
pub(crate) struct Plugins {
    /// The scalar with the list.
    pub(crate) node: Node,
    /// The start of the text to remove if no plug-in remains: the key, or the list's item.
    pub(crate) first: Node,
    /// The line without the plug-in; `None` if no plug-in remains.
    pub(crate) corrected: Option<String>,
    /// The ranges to cut out of the scalar's text, in order.
    pub(crate) cuts: Vec<Range<usize>>,
}

/// Finds the lists in one document of `cluster.config`.
pub(crate) fn find_always_pull(config: &Node) -> Vec<Plugins> {
    let mut found = Vec::new();
    if let Some(arguments) = config.at(&["clusterConfiguration", "apiServer", "extraArgs"]) {
        for entry in arguments.entries() {
            if entry.key.text() == Some(FLAG) {
                found.extend(plugins(&entry.value, &entry.key, "", "enable-admission-plugins: "));
            }
        }
        for item in arguments.items() {
            if item.get("name").and_then(Node::text) == Some(FLAG)
                && let Some(value) = item.get("value")
            {
                found.extend(plugins(value, item, "", "value: "));
            }
        }
    }
    if let Some(arguments) = config.get("kube-apiserver-arg") {
        let single = std::slice::from_ref(arguments);
        let items = if arguments.items().is_empty() {
            single
        } else {
            arguments.items()
        };
        for item in items {
            let prefix = ["enable-admission-plugins=", "--enable-admission-plugins="]
                .into_iter()
                .find(|prefix| item.raw_text().is_some_and(|text| text.starts_with(prefix)));
            if let Some(prefix) = prefix {
                found.extend(plugins(item, item, prefix, "- "));
            }
        }
    }
    found
}

/// Finds the plug-in in one list. `prefix` is the scalar's text before the list, and `lead` is the line's text before
/// the scalar.
fn plugins(node: &Node, first: &Node, prefix: &str, lead: &str) -> Option<Plugins> {
    // Templates in the list that have no value yet do not hide the plug-in.
    let text = node.raw_text()?;
    let list = text.strip_prefix(prefix)?;
    let mut cuts = Vec::new();
    let mut kept = Vec::new();
    let mut at = prefix.len();
    let parts: Vec<&str> = list.split(',').collect();
    for part in &parts {
        let end = at + part.len();
        if part.trim() == PLUGIN {
            // The comma before the plug-in goes too; for the first plug-ins, the comma after it.
            cuts.push(if kept.is_empty() {
                let behind = text.get(end + 1..).unwrap_or_default();
                let blanks = behind.len() - behind.trim_start_matches(' ').len();
                at..(end + 1 + blanks).min(text.len())
            } else {
                at - 1..end
            });
        } else {
            kept.push(*part);
        }
        at = end + 1;
    }
    if cuts.is_empty() {
        return None;
    }
    let corrected = (!kept.is_empty()).then(|| format!("{lead}{prefix}{}", without_marks(&kept.join(","))));
    Some(Plugins {
        node: node.clone(),
        first: first.clone(),
        corrected,
        cuts,
    })
}

/// Replaces the marks of templates without a value by `{{…}}`, for a hint.
fn without_marks(text: &str) -> String {
    text.replace(UNRESOLVED_START, "{{…").replace(UNRESOLVED_END, "}}")
}
