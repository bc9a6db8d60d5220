//! Reader of `stages`: steps that the host runs when Kairos reaches a stage [spec:stages].

mod file;
mod step;

use std::collections::BTreeMap;

use crate::config::facts::Facts;
use crate::config::node::Node;
use crate::config::report::Report;
use crate::config::text::Span;
use crate::config::{codes, keys};
use crate::diagnostic::Severity;
use crate::stage::{STAGES, StageStep, is_stage, nearest_stage};
use file::{read_directory, read_file};

pub(crate) use file::read_foreign_file;

/// Appends the steps below `stages` to the steps that were read before.
pub(crate) fn read_stages(stages: &Node, facts: &mut Facts, report: &mut Report) {
    for entry in stages.entries() {
        let Some(stage) = entry.key.text() else { continue };
        if keys::is_step_key(stage) {
            report_step_key(&entry.key, stage, report);
            continue;
        }
        check_stage_name(&entry.key, stage, report);
        for node in entry.value.items_or_self() {
            if let Some(step) = read_step(node, stage, facts, report) {
                facts.settings.stages.entry(stage.to_owned()).or_default().push(step);
            }
        }
    }
}

/// Reports a key of a step that stands beside the stages.
fn report_step_key(key: &Node, name: &str, report: &mut Report) {
    let place = format!("stages.<name>[].{name}");
    report
        .node(
            &codes::MISPLACED,
            key,
            format!("`{name}` is no stage but a key of a step: it belongs at `{place}`"),
        )
        .help(format!("indent it so that it stands at `{place}`"));
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
    note_templates(node, report);
    let lists = |key: &str| node.get(key).map(Node::items_or_self).unwrap_or_default();
    let mut files = Vec::new();
    for file in lists("files") {
        if let Some(read) = read_file(file, stage, facts, report) {
            files.push(read);
        }
    }
    let condition = node.get("if").filter(|condition| !condition.is_null());
    let is_askable = condition.is_none_or(|condition| condition.text().is_some() && template_in(condition).is_none())
        && !step::has_other_condition(node);
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
            .map(Node::values)
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

/// Reports Go templates in the parts of a step in which Kairos evaluates them (yip's `templateSysData`: files, commands,
/// conditions, variables). Landfall takes them as they are, except for a condition, which leaves its step out: as a
/// command it would only fail [spec:user-data.foreign-parts].
fn note_templates(step: &Node, report: &mut Report) {
    let lists = |key: &str| step.get(key).map(Node::items_or_self).unwrap_or_default();
    let contents = lists("files").iter().filter_map(|file| file.get("content"));
    let commands = step.get("commands").map(Node::values).unwrap_or_default().iter();
    let variables = step.get("environment").map(Node::entries).unwrap_or_default().iter();
    let scalars = contents.chain(commands).chain(variables.map(|entry| &entry.value));
    if let Some((condition, span)) = step.get("if").and_then(|node| Some((node, template_in(node)?))) {
        report
            .at(
                &codes::STEP_CONDITION,
                span,
                condition.key_path(),
                format!(
                    "Landfall does not evaluate the Go template in `{}`: the step is left out",
                    condition.path()
                ),
            )
            .help("write the condition as a command without a template, or leave this step to Kairos");
    }
    for node in scalars {
        let Some(span) = template_in(node) else { continue };
        let message = format!(
            "`{}` holds a Go template: Kairos evaluates it, and Landfall takes it as it is",
            node.path()
        );
        report
            .at(&codes::STAGE_TEMPLATE, span, node.key_path(), message)
            .help("leave this step to Kairos, or write the finished text");
    }
}

/// Returns the first Go template of a text.
fn template_in(node: &Node) -> Option<Span> {
    let text = node.text()?;
    let start = text.find("{{")?;
    let length = text[start..].find("}}")?;
    Some(node.inner_span(start..start + length + 2))
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
