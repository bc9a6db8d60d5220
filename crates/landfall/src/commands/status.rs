//! `landfall status`: shows the status that the agent keeps in its state directory.

use anyhow::Context as _;
use clap::Args;
use landfall_core::status::{AgentStatus, ImageStatus, Phase};

use crate::args::{OutputArgs, StateArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::printer::stdout_width;
use crate::output::structured::print_report;
use crate::output::table::Table;

/// Show what the agent on this host is doing.
///
/// Reads the state directory, so that it also shows the last status of an agent that no longer runs. The exit status is
/// 1 if the agent is degraded, does not run, or never ran here.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall status -o json | jq .phase")]
pub struct StatusArgs {
    #[command(flatten)]
    pub state: StateArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &StatusArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let directory = &args.state.state_dir;
    let read = landfall_agent::status::read_status(directory).context("cannot read the agent's status")?;
    let Some(status) = read else {
        context
            .printer
            .problem(format_args!("no agent ever ran with the state directory `{directory}`"));
        return Ok(ExitStatus::AnswerIsNo);
    };
    print_report(&context.printer, args.output.output, &status, |status| {
        describe(status, stdout_width())
    })?;
    Ok(if status.running && status.phase != Phase::Degraded {
        ExitStatus::Done
    } else {
        ExitStatus::AnswerIsNo
    })
}

/// Renders the status for people.
pub(crate) fn describe(status: &AgentStatus, width: Option<usize>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<14}{value}\n"));
        }
    };
    if !status.running {
        line("Agent", &format!("not running; last status, at {}:", status.updated));
    }
    match status.failed_phase {
        Some(failed) => line("Phase", &format!("{} ({failed} failed)", status.phase)),
        None => line("Phase", status.phase.name()),
    }
    line("Since", &status.since.to_string());
    line("Because", status.message.as_deref().unwrap_or_default());
    line("Inputs", status.configuration_error.as_deref().unwrap_or_default());
    line("Redirection", &status.redirect);
    for (name, serving) in [("Webhook", &status.webhook), ("Primary", &status.primary)] {
        line(name, serving.as_ref().map_or("", |serving| serving.url.as_str()));
    }
    let mirror_files = status.mirror_files.as_ref();
    line("Mirror files", mirror_files.map_or("", |files| files.message.as_str()));
    let logins = status.kubelet_logins.as_ref();
    line("Logins", logins.map_or("", |logins| logins.message.as_str()));
    line("Reboot", status.host.reboot_required.as_deref().unwrap_or_default());
    line("Repave", status.host.repave_required.as_deref().unwrap_or_default());
    if !status.images.is_empty() {
        text.push('\n');
        text.push_str(&image_table(status).render(width));
    }
    text
}

fn image_table(status: &AgentStatus) -> Table {
    let mut table = Table::new(&["IMAGE", "STATE", "FROM", "ERROR"]);
    for (name, image) in &status.images {
        let from = image.pull_reference.clone().unwrap_or_default();
        table.row([
            name.clone(),
            image_state(image),
            from,
            image.error.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn image_state(image: &ImageStatus) -> String {
    let reached = [
        (image.stored, "stored"),
        (image.loaded, "loaded"),
        (image.in_primary, "in primary"),
    ];
    let words: Vec<&str> = reached
        .iter()
        .filter(|(reached, _)| *reached)
        .map(|(_, word)| *word)
        .collect();
    if words.is_empty() {
        "missing".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn status_of_an_agent_that_is_gone_says_so_first() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        status.phase = Phase::Running;
        status.running = false;
        insta::assert_snapshot!(describe(&status, None), @r"
        Agent         not running; last status, at 1970-01-01T00:00:00Z:
        Phase         Running
        Since         1970-01-01T00:00:00Z
        ");
    }

    #[test]
    fn a_degraded_agent_says_which_phase_failed_and_which_image_is_missing() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        status.phase = Phase::Degraded;
        status.failed_phase = Some(Phase::Images);
        status.message = Some("1 of 2 images cannot be fetched".to_owned());
        let stored = ImageStatus {
            stored: true,
            in_primary: true,
            ..ImageStatus::default()
        };
        let failed = ImageStatus {
            error: Some("not found".to_owned()),
            ..ImageStatus::default()
        };
        status.images = [
            ("docker.io/a/a:1".to_owned(), stored),
            ("docker.io/b/b:1".to_owned(), failed),
        ]
        .into();
        insta::assert_snapshot!(describe(&status, None), @r"
        Phase         Degraded (Images failed)
        Since         1970-01-01T00:00:00Z
        Because       1 of 2 images cannot be fetched

        IMAGE            STATE               FROM  ERROR
        docker.io/a/a:1  stored, in primary
        docker.io/b/b:1  missing                   not found
        ");
    }
}
