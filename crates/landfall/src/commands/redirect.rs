//! `landfall redirect`: writes the rules as configuration of kubelet, container runtime, distribution or API server.

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand, ValueEnum};
use landfall_core::failure::{Explanation, line_with_hint};
use landfall_core::hostconf::{HostFacts, Rendering, render_for};
use landfall_core::settings::{Dialect, Settings};
use landfall_host::managed::{ManagedChanges, ManagedFiles};
use landfall_host::node_facts::find_host_facts;
use landfall_host::root::HostRoot;

use crate::args::{RequiredInputArgs, RuntimeArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::load_settings;
use crate::runtime;

/// Replacement for a password that is shown.
const MASK: &str = "****";

/// Write the redirection rules for kubelet, container runtime or API server.
#[derive(Debug, Args)]
pub struct RedirectArgs {
    #[command(subcommand)]
    pub command: RedirectCommand,
}

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum RedirectCommand {
    Render(RenderArgs),
    Apply(ApplyArgs),
    #[command(name = "rm", visible_alias = "remove")]
    Remove(RedirectRemoveArgs),
}

/// Show the files, and the rules that their format cannot express.
///
/// The files hold the rules that the webhook applies. Passwords are shown as `****`. Rules that the format cannot
/// express are listed on stderr.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall redirect render --for containerd --user-data user-data.yaml")]
pub struct RenderArgs {
    /// Program that reads the rules.
    #[arg(long = "for", value_enum, value_name = "FORMAT")]
    pub dialect: RedirectFor,
    /// Show passwords instead of `****`.
    #[arg(long)]
    pub show_secrets: bool,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
}

/// Write the files on this host.
///
/// Files that Landfall did not write are kept and reported. Files of an earlier run that are no longer needed are
/// removed. The agent does the same if `landfall.mirror.files` asks for it.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall redirect apply --for k3s --user-data /oem/90_custom.yaml")]
pub struct ApplyArgs {
    /// Program that reads the rules.
    #[arg(long = "for", value_enum, value_name = "FORMAT")]
    pub dialect: RedirectFor,
    #[command(flatten)]
    pub host: HostArgs,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
}

/// Remove the files that Landfall wrote on this host.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall redirect rm --for containerd")]
pub struct RedirectRemoveArgs {
    /// Program that reads the rules.
    #[arg(long = "for", value_enum, value_name = "FORMAT")]
    pub dialect: RedirectFor,
    #[command(flatten)]
    pub host: HostArgs,
}

/// Host whose files are written.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Report the changes, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Root of the host's file system.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: Utf8PathBuf,
    /// Directory with the list of Landfall's files, below the root; overrides `landfall.stateDir` of the user-data.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
}

/// Program that reads the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RedirectFor {
    /// containerd: `hosts.toml` files and a drop-in.
    Containerd,
    /// K3s: `registries.yaml`.
    K3s,
    /// RKE2: `registries.yaml`.
    Rke2,
    /// kubeadm: settings for the cluster's configuration.
    Kubeadm,
    /// The kubelet: login files and `CredentialProviderConfig`.
    Kubelet,
    /// The API server: a MutatingAdmissionPolicy in place of the webhook.
    MutatingAdmissionPolicy,
}

impl RedirectFor {
    fn dialect(self) -> Dialect {
        match self {
            RedirectFor::Containerd => Dialect::Containerd,
            RedirectFor::K3s => Dialect::K3s,
            RedirectFor::Rke2 => Dialect::Rke2,
            RedirectFor::Kubeadm => Dialect::Kubeadm,
            RedirectFor::Kubelet => Dialect::Kubelet,
            RedirectFor::MutatingAdmissionPolicy => Dialect::MutatingAdmissionPolicy,
        }
    }
}

pub(crate) fn run(args: &RedirectArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    match &args.command {
        RedirectCommand::Render(args) => show(args, context),
        RedirectCommand::Apply(args) => apply(args, context),
        RedirectCommand::Remove(args) => remove(args, context),
    }
}

fn show(args: &RenderArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let checked = load_settings(&args.inputs)?;
    checked.print_findings(context);
    let settings = checked.complete_settings()?;
    let facts = HostFacts::of_release(args.runtime.containerd_version);
    let rendering = match args.show_secrets {
        true => render_for(settings, args.dialect.dialect(), &facts),
        false => render_for(&masked(settings), args.dialect.dialect(), &facts),
    };
    context.printer.data(&render_shown(&rendering))?;
    print_gaps(&rendering, context);
    Ok(checked.status())
}

fn apply(args: &ApplyArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let checked = load_settings(&args.inputs)?;
    checked.print_findings(context);
    let settings = checked.complete_settings()?;
    if checked.diagnostics.has_errors() {
        return Ok(ExitStatus::AnswerIsNo);
    }
    let root = HostRoot::new(args.host.root.clone());
    let release = args.runtime.containerd_version;
    let main_file = &settings.landfall.containerd_config;
    let facts = runtime::current_thread()?.block_on(find_host_facts(&root, main_file, release));
    let rendering = render_for(settings, args.dialect.dialect(), &facts);
    let has_own_files = !matches!(
        args.dialect,
        RedirectFor::Kubeadm | RedirectFor::MutatingAdmissionPolicy
    );
    if !has_own_files {
        let name = args.dialect.dialect().name();
        bail!(Explanation::new(
            format!("there is no file of its own for {name}"),
            format!("`landfall redirect render --for {name}` shows what belongs into the cluster's configuration"),
        ));
    }
    print_gaps(&rendering, context);
    // The fragments of the other formats do not depend on the host: `render` shows them.
    let of_host = (args.dialect == RedirectFor::Containerd).then_some(&rendering.fragments);
    for lines in of_host.into_iter().flatten() {
        context
            .printer
            .note(format_args!("for {}:\n{}", lines.place, lines.text.trim_end()));
    }
    let managed = managed_files(&args.host, &settings.landfall.state_dir)?;
    let group = args.dialect.dialect().name();
    let changes = match args.host.dry_run {
        true => managed.preview(group, &rendering.files),
        false => managed.apply(group, &rendering.files),
    };
    report_changes(&changes.context("cannot write the files")?, args.host.dry_run, context)
}

fn remove(args: &RedirectRemoveArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let managed = managed_files(&args.host, &Settings::default().landfall.state_dir)?;
    let group = args.dialect.dialect().name();
    let changes = match args.host.dry_run {
        true => managed.preview(group, &[]),
        false => managed.apply(group, &[]),
    };
    report_changes(&changes.context("cannot remove the files")?, args.host.dry_run, context)
}

fn managed_files(host: &HostArgs, configured: &Utf8Path) -> anyhow::Result<ManagedFiles> {
    let root = HostRoot::new(host.root.clone());
    let state_dir = root.join(host.state_dir.as_deref().unwrap_or(configured))?;
    Ok(ManagedFiles::new(root, &state_dir))
}

/// Prints one line per file. A file that Landfall did not write, in the place of one of its own, makes the answer a no.
fn report_changes(changes: &ManagedChanges, dry_run: bool, context: &Context) -> anyhow::Result<ExitStatus> {
    let mut text = String::new();
    for (verb, paths) in [
        ("write", &changes.written),
        ("remove", &changes.removed),
        ("keep", &changes.kept),
    ] {
        for path in paths {
            text.push_str(&format!("{verb} {path}\n"));
        }
    }
    context.printer.exact_data(&text)?;
    if changes.is_empty() && changes.kept.is_empty() {
        context.printer.note("everything is up to date");
    } else if dry_run {
        context.printer.note("nothing was done: `--dry-run`");
    }
    for path in &changes.kept {
        context.printer.problem(line_with_hint(
            format_args!("`{path}` is not Landfall's and stays as it is"),
            Some("remove it, and Landfall writes its own"),
        ));
    }
    Ok(match changes.kept.is_empty() {
        true => ExitStatus::Done,
        false => ExitStatus::AnswerIsNo,
    })
}

fn render_shown(rendering: &Rendering) -> String {
    let files = rendering
        .files
        .iter()
        .map(|file| format!("# ==> {} (mode {:04o})\n{}", file.path, file.mode, *file.content));
    let fragments = rendering
        .fragments
        .iter()
        .map(|part| format!("# ==> for {}\n{}", part.place, part.text));
    files.chain(fragments).collect::<Vec<_>>().join("\n")
}

fn print_gaps(rendering: &Rendering, context: &Context) {
    for gap in &rendering.gaps {
        context
            .printer
            .note(format_args!("not expressed by these files: {gap}"));
    }
}

fn masked(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    for login in settings
        .registries
        .iter_mut()
        .filter_map(|registry| registry.login.as_mut())
    {
        login.password = MASK.into();
    }
    settings
}
