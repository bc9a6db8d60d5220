//! Generates a part of the documentation from the code: the command line, diagnostics, metrics, settings, schemas.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Command, CommandFactory as _};
use jiff::Timestamp;
use landfall_agent::metrics::{Metrics, ReviewAnswer};
use landfall_core::config::{CodeDoc, all_codes, user_data_schema};
use landfall_core::status::{AgentStatus, ServingStatus};
use landfall_oci::store::disk_space::DiskSpace;
use serde_json::Value;

use crate::say;

/// Width of the help texts in the command line reference.
const HELP_WIDTH: usize = 100;

/// Writes the files below the workspace's root.
pub(crate) fn write(root: &Path) -> anyhow::Result<()> {
    for (path, text) in files()? {
        let path = root.join(path);
        let directory = path.parent().context("every generated file is in a directory")?;
        fs_err::create_dir_all(directory)?;
        fs_err::write(&path, text)?;
    }
    Ok(())
}

/// Fails if a file below the workspace's root differs from what [`write()`] would write.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    let mut drifted = 0;
    for (path, text) in files()? {
        // A missing file has drifted as well.
        if fs_err::read_to_string(root.join(&path)).ok().as_ref() != Some(&text) {
            say(&format!("`{path}` differs from what the code generates"));
            drifted += 1;
        }
    }
    ensure!(
        drifted == 0,
        "{drifted} generated files have drifted: run `cargo xtask gen` and commit the result"
    );
    Ok(())
}

/// Returns every generated file: its path below the workspace's root, and its text.
fn files() -> anyhow::Result<Vec<(String, String)>> {
    let mut files = vec![
        (
            "docs/reference/cli.md".to_owned(),
            render_cli(landfall::cli::Cli::command()),
        ),
        ("docs/reference/diagnostics.md".to_owned(), render_codes(all_codes())),
        (
            "docs/reference/settings.md".to_owned(),
            render_settings(&user_data_schema()),
        ),
    ];
    files.push((
        "docs/reference/metrics.md".to_owned(),
        render_metrics(&sample_metrics(), &landfall_registry::sample_exposition()?),
    ));
    for name in landfall::schemas::NAMES {
        let schema = landfall::schemas::find(name).with_context(|| format!("there is no schema `{name}`"))?;
        let text = serde_json::to_string_pretty(&schema).context("cannot write a schema")? + "\n";
        files.push((format!("docs/reference/{name}.schema.json"), text));
    }
    Ok(files)
}

fn render_cli(command: Command) -> String {
    let mut text = String::from(
        "# Command line\n\nGenerated from the code by `cargo xtask gen`. `landfall help COMMAND` prints the same text.\n",
    );
    let mut command = command.term_width(HELP_WIDTH);
    command.build();
    render_command(&mut text, &mut command, "landfall");
    text
}

fn render_command(text: &mut String, command: &mut Command, path: &str) {
    text.push_str(&format!(
        "\n## `{path}`\n\n```text\n{}\n```\n",
        command.render_long_help().to_string().trim_end()
    ));
    for child in command
        .get_subcommands_mut()
        .filter(|child| child.get_name() != "help" && !child.is_hide_set())
    {
        let path = format!("{path} {}", child.get_name());
        render_command(text, child, &path);
    }
}

fn render_codes(codes: &[&CodeDoc]) -> String {
    let mut text = String::from(
        "# Diagnostics\n\nGenerated from the code by `cargo xtask gen`. The meaning of a code never changes: a new meaning \
         gets a new code.\n",
    );
    for CodeDoc {
        code,
        severity,
        title,
        explanation,
        example_fix,
    } in codes
    {
        text.push_str(&format!(
            "\n## {code}: {title}\n\n*{severity:?}.* {explanation}\n\nWrite instead:\n\n```yaml\n{example_fix}\n```\n"
        ));
    }
    text
}

/// Returns the exposition of an agent that has set every metric. A metric with labels is not exposed before its first
/// value.
fn sample_metrics() -> String {
    let metrics = Metrics::new();
    metrics.count_review(ReviewAnswer::Patched, 0, Duration::ZERO);
    let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
    status.webhook = Some(ServingStatus {
        url: String::new(),
        ca_file: None,
        certificate_expires: Some(Timestamp::UNIX_EPOCH),
    });
    metrics.set_disk(DiskSpace { free: 0, total: 0 });
    metrics.render(&status)
}

/// Renders the metrics of the agent and of a served registry.
fn render_metrics(agent: &str, registry: &str) -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from the code by `cargo xtask gen`. Alert rules and a dashboard are in \
         `packaging/monitoring`.\n\n## Agent\n\nThe agent serves them at `/metrics`, next to `/healthz` and `/readyz`, on \
         `landfall.listen`.\n\n",
    );
    render_metric_table(&mut text, agent);
    text.push_str(
        "\n## Registry\n\n`landfall registry serve --metrics` serves them at `/metrics`, to users who may pull.\n\n",
    );
    render_metric_table(&mut text, registry);
    text
}

/// Renders the table of metrics from an exposition: `# HELP name text`, then `# TYPE name kind`.
fn render_metric_table(text: &mut String, exposition: &str) {
    text.push_str("| metric | kind | meaning |\n|---|---|---|\n");
    let mut meaning = "";
    for line in exposition.lines() {
        if let Some((_, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            meaning = help;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            // OpenMetrics names a counter's family without the suffix that its samples have.
            let suffix = if kind == "counter" { "_total" } else { "" };
            text.push_str(&format!("| `{name}{suffix}` | {kind} | {meaning} |\n"));
        }
    }
}

fn render_settings(user_data: &Value) -> String {
    let mut text = String::from(
        "# Settings\n\nGenerated from the code by `cargo xtask gen`. Landfall's own settings are under `landfall` in the \
         user-data. An unknown key there is an error. The keys under `stylus` are the keys of Palette Edge that concern \
         images.\n\n| key | meaning, default |\n|---|---|\n",
    );
    for root in ["landfall", "stylus"] {
        render_keys(&mut text, root, &user_data["properties"][root]);
    }
    text
}

/// Adds a row for each key below `path` that holds a value.
fn render_keys(text: &mut String, path: &str, schema: &Value) {
    let Some(properties) = schema["properties"].as_object() else {
        let meaning = schema["description"].as_str().unwrap_or_default();
        text.push_str(&format!("| `{path}` | {meaning} |\n"));
        return;
    };
    for (key, schema) in properties {
        let (path, schema) = match schema.get("items") {
            Some(items) if schema.get("properties").is_none() && items.get("properties").is_some() => {
                (format!("{path}.{key}[]"), items)
            }
            _ => (format!("{path}.{key}"), schema),
        };
        render_keys(text, &path, schema);
    }
}
