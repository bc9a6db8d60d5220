//! `landfall profile fix`: writes the correction that `landfall validate` names.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use landfall_core::config::fix_profile;
use landfall_host::files::write_atomic;
use landfall_net::output_path::{OutputPath, look_at_file};

use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::{CheckedInputs, load_text};

/// Fix a profile.
#[derive(Debug, Args)]
pub struct ProfileArgs {
    #[command(subcommand)]
    pub command: ProfileCommand,
}

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    Fix(FixArgs),
}

/// Remove `AlwaysPullImages` from the Kubernetes layer.
///
/// With this admission plug-in, every start of a pod asks a registry, which fails on an edge site without network.
/// Every other byte of the file stays unchanged. Without `--write` the corrected profile goes to stdout.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall profile fix profile.yaml --write")]
pub struct FixArgs {
    /// Profile in JSON or YAML; `-` is stdin.
    #[arg(value_name = "FILE")]
    pub file: Utf8PathBuf,
    /// Replace the file [default: write to stdout].
    #[arg(short, long)]
    pub write: bool,
}

pub(crate) fn run(args: &ProfileArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let ProfileCommand::Fix(args) = &args.command;
    if args.write && args.file.as_str() == "-" {
        bail!("stdin (`-`) cannot be written: omit `--write` and redirect stdout");
    }
    let profile = load_text(&args.file)?;
    let fixed = match fix_profile(&profile) {
        Ok(fixed) => fixed,
        Err(diagnostics) => {
            let unreadable = CheckedInputs {
                settings: None,
                diagnostics,
            };
            unreadable.print_findings(context);
            return Ok(unreadable.status());
        }
    };
    match (&fixed, args.write) {
        (None, _) => context.printer.note(format_args!("`{}`: nothing to fix", profile.name)),
        (Some(text), true) => {
            replace_file(&args.file, text)?;
            context
                .printer
                .note(format_args!("`{}`: took `AlwaysPullImages` out", profile.name));
        }
        (Some(_), false) => {}
    }
    if !args.write {
        context.printer.exact_data(fixed.as_deref().unwrap_or(&profile.text))?;
    }
    Ok(ExitStatus::Done)
}

/// Replaces the user's file as a whole. A symbolic link stays, and its target keeps its mode.
fn replace_file(path: &Utf8Path, text: &str) -> anyhow::Result<()> {
    let target = match look_at_file(path).with_context(|| format!("cannot replace `{path}`"))? {
        OutputPath::File(target) => target,
        OutputPath::Stream(_) | OutputPath::Stdout => {
            bail!("`{path}` is a device or a pipe, which is never replaced: omit `--write` and redirect stdout")
        }
    };
    let mode = fs_err::metadata(&target)?.permissions().mode() & 0o7777;
    write_atomic(&target, mode, text.as_bytes()).with_context(|| format!("cannot replace `{path}`"))
}
