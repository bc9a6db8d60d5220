//! Reader of `stages`: steps that the host runs when Kairos reaches a stage [spec:stages].

mod file;
mod step;

use std::collections::BTreeMap;

use crate::config::codes;
use crate::config::facts::Facts;
use crate::config::node::Node;
use crate::config::report::Report;
use crate::diagnostic::Severity;
use crate::stage::{STAGES, StageStep, is_stage, nearest_stage};
use file::{read_directory, read_file};

/// Appends the steps below `stages` to the steps that were read before.
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
    if is_stage(stage) {
        return;
    }
    match nearest_stage(stage) {
        Some(near) => {
            report
                .node(&codes::UNKNOWN_STAGE, key, format!("Kairos has no stage `{stage}`"))
                .help(format!("did you mean `{near}`?"));
        }
        None => {
            let message = format!("Kairos has no stage `{stage}`: its steps run only when they are asked for by name");
            report
                .node(&codes::UNKNOWN_STAGE, key, message)
                .severity(Severity::Note)
                .help(format!(
                    "Kairos' stages are {}, each with `.before` and `.after`",
                    STAGES.join(", ")
                ));
        }
    }
}

/// Reads a step; `None` if its condition cannot be evaluated, because it must not run on the wrong host.
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

/// Returns the name with a number if it was used before. In Kairos, steps of one name overwrite each other.
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
