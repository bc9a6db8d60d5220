//! `landfall reload`: asks the agent on this host to read its files again.

use clap::Args;
use landfall_agent::reload;
use landfall_core::quantity::Seconds;
use landfall_core::report::ReloadReport;

use crate::args::{OutputArgs, StateArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::structured::print_report;
use crate::quantity;
use crate::runtime;

/// Make the agent on this host read its files again.
///
/// Sends SIGHUP to the agent, waits until it has read its files, and says which configuration is active. The agent makes
/// a pass then, or after the pass under way. It also reads files that change by itself, within seconds. The exit status
/// is 1 if the files have errors; the last valid configuration stays active then.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall validate --user-data /oem/90_custom.yaml && landfall reload")]
pub struct ReloadArgs {
    #[command(flatten)]
    pub state: StateArgs,
    /// Time to wait for the agent.
    #[arg(long, value_name = "TIME", default_value_t = Seconds::new(60), value_parser = quantity::seconds_in(1, 86400))]
    pub timeout: Seconds,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &ReloadArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let work = reload(&args.state.state_dir, args.timeout.duration());
    let report = runtime::current_thread()?.block_on(work)?;
    print_report(&context.printer, args.output.output, &report, render)?;
    Ok(match report.error {
        None => ExitStatus::Done,
        Some(_) => ExitStatus::AnswerIsNo,
    })
}

fn render(report: &ReloadReport) -> String {
    let active = match (report.generation, &report.configuration) {
        (Some(number), Some(hash)) => format!("configuration {number} ({})", hash.get(..12).unwrap_or(hash)),
        _ => "no configuration".to_owned(),
    };
    match (&report.error, report.changed) {
        (Some(error), _) => format!("{active} stays active, because the files have errors: {error}"),
        (None, true) => format!("{active} is active now"),
        (None, false) => format!("{active} is active, as before: the files did not change"),
    }
}
