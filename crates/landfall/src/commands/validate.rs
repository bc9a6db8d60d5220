//! `landfall validate`: reports all findings about the inputs, and about containerd on the machine that is to use them.

use camino::Utf8PathBuf;
use clap::Args;
use landfall_core::config::Machine;
use landfall_core::diagnostic::render_text;
use landfall_core::hostconf::containerd_config::read_wanted_mirror_files;
use landfall_core::report::{ValidationReport, validation_report};
use landfall_core::settings::{Dialect, Settings};
use landfall_core::status::MirrorFilesStatus;
use landfall_core::wording::counted;
use landfall_host::node_facts::find_host_facts;
use landfall_host::root::HostRoot;

use crate::args::{HostBundleArgs, OutputArgs, RequiredInputArgs, RuntimeArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_bundles::load_inputs_with_bundles;
use crate::output::structured::print_report;
use crate::runtime;

/// Check user-data and profiles.
///
/// Reports all findings at once, each with a stable code, its file and line, and a hint. The exit status is 1 if a
/// finding is an error. docs/reference/diagnostics.md lists all codes.
///
/// If `landfall.mirror.files` of the user-data asks for files of containerd, this machine's containerd is looked at: does
/// its configuration, with all imports, make it read them?
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall validate --user-data user-data.yaml --profile profile.yaml")]
pub struct ValidateArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    #[command(flatten)]
    pub bundles: HostBundleArgs,
    /// Root of the file system of the host that the inputs are for [default: `/`, as a machine that may be another one].
    #[arg(long, value_name = "DIR")]
    pub root: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &ValidateArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let (mut loaded, _) = load_inputs_with_bundles(&args.inputs, &args.bundles, context)?;
    let mut checked = loaded.check();
    let mut mirror_files = None;
    if let Some(settings) = &checked.settings
        && settings.landfall.mirror.files.contains(&Dialect::Containerd)
    {
        let machine = find_machine(args, settings)?;
        let reading = read_wanted_mirror_files(settings, &machine.containerd);
        mirror_files = reading.as_ref().map(MirrorFilesStatus::from);
        loaded.inputs.machine = Some(machine);
        checked = loaded.check();
    }
    let report = validation_report(&checked.diagnostics, mirror_files);
    print_report(&context.printer, args.output.output, &report, |report| {
        let mut text = render_text(report.diagnostics, context.printer.colors_data());
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&summary(report));
        text
    })?;
    Ok(checked.status())
}

/// Looks at the machine that is to use the inputs. One with the agent's state is taken for the host, and so is one that
/// the user names.
fn find_machine(args: &ValidateArgs, settings: &Settings) -> anyhow::Result<Machine> {
    let root = HostRoot::new(args.root.clone().unwrap_or_else(|| Utf8PathBuf::from("/")));
    let has_state = || {
        let state_dir = root.join(&settings.landfall.state_dir);
        state_dir.is_ok_and(|path| fs_err::metadata(path).is_ok())
    };
    let (main_file, release) = (&settings.landfall.containerd_config, args.runtime.containerd_version);
    let facts = runtime::current_thread()?.block_on(find_host_facts(&root, main_file, release));
    Ok(Machine {
        containerd: facts.containerd,
        is_the_host: args.root.is_some() || has_state(),
    })
}

fn summary(report: &ValidationReport<'_>) -> String {
    let notes = match report
        .diagnostics
        .iter()
        .count()
        .saturating_sub(report.errors + report.warnings)
    {
        0 => None,
        notes => Some(counted(notes, "note")),
    };
    match (report.errors, report.warnings, notes) {
        (0, 0, None) => "no findings".to_owned(),
        (0, 0, Some(notes)) => format!("no errors, {notes}"),
        (errors, warnings, notes) => {
            let counts = [
                Some(counted(errors, "error")),
                Some(counted(warnings, "warning")),
                notes,
            ];
            counts.into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
    }
}
