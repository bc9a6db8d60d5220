//! `landfall check`: asks the registries for every image of the plan.

mod query;

use clap::Args;
use futures_util::{StreamExt, stream};
use landfall_core::failure::{Explanation, FailureKind};
use landfall_core::oci_types::Platform;
use landfall_core::plan::{PlannedImage, plan_images};
use landfall_core::report::{CheckReport, CheckRow, CheckState, CheckSummary, image_row};
use landfall_core::resolve::{Candidate, CandidateKind, Resolver};
use landfall_core::settings::Settings;
use landfall_core::wording::counted;
use landfall_oci::client::explain::{explain_fetch, explain_no_source, without_image};
use landfall_oci::copy::CopyOptions;
use landfall_oci::image::TransferError;

use self::query::{FoundImage, query_bundle, query_image};
use crate::args::{AccessArgs, HostBundleArgs, ListOutputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_bundles::{HostBundles, load_settings_with_bundles};
use crate::inputs::note_missing_profile;
use crate::interrupt::run_until_signalled;
use crate::output::digest::short_digest;
use crate::output::failures::{FailedImage, render_failures};
use crate::output::progress::Progress;
use crate::output::structured::print_list;
use crate::output::table::{Table, TableForm};
use crate::registries::{Registries, RegistryAccess};
use crate::runtime;
use crate::shell::command_line;

/// Problem of an image that was not asked for.
const STOPPED: &str = "the check was stopped before it was asked for";

/// Check that the registries have every image of the plan.
///
/// Use it before a deployment. The command asks the registries for every image of the plan, with the logins of the
/// user-data and the profiles, in the agent's order. It pulls no image: it sends one HEAD request per image, and a
/// GET for an image that seems to be missing. With `--platform` it reads the manifests and image configurations that name platforms. The exit status is 1 if an image
/// is missing.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall check --user-data user-data.yaml --profile profile.yaml --platform linux/arm64"
)]
pub struct CheckArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    #[command(flatten)]
    pub bundles: HostBundleArgs,
    /// Require this platform of every image, e.g. `linux/arm64` [repeatable; default: any platform].
    #[arg(long = "platform", value_name = "OS/ARCH[/VARIANT]")]
    pub platforms: Vec<Platform>,
    /// Images to check at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 16)]
    pub concurrency: usize,
    #[command(flatten)]
    pub access: AccessArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
}

pub(crate) fn run(args: &CheckArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let (checked, bundles) = load_settings_with_bundles(&args.inputs, &args.bundles, context)?;
    checked.print_findings(context);
    note_missing_profile(&args.inputs, context);
    let settings = checked.complete_settings()?;
    let runtime = runtime::current_thread()?;
    let options = CopyOptions::new(args.concurrency);
    let checking = async { Ok(check(settings, &bundles, args, context, &options).await) };
    let report = runtime.block_on(run_until_signalled(checking, &options.cancel))?;
    print_list(
        &context.printer,
        args.output.output,
        &report,
        |report| report.images.iter().map(|row| row.image.canonical.clone()).collect(),
        |report| render_check(report, args.output.table_form()),
    )?;
    if options.cancel.is_cancelled() && report.summary.unknown > 0 {
        return Ok(ExitStatus::Interrupted);
    }
    if report.is_complete() {
        return Ok(checked.status());
    }
    Ok(ExitStatus::AnswerIsNo)
}

/// Values that the checks of all images share.
struct CheckContext<'a> {
    settings: &'a Settings,
    bundles: &'a HostBundles,
    resolver: &'a Resolver<'a>,
    args: &'a CheckArgs,
    access: RegistryAccess,
    registries: Registries<'a>,
    options: &'a CopyOptions,
    progress: Progress,
}

async fn check(
    settings: &Settings,
    bundles: &HostBundles,
    args: &CheckArgs,
    context: &Context,
    options: &CopyOptions,
) -> CheckReport {
    let resolver = bundles.resolver(settings);
    let planned = plan_images(settings, &resolver);
    let access = args.access.resolve();
    let check = CheckContext {
        settings,
        bundles,
        resolver: &resolver,
        registries: Registries::new(settings, access.clone()),
        access,
        args,
        options,
        progress: Progress::new(context.progress, &context.printer),
    };
    let questions: Vec<_> = planned.iter().map(|image| check.check_image(image)).collect();
    let rows = stream::iter(questions)
        .buffered(args.concurrency.max(1))
        .collect()
        .await;
    let platforms = args.platforms.iter().map(ToString::to_string).collect();
    let bundles = resolver.bundles().names().map(str::to_owned).collect();
    CheckReport::new(platforms, bundles, rows, &settings.unknown)
}

impl CheckContext<'_> {
    /// Asks the candidates of an image in order. The first one that has the image decides, as it does for the agent.
    async fn check_image(&self, planned: &PlannedImage) -> CheckRow {
        let image = &self.settings.images[planned.image];
        let mut row = CheckRow {
            image: image_row(image),
            state: CheckState::Missing,
            reference: planned.pull.first().map(|first| first.reference.to_string()),
            bundle: None,
            digest: None,
            missing_platforms: Vec::new(),
            problem: None,
            fix: None,
        };
        let mut problems = Vec::new();
        for candidate in &planned.pull {
            match self.query_candidate(candidate).await {
                Ok(found) => {
                    self.fill_found(&mut row, planned, candidate, &found);
                    return row;
                }
                Err(error) if error.kind == FailureKind::Stopped => {
                    row.state = CheckState::Unknown;
                    row.problem = Some(STOPPED.to_owned());
                    return row;
                }
                Err(error) => {
                    // A registry that could not be asked may have the image.
                    if error.kind != FailureKind::NotFound {
                        row.state = CheckState::Unknown;
                    }
                    problems.push(explain_fetch(self.settings, image, candidate, &error));
                }
            }
        }
        if planned.pull.is_empty() {
            problems.push(explain_no_source(image));
        }
        let is_bundled = |candidate: &Candidate| candidate.kind == CandidateKind::Bundle;
        if !self.resolver.bundles().is_empty() && !planned.pull.iter().any(is_bundled) {
            let hint = "make a bundle that has it, with `landfall bundle create`";
            problems.insert(0, Explanation::new("no bundle has it", hint));
        }
        let Explanation { message, hint } = Explanation::join(problems);
        row.problem = Some(message);
        let in_registry = planned
            .pull
            .iter()
            .find(|candidate| candidate.kind != CandidateKind::Bundle);
        row.fix = match (row.state, in_registry) {
            (CheckState::Missing, Some(first)) => self.push_command(planned, first).or(Some(hint)),
            _ => Some(hint),
        };
        row
    }

    async fn query_candidate(&self, candidate: &Candidate) -> Result<FoundImage, TransferError> {
        if candidate.kind == CandidateKind::Bundle {
            let (source, image) = self.bundles.source(self.settings, candidate).await?;
            return query_bundle(&*source, image, &self.args.platforms).await;
        }
        let reference = &candidate.reference;
        let client = self.registries.client(&reference.host, candidate.registry)?;
        let subject = reference.to_string();
        let question = || Box::pin(query_image(&client, reference, &self.args.platforms)) as _;
        self.options.retrying(&*self.progress.sink, &subject, question).await
    }

    fn fill_found(&self, row: &mut CheckRow, planned: &PlannedImage, candidate: &Candidate, found: &FoundImage) {
        row.reference = Some(candidate.reference.to_string());
        row.bundle = self.resolver.bundle_of(candidate).map(str::to_owned);
        row.digest = Some(found.digest.to_string());
        row.missing_platforms = found.missing.iter().map(ToString::to_string).collect();
        row.state = CheckState::Present;
        if !found.missing.is_empty() {
            row.state = CheckState::Incomplete;
            row.problem = Some(format!("it has no image for {}", row.missing_platforms.join(", ")));
            row.fix = match candidate.kind {
                CandidateKind::Bundle => {
                    Some("make the bundle without `--platform`, or with all platforms of the site".to_owned())
                }
                _ => self.push_command(planned, candidate),
            };
        }
    }

    /// Returns the command that pushes an image to the reference that is pulled, or `None` if that is its origin. The
    /// command reads the same inputs, because they hold the logins.
    fn push_command(&self, planned: &PlannedImage, target: &Candidate) -> Option<String> {
        if planned.canonical == target.reference {
            return None;
        }
        let mut words = vec!["landfall".to_owned(), "push".to_owned()];
        words.extend(self.args.inputs.arguments());
        words.extend(self.access.arguments());
        words.extend(["--image".to_owned(), planned.canonical.to_string()]);
        Some(command_line(&words))
    }
}

fn render_check(report: &CheckReport, form: TableForm) -> String {
    let mut table = Table::new(&["STATE", "IMAGE", "PULLED FROM", "DIGEST"]);
    for row in &report.images {
        table.row([
            state_word(row.state).to_owned(),
            row.image.canonical.clone(),
            match &row.bundle {
                Some(bundle) => format!("bundle:{bundle}"),
                None => row.reference.clone().unwrap_or_default(),
            },
            row.digest.as_deref().map(short_digest).unwrap_or_default().to_owned(),
        ]);
    }
    let mut text = table.render_as(form);
    let is_stopped = |row: &&CheckRow| row.problem.as_deref() == Some(STOPPED);
    let open = report.images.iter().filter(|row| row.state != CheckState::Present);
    text.push_str(&render_failures(open.filter(|row| !is_stopped(row)).map(|row| {
        FailedImage {
            state: state_word(row.state),
            name: &row.image.canonical,
            problem: row.problem.as_deref(),
            reason: row
                .problem
                .as_ref()
                .map(|problem| without_image(problem, &row.image.source)),
            fix: row.fix.as_deref(),
        }
    })));
    if report.summary.missing + report.summary.incomplete > 1 {
        text.push_str("\nto push all missing images: `landfall push` with the same inputs\n");
    }
    let CheckSummary {
        present,
        incomplete,
        missing,
        unknown,
        in_bundles,
    } = report.summary;
    let mut totals = vec![format!("{present} of {} there", counted(report.images.len(), "image"))];
    if !report.bundles.is_empty() {
        totals.push(format!("{in_bundles} in bundles"));
    }
    let stopped = report.images.iter().filter(is_stopped).count();
    for (count, what) in [
        (incomplete, "without a platform"),
        (missing, "missing"),
        (unknown - stopped, "not known"),
        (stopped, "not asked for, because the check was stopped"),
    ] {
        if count > 0 {
            totals.push(format!("{count} {what}"));
        }
    }
    text.push_str(&format!("\n{}\n", totals.join(", ")));
    if let Some(reason) = &report.images_incomplete {
        text.push_str(&format!("the list of images is not complete: {reason}\n"));
    }
    text
}

fn state_word(state: CheckState) -> &'static str {
    match state {
        CheckState::Present => "present",
        CheckState::Incomplete => "incomplete",
        CheckState::Missing => "missing",
        CheckState::Unknown => "unknown",
    }
}
