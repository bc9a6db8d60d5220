//! Log of the long-running commands: on stderr, above the progress bars.

use std::sync::Mutex;

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use crate::context::Context;
use crate::output::printer::Verbosity;
use crate::output::progress::{LogWriter, ProgressMode};

/// Environment variable with the filter, e.g. `debug` or `landfall_oci=trace,info`.
const FILTER_VARIABLE: &str = "LANDFALL_LOG";

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Text for people and journald.
    #[default]
    Text,
    /// A line of JSON for each event.
    Json,
}

/// Starts the log of a service on stderr. `--quiet` lets errors alone through. Beside progress as JSON the log is JSON too,
/// so that each line of stderr is an object: one with `type` is progress, one with `level` is of the log.
///
/// # Errors
/// As [`start`].
pub(crate) fn start_service(format: LogFormat, writer: LogWriter, context: &Context) -> anyhow::Result<()> {
    let default_filter = match context.printer.verbosity() {
        Verbosity::Quiet => "error",
        Verbosity::Normal | Verbosity::Verbose => "info",
    };
    let format = match context.progress {
        ProgressMode::Json => LogFormat::Json,
        ProgressMode::Auto | ProgressMode::Plain | ProgressMode::None => format,
    };
    start(format, writer, default_filter, context)
}

/// Starts logging to stderr. `LANDFALL_LOG` overrides `default_filter`.
///
/// # Errors
/// If the filter in the environment is invalid, or logging was started before.
pub(crate) fn start(
    format: LogFormat,
    writer: LogWriter,
    default_filter: &str,
    context: &Context,
) -> anyhow::Result<()> {
    let filter = match std::env::var(FILTER_VARIABLE) {
        Ok(filter) => filter
            .parse()
            .with_context(|| format!("`{FILTER_VARIABLE}` is not a log filter"))?,
        Err(_not_set) => EnvFilter::new(default_filter),
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(context.printer.colors_messages())
        .with_writer(Mutex::new(writer));
    let started = match format {
        LogFormat::Text => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow!("cannot start logging: {error}"))
}
