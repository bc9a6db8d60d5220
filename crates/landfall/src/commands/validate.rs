//! `landfall validate`: what is wrong with the inputs.

use clap::Args;
use landfall_core::diagnostic::{Diagnostics, Severity, render_text};
use landfall_core::report::API_VERSION;
use serde::Serialize;

use crate::Context;
use crate::cli::InputArgs;
use crate::exit::ExitStatus;
use crate::inputs::load_settings;
use crate::output::printer::stdout_may_be_coloured;
use crate::output::structured::{OutputArgs, print_report};

/// Check user-data and profiles.
///
/// Every finding has a stable code, the place in the file and a hint; all findings are reported at once. Exit status 1
/// means that at least one is an error. docs/reference/diagnostics.md lists all codes.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall validate --user-data user-data.yaml --profile profile.yaml")]
pub struct ValidateArgs {
    /// What is checked.
    #[command(flatten)]
    pub inputs: InputArgs,
    /// How the findings are written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// The findings as JSON and YAML.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ValidateReport<'a> {
    api_version: &'static str,
    kind: &'static str,
    errors: usize,
    warnings: usize,
    diagnostics: &'a Diagnostics,
}

pub(crate) fn run(args: &ValidateArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let checked = load_settings(&args.inputs)?;
    let report = ValidateReport {
        api_version: API_VERSION,
        kind: "Validation",
        errors: checked.diagnostics.count(Severity::Error),
        warnings: checked.diagnostics.count(Severity::Warning),
        diagnostics: &checked.diagnostics,
    };
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

fn summary(report: &ValidateReport<'_>) -> String {
    match (report.errors, report.warnings) {
        (0, 0) => "no findings".to_owned(),
        (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    }
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
