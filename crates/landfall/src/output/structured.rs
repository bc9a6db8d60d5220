//! Reports in the formats of `-o`: table, JSON, YAML.

use anyhow::Context;
use clap::ValueEnum;
use landfall_core::yaml_out::render_yaml;
use serde::Serialize;

use crate::output::printer::Printer;

/// Format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OutputFormat {
    /// Text for people, which may change between versions.
    #[default]
    Table,
    /// JSON with a documented, versioned schema.
    Json,
    /// YAML with the schema of the JSON.
    Yaml,
}

/// Writes a report in the format that the user asked for; `table` renders the text for people.
///
/// # Errors
/// If stdout cannot be written.
pub fn print_report<T: Serialize>(
    printer: &Printer,
    format: OutputFormat,
    report: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    match format {
        OutputFormat::Table => printer.data(&table(report)),
        OutputFormat::Json => {
            printer.data(&serde_json::to_string_pretty(report).context("cannot write the report as JSON")?)
        }
        OutputFormat::Yaml => printer.data(&render_yaml(report)?),
    }
}
