//! What the user can say: the command line as types. `docs/reference/cli.md` is generated from it.

use camino::Utf8PathBuf;
use clap::{ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    agent, check, copy, demo, events, explain, images, login, plan, profile, push, redirect, registry, schema, stages,
    status, validate, webhook,
};
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
#[expect(
    missing_docs,
    reason = "a line of help here would hide what the arguments' types say"
)]
pub enum Command {
    Demo(demo::DemoArgs),
    Validate(validate::ValidateArgs),
    Plan(plan::PlanArgs),
    Images(images::ImagesArgs),
    Explain(explain::ExplainArgs),
    Check(check::CheckArgs),
    Push(push::PushArgs),
    Copy(copy::CopyArgs),
    Schema(schema::SchemaArgs),
    Profile(profile::ProfileArgs),
    Agent(agent::AgentArgs),
    Stages(stages::StagesArgs),
    Status(status::StatusArgs),
    Events(events::EventsArgs),
    Redirect(redirect::RedirectArgs),
    Registry(registry::RegistryArgs),
    Webhook(webhook::WebhookArgs),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
}

/// The inputs: user-data, profiles and what fills their templates.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct InputArgs {
    /// A `#cloud-config` file; give it again for site data on top. `-` is stdin.
    #[arg(long = "user-data", value_name = "FILE", required_unless_present = "profiles")]
    pub user_data: Vec<Utf8PathBuf>,
    /// A cluster profile in JSON or YAML; give it again for add-on profiles. `-` is stdin.
    #[arg(long = "profile", value_name = "FILE")]
    pub profiles: Vec<Utf8PathBuf>,
    /// What fills the profiles' templates.
    #[command(flatten)]
    pub values: ValueArgs,
    /// Reproduce another product's limitations, with a warning for each.
    #[arg(long, value_enum, value_name = "PRODUCT")]
    pub compat: Option<CompatWith>,
}

impl InputArgs {
    /// The same inputs as words of another command line. Values of `--set` are not repeated: they may be secrets, and
    /// what we print is kept in logs.
    pub(crate) fn repeated(&self) -> Vec<String> {
        let files = |option: &str, files: &[Utf8PathBuf]| {
            let words = files.iter().flat_map(|file| [option.to_owned(), file.to_string()]);
            words.collect::<Vec<_>>()
        };
        let mut words = files("--user-data", &self.user_data);
        words.extend(files("--profile", &self.profiles));
        words.extend(files("--values", self.values.values.as_slice()));
        for set in &self.values.set {
            let key = set.split('=').next().unwrap_or_default();
            words.extend(["--set".to_owned(), format!("{key}=…")]);
        }
        if self.compat == Some(CompatWith::Palette) {
            words.extend(["--compat".to_owned(), "palette".to_owned()]);
        }
        words
    }
}

/// Words as a shell takes them.
pub(crate) fn command_line(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+…".contains(c);
    let quoted = words.iter().map(|word| match word.chars().all(is_plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// What fills the profiles' templates.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct ValueArgs {
    /// Fills a template, e.g. `macro.NAME=…`, `var.NAME=…`, `system.cluster.uid=…`. Beats the values file. Others on
    /// this machine can read command lines: put secrets into the values file.
    #[arg(long = "set", value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// A YAML file with the maps `macro`, `var` and `system`.
    #[arg(long, value_name = "FILE")]
    pub values: Option<Utf8PathBuf>,
}

/// A product whose behaviour can be reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CompatWith {
    /// Palette Edge.
    Palette,
}
