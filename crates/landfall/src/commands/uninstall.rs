//! `landfall uninstall`: takes away all that Landfall left on this host and, if asked, in the cluster.

use camino::Utf8PathBuf;
use clap::Args;
use landfall_agent::{ClusterSide, UninstallOptions, uninstall};
use landfall_core::report::{UninstallReport, UninstallRow};
use landfall_core::settings::Settings;
use landfall_host::root::HostRoot;

use crate::args::OutputArgs;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::output::structured::print_report;
use crate::runtime;

/// Take away all that Landfall left on this host.
///
/// Removes the mirror files, the kubelet's login files with the plug-in's configuration and link, the units and what
/// enables them, and the state directory with all images. With `--cluster` it first removes what the agents wrote into
/// the cluster. Files of other owners stay, and so do the program, the user-data and the images in containerd. It
/// refuses while an agent runs. A failure does not end the run: the rest is removed, what is left is listed, and the
/// exit status is 1. A second run removes what is left.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  systemctl stop landfall-agent && landfall uninstall --cluster --dry-run")]
pub struct UninstallArgs {
    /// List what would be removed, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Keep the content store and the embedded registry.
    #[arg(long)]
    pub keep_images: bool,
    /// Remove the webhook's registration, the Secret of its authority and the Lease from the cluster too.
    ///
    /// Stop the agents of all hosts first: an agent that runs writes them again.
    #[arg(long)]
    pub cluster: bool,
    /// Access to the cluster [default: that of the agent's last configuration, or the host's own].
    #[arg(long, value_name = "FILE", requires = "cluster")]
    pub kubeconfig: Option<Utf8PathBuf>,
    /// Namespace of Secret and Lease [default: that of the agent's last configuration, or `kube-system`].
    #[arg(long, value_name = "NAME", requires = "cluster")]
    pub namespace: Option<String>,
    /// Root of the host's file system.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: Utf8PathBuf,
    /// State directory of the agent, below the root [default: /var/lib/landfall].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &UninstallArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let default = Settings::default().landfall.state_dir;
    let state_dir = args.state_dir.as_deref().unwrap_or(&default);
    let options = UninstallOptions {
        state_dir: HostRoot::new(args.root.clone()).join(state_dir)?,
        root: args.root.clone(),
        keep_images: args.keep_images,
        dry_run: args.dry_run,
        cluster: match args.cluster {
            true => ClusterSide::Remove {
                kubeconfig: args.kubeconfig.clone(),
                namespace: args.namespace.clone(),
            },
            false => ClusterSide::LeaveAlone,
        },
    };
    let (report, unasked) = runtime::current_thread()?.block_on(uninstall(options))?;
    print_report(&context.printer, args.output.output, &report, render)?;
    if let Some(access) = unasked {
        context.printer.note(format_args!(
            "the cluster of `{access}` was not asked: `--cluster` also removes the registration of the webhook"
        ));
    }
    print_end(&report, context);
    Ok(match report.summary.left {
        0 => ExitStatus::Done,
        _ => ExitStatus::AnswerIsNo,
    })
}

fn render(report: &UninstallReport) -> String {
    let line = |row: &UninstallRow| {
        let why = row.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        format!("{} {}{why}\n", row.state.verb(), row.name)
    };
    match report.items.is_empty() {
        true => "nothing of Landfall's is here\n".to_owned(),
        false => report.items.iter().map(line).collect(),
    }
}

fn print_end(report: &UninstallReport, context: &Context) {
    let summary = &report.summary;
    let all = summary.removed + summary.would_remove + summary.left;
    if summary.left > 0 {
        context
            .printer
            .problem(format_args!("{} of {all} could not be removed", summary.left));
    } else if report.dry_run {
        context.printer.note("nothing was done: `--dry-run`");
    }
}
