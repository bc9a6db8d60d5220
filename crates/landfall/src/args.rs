//! Arguments that several commands share. Each command flattens the ones that it needs.

use std::num::NonZeroU64;
use std::ops::Deref;

use camino::Utf8PathBuf;
use clap::{ArgAction, Args};
use landfall_core::hostconf::containerd_config::ContainerdRelease;
use landfall_core::oci_types::Platform;
use landfall_core::quantity::{ByteSize, Seconds};
use landfall_core::reference::RegistryHost;
use landfall_core::settings::TokenServer;
use landfall_oci::client::Timeouts;

use crate::output::printer::{ColorChoice, Verbosity, stdout_width};
use crate::output::progress::ProgressMode;
use crate::output::structured::{ListFormat, OutputFormat};
use crate::output::table::TableForm;
use crate::quantity;
use crate::registries::RegistryAccess;

/// Options of every command.
#[derive(Debug, Args)]
pub struct GlobalArgs {
    /// Progress display on stderr.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "MODE",
        default_value_t,
        help_heading = "Global options"
    )]
    pub progress: ProgressMode,
    /// Colours of text for people.
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        help_heading = "Global options"
    )]
    pub color: ColorChoice,
    /// Write more to stderr: reasons, and each blob.
    #[arg(
        short,
        long,
        global = true,
        conflicts_with = "quiet",
        help_heading = "Global options"
    )]
    pub verbose: bool,
    /// Write only errors to stderr.
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

impl GlobalArgs {
    /// Joins `--quiet` and `--verbose` into one value.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        }
    }
}

/// User-data, profiles and the values of their templates.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct InputArgs {
    /// User-data, a `#cloud-config` file; `-` is stdin [repeatable: later files are merged over earlier ones].
    #[arg(long = "user-data", value_name = "FILE")]
    pub user_data: Vec<Utf8PathBuf>,
    /// Cluster profile in JSON or YAML; `-` is stdin [repeatable: add-on profiles].
    #[arg(long = "profile", value_name = "FILE")]
    pub profiles: Vec<Utf8PathBuf>,
    #[command(flatten)]
    pub values: ValueArgs,
    /// Reproduce the limitations of another product, with a warning for each.
    #[arg(long, value_enum, value_name = "PRODUCT")]
    pub compat: Option<CompatWith>,
}

impl InputArgs {
    /// Returns the inputs, if any are named.
    pub(crate) fn if_named(&self) -> Option<&InputArgs> {
        let is_named = !self.user_data.is_empty() || !self.profiles.is_empty();
        is_named.then_some(self)
    }

    /// Returns the inputs as arguments of another command line, for a command that a message suggests.
    ///
    /// The values of `--set` are left out: they may be secrets, and output is kept in logs.
    pub(crate) fn arguments(&self) -> Vec<String> {
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

/// Inputs of a command that needs some.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("user_data", |arg| arg.required_unless_present("profiles")))]
pub struct RequiredInputArgs {
    #[command(flatten)]
    pub named: InputArgs,
}

impl Deref for RequiredInputArgs {
    type Target = InputArgs;

    fn deref(&self) -> &InputArgs {
        &self.named
    }
}

/// Bundles that the host is to have.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct HostBundleArgs {
    /// Bundle that the host is to have; of pieces, name any one [repeatable; default: none].
    ///
    /// Its images come before all other sources, as for an agent that finds it on its host. It is refused if the keys
    /// of the user-data refuse it.
    #[arg(long = "bundle", value_name = "FILE")]
    pub bundles: Vec<Utf8PathBuf>,
    /// Public key in PEM by which bundles must be signed [repeatable: any of them; default: those of the user-data].
    #[arg(long = "public-key", value_name = "FILE", requires = "bundles")]
    pub public_keys: Vec<Utf8PathBuf>,
}

/// Container runtime that reads the files.
#[derive(Debug, Clone, Args)]
pub struct RuntimeArgs {
    /// Release of containerd, of K3s' and RKE2's too [default: that of the host's program; if that is not known, the safe
    /// form for every release].
    #[arg(long, value_name = "VERSION", value_parser = parse_release)]
    pub containerd_version: Option<ContainerdRelease>,
}

fn parse_release(text: &str) -> Result<ContainerdRelease, &'static str> {
    ContainerdRelease::parse(text).ok_or("a release is `2.0` or `1.7.27`")
}

/// Values of the profiles' templates.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Inputs")]
pub struct ValueArgs {
    /// Set a template value, e.g. `macro.NAME=…`, `var.NAME=…`, `system.cluster.uid=…` [repeatable; default: none].
    ///
    /// Overrides the values file. Other users of this machine can read command lines: put secrets into the values file.
    #[arg(long = "set", value_name = "KEY=VALUE", action = ArgAction::Append)]
    pub set: Vec<String>,
    /// Template values: a YAML file with the maps `macro`, `var` and `system`.
    #[arg(long, value_name = "FILE")]
    pub values: Option<Utf8PathBuf>,
}

/// A product whose behaviour can be reproduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum CompatWith {
    /// Palette Edge.
    Palette,
}

/// Logins, trust and time limits for registries.
#[derive(Debug, Clone, Args)]
pub struct AccessArgs {
    /// File with logins, in docker's form or Palette's (`{"image": [...]}`).
    ///
    /// It overrides the logins of docker and podman on this machine. Logins of the user-data and the profiles override it.
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<Utf8PathBuf>,
    /// Accept any certificate of this registry, and plain HTTP if it speaks no TLS [repeatable; default: none].
    #[arg(long, value_name = "HOST[:PORT]")]
    pub insecure: Vec<RegistryHost>,
    /// Send the login of a registry to this token server outside of the registry's domain [repeatable; default: none].
    #[arg(long = "token-server", value_name = "REGISTRY=SERVER")]
    pub token_servers: Vec<TokenServer>,
    /// Cut a transfer slower than this many bytes/s, in either direction; 0: only when nothing moves.
    ///
    /// The transfer resumes over a new connection.
    #[arg(long, value_name = "SIZE", default_value_t = ByteSize::new(Timeouts::default().min_throughput))]
    pub stall_below: ByteSize,
    /// Time for which a transfer must be that slow before it is cut.
    #[arg(long, value_name = "TIME", default_value_t = Seconds::new(Timeouts::default().stall.as_secs()),
          value_parser = quantity::seconds_in(1, 3600))]
    pub stall_after: Seconds,
}

impl AccessArgs {
    pub(crate) fn resolve(&self) -> RegistryAccess {
        RegistryAccess {
            credentials: self.credentials.clone(),
            insecure: self.insecure.clone(),
            token_servers: self.token_servers.clone(),
            timeouts: Timeouts {
                stall: self.stall_after.duration(),
                min_throughput: self.stall_below.bytes(),
                ..Timeouts::default()
            },
        }
    }
}

/// Options of `copy` and `push`.
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// Report the blobs that would be copied, mounted or skipped, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Blobs in flight at once; of blobs up to 128 KiB, four times as many, unless this is 1.
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = quantity::positive_count)]
    pub concurrency: usize,
    /// Copy only this platform, e.g. `linux/arm64` [repeatable; default: all].
    ///
    /// The index is copied unchanged, so that digests and signatures stay valid. A registry that takes an index only
    /// with all of its platforms refuses it; the report then names a command that such a registry accepts.
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub platforms: Vec<Platform>,
    /// Look at every blob of the destination, also where it says that it holds the image.
    ///
    /// A run usually asks for the manifest alone, because a registry takes it only with all of its content. This repairs
    /// an image of which a registry lost content.
    #[arg(long)]
    pub force: bool,
    /// Copy the images' referrers too: signatures, attestations, bills of materials.
    #[arg(long)]
    pub referrers: bool,
    /// Limit reading from all sources together to this many bytes/s, e.g. `2MB` [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = quantity::positive_size)]
    pub bandwidth: Option<NonZeroU64>,
    /// Directory for the journal of unfinished uploads [default: `$XDG_STATE_HOME/landfall`, else
    /// `~/.local/state/landfall`].
    ///
    /// After a run was killed, the next run resumes its uploads.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub access: AccessArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// `-o`, for every command that reports.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Format of the result on stdout.
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

/// `-o` and the form of the table, for every command that lists things with names.
#[derive(Debug, Clone, Copy, Args)]
pub struct ListOutputArgs {
    /// Format of the result on stdout.
    #[arg(short = 'o', long = "output", value_enum, value_name = "FORMAT", default_value_t)]
    pub output: ListFormat,
    /// Write each row of the table on one line, and shorten nothing, also on a terminal.
    #[arg(long)]
    pub wide: bool,
    /// Leave out the headings of the table.
    #[arg(long)]
    pub no_headers: bool,
}

impl ListOutputArgs {
    pub(crate) fn table_form(&self) -> TableForm {
        TableForm {
            width: if self.wide { None } else { stdout_width() },
            has_headings: !self.no_headers,
        }
    }
}

/// State directory of the agent on this host.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// State directory of the agent.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/landfall")]
    pub state_dir: Utf8PathBuf,
}

/// Directory of an embedded registry.
#[derive(Debug, Args)]
pub struct RegistryRootArgs {
    /// Directory of the registry: the `--root` of `landfall registry serve`, or the state directory of an agent.
    #[arg(long, value_name = "DIR")]
    pub root: Utf8PathBuf,
}
