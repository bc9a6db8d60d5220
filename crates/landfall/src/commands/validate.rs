//! `landfall validate`: reports all findings about the inputs.

use clap::Args;
use landfall_core::diagnostic::render_text;
use landfall_core::report::{ValidationReport, validation_report};
use landfall_core::wording::counted;

use crate::args::{HostBundleArgs, OutputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_bundles::load_settings_with_bundles;
use crate::output::printer::stdout_may_be_coloured;
use crate::output::structured::print_report;

/// Check user-data and profiles.
///
/// Reports all findings at once, each with a stable code, its file and line, and a hint. The exit status is 1 if a
/// finding is an error. docs/reference/diagnostics.md lists all codes.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall validate --user-data user-data.yaml --profile profile.yaml")]
pub struct ValidateArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    #[command(flatten)]
    pub bundles: HostBundleArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &ValidateArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let (checked, _) = load_settings_with_bundles(&args.inputs, &args.bundles, context)?;
    let report = validation_report(&checked.diagnostics);
    print_report(&context.printer, args.output.output, &report, |report| {
        let mut text = render_text(report.diagnostics, stdout_may_be_coloured());
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&summary(report));
        text
    })?;
    Ok(checked.status())
}

fn summary(report: &ValidationReport<'_>) -> String {
    let notes = match report
        .diagnostics
        .iter()
        .count()
        .saturating_sub(report.errors + report.warnings)
    {
        0 => None,
        notes => Some(counted(notes, "note")),
    };
    match (report.errors, report.warnings, notes) {
        (0, 0, None) => "no findings".to_owned(),
        (0, 0, Some(notes)) => format!("no errors, {notes}"),
        (errors, warnings, notes) => {
            let counts = [
                Some(counted(errors, "error")),
                Some(counted(warnings, "warning")),
                notes,
            ];
            counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}
