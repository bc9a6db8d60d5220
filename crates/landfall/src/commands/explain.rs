//! `landfall explain`: shows the sources of one image and the rules behind them.

use anyhow::Context as _;
use camino::Utf8PathBuf;
use clap::Args;
use landfall_agent::fetch_namespace_choice;
use landfall_core::opt_out::OptOut;
use landfall_core::pod_image::{PodImage, read_pod_image};
use landfall_core::report::{CandidateRow, ExplainReport, NamespaceRow, explain_left_alone, explain_report};
use landfall_core::resolve::CandidateKind;

use crate::args::{HostBundleArgs, OutputArgs, RequiredInputArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_bundles::load_settings_with_bundles;
use crate::output::structured::print_report;
use crate::runtime;

/// Explain where one image comes from, and why.
///
/// Lists every reference that the image may be pulled from, in order, each with its rule and its credentials. The
/// webhook and the agent decide by the same function. The image need not be in a profile.
#[derive(Debug, Args)]
#[command(
    after_long_help = "Example:\n  landfall explain nginx:1.27 --user-data user-data.yaml --profile profile.yaml"
)]
pub struct ExplainArgs {
    /// Image, as a pod names it.
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Namespace of the pod, which may have opted out of redirection.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Kubeconfig of the cluster: read the labels by which the namespace opts in or out.
    #[arg(long, value_name = "FILE", requires = "namespace")]
    pub kubeconfig: Option<Utf8PathBuf>,
    #[command(flatten)]
    pub inputs: RequiredInputArgs,
    #[command(flatten)]
    pub bundles: HostBundleArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &ExplainArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let image = read_pod_image(&args.image).with_context(|| format!("`{}` is not an image reference", args.image))?;
    let (checked, bundles) = load_settings_with_bundles(&args.inputs, &args.bundles, context)?;
    checked.print_findings(context);
    if let Some(settings) = &checked.settings {
        let namespace = match &args.namespace {
            Some(name) => Some(NamespaceRow::new(settings, name, fetch_choice(args, name)?)),
            None => None,
        };
        let report = match &image {
            PodImage::InRegistry(image) => explain_report(&bundles.resolver(settings), image, namespace),
            PodImage::LeftAlone(left_alone) => explain_left_alone(&args.image, *left_alone, namespace),
        };
        let asked_cluster = args.kubeconfig.is_some();
        print_report(&context.printer, args.output.output, &report, |report| {
            render_explanation(report, asked_cluster)
        })?;
    }
    Ok(checked.status())
}

fn fetch_choice(args: &ExplainArgs, namespace: &str) -> anyhow::Result<Option<OptOut>> {
    let Some(kubeconfig) = &args.kubeconfig else {
        return Ok(None);
    };
    let runtime = runtime::current_thread()?;
    runtime.block_on(fetch_namespace_choice(kubeconfig, namespace))
}

fn render_explanation(report: &ExplainReport, asked_cluster: bool) -> String {
    let mut text = format!("{}\n", report.canonical);
    if let Some(why) = report.left_alone {
        push_fact(&mut text, "left as it is", why);
        return text;
    }
    match &report.in_profile {
        Some(row) => push_fact(
            &mut text,
            "named",
            &format!(
                "{}:{}, pack {}, layer {}",
                row.location.file, row.location.line, row.pack, row.layer
            ),
        ),
        None => match &report.images_incomplete {
            Some(reason) => push_fact(&mut text, "named", &format!("not known: {reason}")),
            None => push_fact(&mut text, "named", "in no profile: treated as an application image"),
        },
    }
    if let Some(namespace) = &report.namespace {
        let fact = match (&namespace.why, &namespace.unknown) {
            (Some(why), _) => format!("left as it is: {why}"),
            (None, Some(reason)) => format!("not known: {reason}"),
            (None, None) => format!("`{}` is redirected", namespace.name),
        };
        push_fact(&mut text, "namespace", &fact);
        if !asked_cluster && namespace.unknown.is_none() {
            text.push_str("    as far as the profiles say; `--kubeconfig` asks the cluster\n");
        }
    }
    text.push_str("\ncandidates, in order\n");
    match &report.candidates {
        Some(candidates) => {
            for (index, candidate) in candidates.iter().enumerate() {
                render_candidate(&mut text, index + 1, candidate);
            }
            let in_bundle = |candidate: &CandidateRow| candidate.place == CandidateKind::Bundle;
            if !report.bundles.is_empty() && !candidates.iter().any(in_bundle) {
                text.push_str("  no bundle has it: the network is needed\n");
            }
        }
        None => {
            let reason = report.sources_unknown.as_deref().unwrap_or_default();
            text.push_str(&format!("  not known: {reason}\n"));
        }
    }
    if let Some(runtime) = &report.runtime {
        text.push_str("\na pod's image becomes\n");
        push_fact(&mut text, "once everything is in place", runtime);
    }
    if let Some(before) = report
        .runtime_before_primary
        .as_ref()
        .filter(|_| report.runtime_before_primary != report.runtime)
    {
        push_fact(&mut text, "until the primary registry holds it", before);
    }
    if let Some(warning) = &report.warning {
        text.push_str(&format!("\nwarning: {warning}\n"));
    }
    text
}

fn render_candidate(text: &mut String, number: usize, candidate: &CandidateRow) {
    let credentials = match &candidate.credentials {
        Some(used) => format!(
            "{} at {} ({}:{})",
            used.username, used.registry, used.location.file, used.location.line
        ),
        None => "none".to_owned(),
    };
    let place = match &candidate.bundle {
        Some(_) => format!("{}:{}", candidate.location(), candidate.reference),
        None => candidate.location(),
    };
    text.push_str(&format!(
        "  {number}. {place}\n     why: {}\n     credentials: {credentials}\n",
        candidate.why
    ));
}

fn push_fact(text: &mut String, name: &str, fact: &str) {
    text.push_str(&format!("  {name}: {fact}\n"));
}
