//! `landfall schema`: prints the JSON Schema of an input or a report.

use anyhow::Context as _;
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::context::Context;
use crate::exit::ExitStatus;
use crate::schemas;

/// Print the JSON Schema of an input or a report.
///
/// With the schema of the user-data, an editor completes and checks the file while it is written. The other schemas
/// describe the output of `-o json` and `-o yaml`.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall schema user-data > user-data.schema.json")]
pub struct SchemaArgs {
    /// Input or report.
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(schemas::NAMES))]
    pub name: String,
}

pub(crate) fn run(args: &SchemaArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let schema = schemas::find(&args.name).with_context(|| format!("there is no schema `{}`", args.name))?;
    let text = serde_json::to_string_pretty(&schema).context("cannot write the schema as JSON")?;
    context.printer.data(&text)?;
    Ok(ExitStatus::Done)
}
