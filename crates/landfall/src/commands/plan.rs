//! `landfall plan`: shows the source and the destination of every image.

use clap::Args;
use landfall_core::plan::plan_images;
use landfall_core::report::{ImageRow, PlanReport, PlanSummary, plan_report};
use landfall_core::resolve::CandidateKind;
use landfall_core::settings::{Finding, ImageRole};
use landfall_core::wording::counted;

use crate::args::{HostBundleArgs, ListOutputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_bundles::load_settings_with_bundles;
use crate::inputs::note_missing_profile;
use crate::output::structured::print_list;
use crate::output::table::{Table, TableForm};

/// Show the source and the destination of every image.
///
/// Lists every image of the profiles in the order of work: the reference that the agent pulls, the reason for it, and
/// the reference that replaces it in a pod. With `--bundle` it tells which images a bundle has. Findings about the inputs go to stderr. The plan is printed as far as the
/// inputs allow, and the exit status is 1 if a finding is an error.
#[derive(Debug, Args)]
#[command(after_long_help = "Example:\n  landfall plan --user-data user-data.yaml --profile profile.yaml -o json")]
pub struct PlanArgs {
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    #[command(flatten)]
    pub bundles: HostBundleArgs,
    #[command(flatten)]
    pub output: ListOutputArgs,
}

pub(crate) fn run(args: &PlanArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let (checked, bundles) = load_settings_with_bundles(&args.inputs, &args.bundles, context)?;
    checked.print_findings(context);
    note_missing_profile(&args.inputs, context);
    if let Some(settings) = &checked.settings {
        let resolver = bundles.resolver(settings);
        let report = plan_report(&resolver, &plan_images(settings, &resolver));
        print_list(
            &context.printer,
            args.output.output,
            &report,
            |report| report.images.iter().map(|row| row.image.canonical.clone()).collect(),
            |report| render_plan(report, args.output.table_form()),
        )?;
    }
    Ok(checked.status())
}

/// The place of a value that is not known.
const UNKNOWN: &str = "?";

/// Renders the plan for people: a row per image, then the reasons that the rows refer to, then the totals.
pub(crate) fn render_plan(report: &PlanReport, form: TableForm) -> String {
    let mut table = Table::new(&["#", "ROLE", "IMAGE", "PULLED FROM", "WHY", "BECOMES"]);
    for (index, row) in report.images.iter().enumerate() {
        let first = row.pull.as_ref().map(|pull| pull.first());
        let (reference, why) = match first {
            Some(Some(first)) => (first.location(), table.note(&first.why)),
            Some(None) => (String::new(), String::new()),
            None => (UNKNOWN.to_owned(), UNKNOWN.to_owned()),
        };
        let becomes = match &row.runtime {
            None => UNKNOWN.to_owned(),
            Some(runtime) if *runtime == reference => "the same".to_owned(),
            Some(runtime) => runtime.clone(),
        };
        table.row([
            (index + 1).to_string(),
            role_word(&row.image),
            row.image.canonical.clone(),
            reference,
            why,
            becomes,
        ]);
    }
    let mut text = table.render_as(form);
    if !table.has_notes() {
        text.push('\n');
    }
    text.push_str(&totals(report));
    text
}

fn role_word(image: &ImageRow) -> String {
    let role = match image.role {
        ImageRole::Provider => "provider",
        ImageRole::Infrastructure => "infra",
        ImageRole::Application => "app",
    };
    match image.finding {
        Finding::Declared => role.to_owned(),
        Finding::Discovered => format!("{role}*"),
    }
}

/// Returns the line about the bundles: the images that are in none of them are named, because they need a network.
fn in_bundles(report: &PlanReport) -> Option<String> {
    if report.bundles.is_empty() || report.sources_unknown.is_some() {
        return None;
    }
    let mut text = format!(
        "bundles have {} of {}",
        report.summary.in_bundles,
        counted(report.images.len(), "image")
    );
    for (words, has_source) in [("these need the network", true), ("these have no source", false)] {
        let lacking = report.images.iter().filter(|row| {
            let mut pull = row.pull.iter().flatten();
            let in_bundle = pull.any(|candidate| candidate.place == CandidateKind::Bundle);
            !in_bundle && row.pull.as_ref().is_some_and(|pull| pull.is_empty() != has_source)
        });
        let names: String = lacking.map(|row| format!("\n  {}", row.image.canonical)).collect();
        if !names.is_empty() {
            text.push_str(&format!("; {words}:{names}"));
        }
    }
    Some(text)
}

fn totals(report: &PlanReport) -> String {
    let PlanSummary {
        provider,
        infrastructure,
        application,
        to_primary,
        ..
    } = &report.summary;
    let mut lines = Vec::new();
    if report.images.iter().any(|row| row.image.finding == Finding::Discovered) {
        lines.push("* found in a manifest, not listed by its pack".to_owned());
    }
    if let Some(reason) = &report.sources_unknown {
        lines.push(format!("{UNKNOWN} not known where images come from: {reason}"));
    }
    if let Some(reason) = &report.images_incomplete {
        lines.push(format!("the list of images is not complete: {reason}"));
    }
    if report.redirection == Some(false) {
        lines.push(
            "redirection is off (`stylus.imageRedirectWebhook.enable: false`): neither the agent's pulls nor those of \
             pods are redirected"
                .to_owned(),
        );
    }
    lines.extend(in_bundles(report));
    let versions = report.profiles.iter().filter_map(|profile| {
        let version = profile.version.as_deref()?;
        Some(format!("{} {version}", profile.name))
    });
    let versions: Vec<String> = versions.collect();
    if !versions.is_empty() {
        lines.push(format!("profile: {}", versions.join(", ")));
    }
    lines.push(format!(
        "{}: {provider} provider, {infrastructure} infrastructure, {application} application",
        counted(report.images.len(), "image")
    ));
    if let Some(primary) = &report.primary_registry {
        lines.push(format!("{to_primary} of them go to the primary registry {primary}"));
    }
    lines.join("\n")
}
