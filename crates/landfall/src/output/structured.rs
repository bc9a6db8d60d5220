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

/// Format of a report about things that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ListFormat {
    /// Text for people, which may change between versions.
    #[default]
    Table,
    /// JSON with a documented, versioned schema.
    Json,
    /// YAML with the schema of the JSON.
    Yaml,
    /// Names alone, one a line.
    Name,
}

/// Writes a report as [`print_report`] does; `names` returns the names for `-o name`.
///
/// # Errors
/// If stdout cannot be written.
pub fn print_list<T: Serialize>(
    printer: &Printer,
    format: ListFormat,
    report: &T,
    names: impl FnOnce(&T) -> Vec<String>,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let format = match format {
        ListFormat::Table => OutputFormat::Table,
        ListFormat::Json => OutputFormat::Json,
        ListFormat::Yaml => OutputFormat::Yaml,
        ListFormat::Name => {
            let lines: String = names(report).into_iter().map(|name| name + "\n").collect();
            return printer.exact_data(&lines);
        }
    };
    print_report(printer, format, report, table)
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
