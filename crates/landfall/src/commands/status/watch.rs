//! `landfall status --watch`: the status anew and anew, until the command is interrupted.

use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use landfall_core::status::AgentStatus;
use landfall_core::yaml_out::render_yaml;

use super::{StatusArgs, count_images, describe, describe_transfer, failed_phases, look};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_api::RemoteHost;
use crate::output::printer::stdout_screen;
use crate::output::structured::OutputFormat;

/// Interval between two looks at the status.
const INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(args: &StatusArgs, remote: Option<&RemoteHost>, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut told = String::new();
    let mut shown = String::new();
    loop {
        let (status, problem) = look(&args.state.state_dir, remote)?;
        let problem = problem.unwrap_or_default();
        let screen = match args.output.output {
            OutputFormat::Table => stdout_screen(),
            OutputFormat::Json | OutputFormat::Yaml => None,
        };
        match (screen, &status) {
            (Some(screen), status) => {
                let body = status.as_ref().map(|status| describe(status, Some(screen.columns)));
                let lines = [problem, body.unwrap_or_default()];
                let lines = lines
                    .iter()
                    .filter(|text| !text.is_empty())
                    .flat_map(|text| text.lines());
                context.printer.redraw(lines, &screen)?;
            }
            (None, status) => {
                if problem != told && !problem.is_empty() {
                    context.printer.problem(&problem);
                }
                told = problem;
                let text = match status {
                    Some(status) => render(status, args.output.output)?,
                    None => String::new(),
                };
                if text != shown && !text.is_empty() {
                    context.printer.data(&text)?;
                }
                shown = text;
            }
        }
        thread::sleep(INTERVAL);
    }
}

/// Renders a status for a reader that gets one after the other.
fn render(status: &AgentStatus, format: OutputFormat) -> anyhow::Result<String> {
    Ok(match format {
        OutputFormat::Table => one_line(status),
        OutputFormat::Json => serde_json::to_string(status).context("cannot write the status as JSON")?,
        OutputFormat::Yaml => format!("---\n{}", render_yaml(status)?),
    })
}

/// Renders a status as one line, without its time, so that equal lines are equal states.
fn one_line(status: &AgentStatus) -> String {
    let phase = match (status.running, failed_phases(status)) {
        (false, _) => "not running".to_owned(),
        (true, failed) if failed.is_empty() => status.phase.to_string(),
        (true, failed) => format!("{} ({failed} failed)", status.phase),
    };
    let transfer = describe_transfer(&status.transfer);
    let images = match count_images(status) {
        images if images.is_empty() => images,
        images => format!("images: {images}"),
    };
    let parts = [phase, images, transfer];
    let parts: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use landfall_core::status::{ImageStatus, Phase};

    use super::*;

    #[test]
    fn a_line_has_the_phase_the_images_and_the_transfer() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        assert_eq!(one_line(&status), "Validating");
        status.phase = Phase::Images;
        status.images = [
            ("a".to_owned(), ImageStatus::default()),
            (
                "b".to_owned(),
                ImageStatus {
                    stored: true,
                    ..ImageStatus::default()
                },
            ),
        ]
        .into();
        (status.transfer.bytes_done, status.transfer.bytes_total) = (1 << 20, 3 << 20);
        assert_eq!(one_line(&status), "Images; images: 1 of 2 stored; 1.00 MiB of 3.00 MiB");
        status.running = false;
        assert_eq!(
            one_line(&status),
            "not running; images: 1 of 2 stored; 1.00 MiB of 3.00 MiB"
        );
    }
}
