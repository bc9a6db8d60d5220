//! Arguments that several commands share. Each command flattens the ones that it needs.

use std::num::NonZeroU64;
use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{ArgAction, Args};
use landfall_core::config::TokenServer;
use landfall_core::oci_types::Platform;
use landfall_core::reference::RegistryHost;
use landfall_oci::client::Timeouts;

use crate::output::printer::Verbosity;
use crate::output::progress::ProgressMode;
use crate::output::structured::OutputFormat;
use crate::registries::Access;

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

/// How registries are reached.
#[derive(Debug, Clone, Default, Args)]
pub struct AccessArgs {
    /// A file with logins, in docker's form or Palette's (`{"image": [...]}`). It is asked before those of docker and
    /// podman; what the user-data and the profiles say counts more.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// A registry whose certificate is not verified, and that may speak plain HTTP; give it again for more.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure: Vec<RegistryHost>,
    /// A token server outside of a registry's own domain that may see the login of that registry; give it again for more.
    #[arg(long = "token-server", value_name = "REGISTRY=SERVER")]
    pub token_servers: Vec<TokenServer>,
    /// A transfer slower than this has stalled: it is cut, and goes on over a new connection. In bytes a second, either
    /// way; 256 without. 0 is a transfer that does not move at all.
    #[arg(long, value_name = "BYTES")]
    pub stall_below: Option<u64>,
    /// For how many seconds it has to be that slow; 30 without.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub stall_after: Option<u64>,
}

impl AccessArgs {
    /// Resolves the defaults.
    pub(crate) fn resolve(&self) -> Access {
        let usual = Timeouts::default();
        Access {
            credentials: self.credentials.clone(),
            insecure: self.insecure.clone(),
            token_servers: self.token_servers.clone(),
            timeouts: Timeouts {
                stall: self.stall_after.map_or(usual.stall, Duration::from_secs),
                slowest: self.stall_below.unwrap_or(usual.slowest),
                ..usual
            },
        }
    }
}

/// How images are moved.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// Say what would move, be mounted or stay, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How many blobs are under way at once; of those below 128 KiB, four times as many, but with 1 all go one by one.
    #[arg(long, value_name = "NUMBER", default_value_t = 8)]
    pub concurrency: usize,
    /// A platform that is copied, e.g. `linux/arm64`; give it again for more. All of them without. The index stays as it
    /// is, so that digests and signatures stay valid; a registry that takes it only whole says so.
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub platforms: Vec<Platform>,
    /// Copy what belongs to the images as well: signatures, attestations, bills of materials.
    #[arg(long)]
    pub referrers: bool,
    /// The most that is read from all sources together, in bytes a second.
    #[arg(long, value_name = "BYTES")]
    pub bandwidth: Option<NonZeroU64>,
    /// Where uploads under way are remembered, so that a run that was killed is followed by one that goes on where it
    /// stopped. `$XDG_STATE_HOME/landfall` or `~/.local/state/landfall` without.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    /// How registries are reached.
    #[command(flatten)]
    pub access: AccessArgs,
    /// How the result is written.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `-o`, for every command that reports.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// How the result is written to stdout.
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

/// Where the agent keeps its state.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// The agent's state directory.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/landfall")]
    pub state_dir: Utf8PathBuf,
}

/// Which registry.
#[derive(Debug, Args)]
pub struct RegistryRootArgs {
    /// Where the images are kept: what `serve` was given, or the state directory of an agent.
    #[arg(long, value_name = "DIR")]
    pub root: Utf8PathBuf,
}
