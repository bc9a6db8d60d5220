//! `landfall version`: says which build this is.

use clap::Args;
use landfall_core::report::VersionReport;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::structured::print_report;

/// Print the version of the program.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall version -o json")]
pub struct VersionArgs {
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &VersionArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let platform = landfall_host::facts::own_platform().to_string();
    let report = VersionReport::new(env!("CARGO_PKG_VERSION"), option_env!("LANDFALL_COMMIT"), platform);
    print_report(&context.printer, args.output.output, &report, |report| {
        format!("landfall {} ({})", report.version, report.platform)
    })?;
    Ok(ExitStatus::Done)
}
