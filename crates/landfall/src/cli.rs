//! What the user can say: the command line as types. `docs/reference/cli.md` is generated from it.

use clap::{Args, Parser, Subcommand};

use crate::commands::{events, status};
use crate::output::printer::Verbosity;
use crate::output::progress::ProgressMode;

/// Decides where every container image of an edge Kubernetes cluster comes from, and gets it there.
///
/// Landfall reads the user-data and the cluster profiles that an edge site has already. At a desk it says what is wrong
/// with them and where each image would come from; on the host its agent fetches the images, fills the primary registry
/// and makes the cluster pull from there.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, propagate_version = true, max_term_width = 100, after_long_help = EXIT_STATUS)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status: 0 done; 1 the answer is no (an input has errors, the agent is degraded); 2 it could not be done.

Environment: NO_COLOR turns colours off; LANDFALL_LOG sets what the agent logs, e.g. `debug` or `landfall_oci=trace`.";

/// What holds for every command.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// How progress is shown on stderr.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "MODE",
        default_value_t,
        help_heading = "Global options"
    )]
    pub progress: ProgressMode,
    /// Say more on stderr.
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "quiet",
        help_heading = "Global options"
    )]
    pub verbose: bool,
    /// Say nothing on stderr but errors.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

impl GlobalArgs {
    /// `--quiet` and `--verbose` as one value.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what the agent on this host is doing.
    Status(status::StatusArgs),
    /// Show what happened on this host.
    Events(events::EventsArgs),
}
