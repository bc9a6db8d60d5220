//! `landfall stages run`: runs one stage of the user-data and the profiles. The agent runs `reconcile` by itself.

mod render;

use anyhow::anyhow;
use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use landfall_agent::events::EventLog;
use landfall_agent::failure::error_line;
use landfall_agent::stage_events::stage_events;
use landfall_core::report::StagesReport;
use landfall_core::settings::Settings;
use landfall_core::stage::{STAGES, is_stage, nearest_stage, parts_of};
use landfall_host::root::HostRoot;
use landfall_host::stages::{EffectOutcome, StageError, StageOptions, StageReport, run_stage};

use crate::args::{OutputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::inputs::load_settings;
use crate::output::structured::print_report;
use crate::runtime;

/// Run the stages of user-data and profiles.
#[derive(Debug, Args)]
pub struct StagesArgs {
    #[command(subcommand)]
    pub command: StagesCommand,
}

// A doc comment on a variant would hide the help of its arguments.
#[derive(Debug, Subcommand)]
pub enum StagesCommand {
    Run(RunArgs),
}

/// Run one stage now.
///
/// `boot` runs `boot.before`, `boot` and `boot.after`; each part can also be named alone. Steps of the user-data run
/// first, then those of the OS pack, then those of the Kubernetes pack. A step that fails is reported, and the rest
/// still runs (status 1). Anything that is already as requested stays untouched. Below another root than `/`, the
/// command writes files, directories, users and variables and enables units, but it runs no commands and starts no
/// units. There it skips steps with an `if`, because the condition would be evaluated on the wrong host. A name that
/// Kairos does not have runs if the inputs have steps under it.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall stages run initramfs --user-data /oem/90_custom.yaml --root /mnt --dry-run"
)]
pub struct RunArgs {
    /// Stage or part of one, e.g. `initramfs`, `boot.after`.
    #[arg(value_name = "STAGE")]
    pub stage: String,
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    /// Directory that stands for `/`.
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: Utf8PathBuf,
    /// Change nothing, and report the changes with the differences in files; conditions are not evaluated.
    #[arg(long)]
    pub dry_run: bool,
    /// Directory of the agent's event log, to which the events of the stage are added; overrides `landfall.stateDir`.
    ///
    /// If it does not exist, the events are only reported here.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &StagesArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let StagesCommand::Run(args) = &args.command;
    let parts = parts_of(&args.stage);
    let checked = load_settings(&args.inputs)?;
    checked.print_findings(context);
    let settings = checked.settings_of_all_files()?;
    // A stage that Kairos does not have runs if the inputs have it.
    if !is_stage(&args.stage) && !parts.iter().any(|part| settings.stages.contains_key(part)) {
        return Err(unknown_stage(&args.stage));
    }
    let runtime = runtime::current_thread()?;
    let reports = runtime.block_on(run_parts(&parts, settings, args, context));
    let steps = reports.iter().flat_map(|(part, report)| render::rows(part, report));
    let report = StagesReport::new(&args.stage, args.root.as_str(), args.dry_run, steps.collect());
    print_report(&context.printer, args.output.output, &report, render::text)?;
    Ok(match report.summary.failed {
        0 => checked.status(),
        _ => ExitStatus::AnswerIsNo,
    })
}

fn unknown_stage(stage: &str) -> anyhow::Error {
    match nearest_stage(stage) {
        Some(near) => {
            anyhow!("there is no stage `{stage}`, and the inputs have no steps under that name; did you mean `{near}`?")
        }
        None => anyhow!(
            "there is no stage `{stage}`, and the inputs have no steps under that name; stages are {}, each with `.before` \
             and `.after`",
            STAGES.join(", ")
        ),
    }
}

async fn run_parts(
    parts: &[String],
    settings: &Settings,
    args: &RunArgs,
    context: &Context,
) -> Vec<(String, StageReport)> {
    let root = HostRoot::new(args.root.clone());
    let options = StageOptions {
        dry_run: args.dry_run,
        ..StageOptions::default()
    };
    let events = open_events(settings, args, &root, context);
    let mut reports = Vec::new();
    for part in parts {
        let Some(steps) = settings.stages.get(part) else {
            continue;
        };
        let report = run_stage(steps, &root, &options).await;
        print_outputs(&report, context);
        if let Some(events) = &events {
            for (kind, reason, subject, message) in stage_events(part, &report) {
                events.record(kind, reason, &subject, message).await;
            }
        }
        reports.push((part.clone(), report));
    }
    reports
}

/// Opens the agent's event log, if there is one: a stage of the early boot runs before its directory is mounted.
fn open_events(settings: &Settings, args: &RunArgs, root: &HostRoot, context: &Context) -> Option<EventLog> {
    let directory = args.state_dir.as_ref().unwrap_or(&settings.landfall.state_dir);
    let is_wanted = !args.dry_run && (root.is_running_host() || args.state_dir.is_some());
    if !is_wanted || !directory.is_dir() {
        return None;
    }
    match EventLog::open(directory) {
        Ok(log) => Some(log),
        Err(error) => {
            context
                .printer
                .note(format_args!("events are not recorded: {}", error_line(&error)));
            None
        }
    }
}

/// Prints the output of commands with `--verbose` only, because it may hold a secret.
fn print_outputs(report: &StageReport, context: &Context) {
    for (step, effect) in report
        .steps
        .iter()
        .flat_map(|step| step.effects.iter().map(move |effect| (step, effect)))
    {
        let output = match &effect.outcome {
            EffectOutcome::Ran { output }
            | EffectOutcome::Failed(StageError::Exit { output, .. } | StageError::Timeout { output, .. }) => output,
            _ => continue,
        };
        if !output.is_empty() {
            context
                .printer
                .detail(format_args!("step `{}`, {}:\n{output}", step.name, effect.action));
        }
    }
}
