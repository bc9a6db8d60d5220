//! `landfall status`: shows the status that the agent keeps in its state directory.

mod watch;

use std::time::Duration;

use anyhow::Context as _;
use camino::Utf8Path;
use clap::Args;
use indicatif::{BinaryBytes, HumanDuration};
use landfall_agent::status::{FoundStatus, find_status};
use landfall_core::failure::line_with_hint;
use landfall_core::status::{
    AgentStatus, BundleKeyStatus, BundleStatus, FailedPhase, ImageStatus, Phase, TransferStatus,
};

use crate::args::{OutputArgs, StateArgs};
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::host_api::{RemoteHost, RemoteHostArgs};
use crate::output::printer::stdout_width;
use crate::output::structured::print_report;
use crate::output::table::Table;

/// Show what the agent on this host is doing.
///
/// Asks the status API of a running agent. Of an agent that no longer runs it shows the last status, from the state
/// directory. The exit status is 1 if the agent is degraded, does not run, or never ran here. With `--watch` the command
/// runs until it is interrupted; `-o json` then writes one object per line. With `--from`, the agent of another host is
/// asked.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  landfall status -o json | jq .phase\n  \
                             landfall status --from https://till-7:5080 --fingerprint sha256:0f1e…")]
pub struct StatusArgs {
    #[command(flatten)]
    pub state: StateArgs,
    /// Keep running: on a terminal, show the status anew every second; elsewhere, write a line for each change.
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub remote: RemoteHostArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

pub(crate) fn run(args: &StatusArgs, context: &Context) -> anyhow::Result<ExitStatus> {
    let remote = args.remote.open()?;
    if args.watch {
        return watch::run(args, remote.as_ref(), context);
    }
    let (status, problem) = look(&args.state.state_dir, remote.as_ref())?;
    if let Some(problem) = problem {
        context.printer.problem(problem);
    }
    let Some(status) = status else {
        return Ok(ExitStatus::AnswerIsNo);
    };
    print_report(&context.printer, args.output.output, &status, |status| {
        describe(status, stdout_width())
    })?;
    Ok(if status.running && status.phase != Phase::Degraded {
        ExitStatus::Done
    } else {
        ExitStatus::AnswerIsNo
    })
}

/// Returns the status, as far as there is one, and the problem with it.
fn look(directory: &Utf8Path, remote: Option<&RemoteHost>) -> anyhow::Result<(Option<AgentStatus>, Option<String>)> {
    match remote {
        Some(host) => Ok((Some(host.get("/api/v1/status")?), None)),
        None => look_here(directory),
    }
}

/// Returns the status of the agent on this host, as far as there is one, and the problem with it.
fn look_here(directory: &Utf8Path) -> anyhow::Result<(Option<AgentStatus>, Option<String>)> {
    Ok(
        match find_status(directory).context("cannot read the agent's status")? {
            FoundStatus::None => {
                let problem = format!("no agent ever ran with the state directory `{directory}`");
                (None, Some(problem))
            }
            FoundStatus::Unknown(reason) => {
                let problem = format!(
                    "an agent runs with the state directory `{directory}` and has not written its status: {reason}; its \
                     log says more"
                );
                (None, Some(problem))
            }
            FoundStatus::Doubtful(status, reason) => {
                let problem = format!(
                    "the agent runs, and its status API cannot be asked: {reason}; this status is from {:.0}, and may be \
                     old",
                    status.updated
                );
                (Some(status), Some(problem))
            }
            FoundStatus::Current(status) => (Some(status), None),
        },
    )
}

/// Renders the status for people.
pub(crate) fn describe(status: &AgentStatus, width: Option<usize>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("{name:<14}{value}\n"));
        }
    };
    if !status.running {
        line("Agent", &format!("not running; last status, at {:.0}:", status.updated));
    } else if let Some(pid) = status.pid {
        let version = status.version.as_deref().unwrap_or_default();
        line("Agent", &format!("{version}, process {pid}"));
    }
    match failed_phases(status) {
        failed if failed.is_empty() => line("Phase", status.phase.name()),
        failed => line("Phase", &format!("{} ({failed} failed)", status.phase)),
    }
    line("Since", &format!("{:.0}", status.since));
    match &status.failures[..] {
        [] | [_] if status.message.is_some() => line("Because", status.message.as_deref().unwrap_or_default()),
        failures => {
            for FailedPhase { phase, message } in failures {
                line("Because", &format!("{phase}: {message}"));
            }
        }
    }
    line("State", status.state_error.as_deref().unwrap_or_default());
    line("Inputs", untold_configuration_error(status).unwrap_or_default());
    line("Images", &count_images(status));
    for bundle in &status.bundles {
        line("Bundle", &describe_bundle(bundle));
    }
    line("Bundle keys", &describe_keys(&status.bundle_keys));
    let key = status
        .host_key
        .as_ref()
        .map(|key| format!("{} in {}", key.id, key.file));
    line("Host key", &key.unwrap_or_default());
    let remote = status.remote_api.as_ref().map(|api| {
        format!(
            "{}, certificate until {:.0}, authority {} in {}",
            api.url, api.certificate_expires, api.fingerprint, api.ca_file
        )
    });
    line("Status API", &remote.unwrap_or_default());
    line("Transfer", &describe_transfer(&status.transfer));
    line("Redirection", &status.redirect);
    for (name, serving) in [("Webhook", &status.webhook), ("Primary", &status.primary)] {
        let text = serving.as_ref().map(|serving| match serving.certificate_expires {
            Some(expires) => format!("{}, certificate until {expires:.0}", serving.url),
            None => serving.url.clone(),
        });
        line(name, &text.unwrap_or_default());
    }
    if let Some(cluster) = &status.cluster {
        let role = if cluster.writer {
            "this agent writes the registration"
        } else {
            "another agent writes the registration"
        };
        let text = cluster
            .problem
            .clone()
            .unwrap_or_else(|| format!("{}, {role}", cluster.server));
        line("Cluster", &text);
    }
    let mirror_files = status.mirror_files.as_ref();
    line("Mirror files", mirror_files.map_or("", |files| files.message.as_str()));
    let logins = status.kubelet_logins.as_ref();
    line("Logins", logins.map_or("", |logins| logins.message.as_str()));
    let preloads = status.kubelet_preloads.as_ref();
    line("Preloads", preloads.map_or("", |preloads| preloads.message.as_str()));
    line("Reboot", status.host.reboot_required.as_deref().unwrap_or_default());
    line("Repave", status.host.repave_required.as_deref().unwrap_or_default());
    if !status.images.is_empty() {
        text.push('\n');
        text.push_str(&image_table(status).render(width));
    }
    text
}

/// Returns the names of the phases that failed; while the agent works, those of this pass.
fn failed_phases(status: &AgentStatus) -> String {
    let names: Vec<&str> = match &status.failures[..] {
        [] => status.failed_phase.iter().map(|phase| phase.name()).collect(),
        failures => failures.iter().map(|failure| failure.phase.name()).collect(),
    };
    names.join(", ")
}

/// Returns the error of the configuration, unless a failure says it already.
fn untold_configuration_error(status: &AgentStatus) -> Option<&str> {
    let error = status.configuration_error.as_deref()?;
    let failures = status.failures.iter().map(|failure| &failure.message);
    let is_told = failures.chain(&status.message).any(|told| told.contains(error));
    (!is_told).then_some(error)
}

/// Counts the images in each place that has some; empty if there are none.
fn count_images(status: &AgentStatus) -> String {
    let images = status.images.values();
    let count = |is_counted: fn(&ImageStatus) -> bool| images.clone().filter(|image| is_counted(image)).count();
    if status.images.is_empty() {
        return String::new();
    }
    let mut text = format!("{} of {} stored", count(|image| image.stored), status.images.len());
    for (number, words) in [
        (count(|image| image.loaded), "loaded"),
        (count(|image| image.in_primary), "in primary"),
        (count(|image| image.error.is_some()), "failed"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {number} {words}"));
        }
    }
    text
}

/// Describes a transfer under way; empty if nothing has to move.
fn describe_transfer(transfer: &TransferStatus) -> String {
    if transfer.bytes_done >= transfer.bytes_total {
        return String::new();
    }
    let (done, total) = (BinaryBytes(transfer.bytes_done), BinaryBytes(transfer.bytes_total));
    let mut text = format!("{done} of {total}");
    if transfer.rate >= 1.0 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a positive number of bytes"
        )]
        let rate = BinaryBytes(transfer.rate as u64);
        text.push_str(&format!(" at {rate}/s"));
    }
    let left = transfer
        .eta_seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    if let Some(left) = left {
        text.push_str(&format!(", {} left", HumanDuration(left)));
    }
    text
}

fn describe_bundle(bundle: &BundleStatus) -> String {
    let mut text = format!("{}: {}", bundle.path, bundle.phase.name());
    if bundle.images > 0 {
        text.push_str(&format!(
            ", {} of {} images here, {}",
            bundle.adopted,
            bundle.images,
            BinaryBytes(bundle.bytes)
        ));
    }
    if let Some(problem) = &bundle.problem {
        text.push_str("; ");
        text.push_str(&line_with_hint(problem, bundle.hint.as_ref()));
    }
    text
}

/// Counts the keys that sign bundles; empty if there are none.
fn describe_keys(keys: &[BundleKeyStatus]) -> String {
    let retired = keys.iter().filter(|key| key.retired).count();
    match (keys.len() - retired, retired) {
        (0, 0) => String::new(),
        (in_use, 0) => format!("{in_use} in use"),
        (in_use, retired) => format!("{in_use} in use, {retired} retired"),
    }
}

fn image_table(status: &AgentStatus) -> Table {
    let mut table = Table::new(&["IMAGE", "STATE", "FROM", "ERROR"]);
    for (name, image) in &status.images {
        let from = image.pull_reference.clone().unwrap_or_default();
        table.row([
            name.clone(),
            image_state(image),
            from,
            image.error.clone().unwrap_or_default(),
        ]);
    }
    table
}

fn image_state(image: &ImageStatus) -> String {
    let reached = [
        (image.stored, "stored"),
        (image.loaded, "loaded"),
        (image.in_primary, "in primary"),
    ];
    let words: Vec<&str> = reached
        .iter()
        .filter(|(reached, _)| *reached)
        .map(|(_, word)| *word)
        .collect();
    if words.is_empty() {
        "missing".to_owned()
    } else {
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use landfall_core::bundle::adoption::BundlePhase;

    use super::*;

    #[test]
    fn status_of_an_agent_that_is_gone_says_so_first() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        status.phase = Phase::Running;
        status.running = false;
        insta::assert_snapshot!(describe(&status, None), @r"
        Agent         not running; last status, at 1970-01-01T00:00:00Z:
        Phase         Running
        Since         1970-01-01T00:00:00Z
        ");
    }

    #[test]
    fn every_failure_and_a_full_disk_are_shown_also_while_the_agent_works_on() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        let failure = |phase, message: &str| FailedPhase {
            phase,
            message: message.to_owned(),
        };
        status.failures = vec![
            failure(Phase::ProviderImage, "not found"),
            failure(Phase::Images, "1 of 2 images cannot be fetched"),
        ];
        status.phase = Phase::PrimaryRegistry;
        status.state_error = Some("the ledger cannot be written: no storage space".to_owned());
        (status.pid, status.version) = (Some(7), Some("0.1.0".to_owned()));
        status.transfer.bytes_done = 1 << 20;
        status.transfer.bytes_total = 4 << 20;
        status.transfer.rate = 1.5 * 1024.0 * 1024.0;
        status.transfer.eta_seconds = Some(2.0);
        insta::assert_snapshot!(describe(&status, None), @r"
        Agent         0.1.0, process 7
        Phase         PrimaryRegistry (ProviderImage, Images failed)
        Since         1970-01-01T00:00:00Z
        Because       ProviderImage: not found
        Because       Images: 1 of 2 images cannot be fetched
        State         the ledger cannot be written: no storage space
        Transfer      1.00 MiB of 4.00 MiB at 1.50 MiB/s, 2 seconds left
        ");
    }

    #[test]
    fn error_of_the_configuration_is_told_once() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        let error = "user-data:2:1: a registry is needed (LF0101)";
        status.configuration_error = Some(error.to_owned());
        let inputs = |status: &AgentStatus| describe(status, None).matches(error).count();
        assert_eq!(inputs(&status), 1, "nothing else tells it");
        for (phase, message) in [(Phase::Validating, error.to_owned()), (Phase::Images, "x".to_owned())] {
            status.failures.push(FailedPhase { phase, message });
            assert_eq!(inputs(&status), 1, "{:?}", status.failures);
        }
        status.message = Some(error.to_owned());
        status.failures.truncate(1);
        assert_eq!(inputs(&status), 1, "the message is that of the only failure");
    }

    #[test]
    fn bundles_are_shown_with_their_phase_and_with_what_to_do() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        let bundle = BundleStatus {
            path: "/media/site.tar.zst".to_owned(),
            id: None,
            phase: BundlePhase::Adopting,
            series: None,
            sequence: None,
            images: 4,
            adopted: 3,
            bytes: 5 << 20,
            missing: Vec::new(),
            problem: None,
            hint: None,
            receipt: None,
        };
        let refused = BundleStatus {
            path: "/media/other.tar.zst".to_owned(),
            phase: BundlePhase::Refused,
            images: 0,
            problem: Some("it is not signed".to_owned()),
            hint: Some("sign it".to_owned()),
            ..bundle.clone()
        };
        status.bundles = vec![bundle, refused];
        let key = |retired| BundleKeyStatus {
            id: "a".repeat(64),
            origin: "user-data".to_owned(),
            retired,
        };
        status.bundle_keys = vec![key(false), key(true)];
        insta::assert_snapshot!(describe(&status, None), @r"
        Phase         Validating
        Since         1970-01-01T00:00:00Z
        Bundle        /media/site.tar.zst: adopting, 3 of 4 images here, 5.00 MiB
        Bundle        /media/other.tar.zst: refused; it is not signed; hint: sign it
        Bundle keys   1 in use, 1 retired
        ");
    }

    #[test]
    fn a_degraded_agent_says_which_phase_failed_and_which_image_is_missing() {
        let mut status = AgentStatus::starting(Timestamp::UNIX_EPOCH);
        status.phase = Phase::Degraded;
        status.failed_phase = Some(Phase::Images);
        status.message = Some("1 of 2 images cannot be fetched".to_owned());
        let stored = ImageStatus {
            stored: true,
            in_primary: true,
            ..ImageStatus::default()
        };
        let failed = ImageStatus {
            error: Some("not found".to_owned()),
            ..ImageStatus::default()
        };
        status.images = [
            ("docker.io/a/a:1".to_owned(), stored),
            ("docker.io/b/b:1".to_owned(), failed),
        ]
        .into();
        insta::assert_snapshot!(describe(&status, None), @r"
        Phase         Degraded (Images failed)
        Since         1970-01-01T00:00:00Z
        Because       1 of 2 images cannot be fetched
        Images        1 of 2 stored, 1 in primary, 1 failed

        IMAGE            STATE               FROM  ERROR
        docker.io/a/a:1  stored, in primary
        docker.io/b/b:1  missing                   not found
        ");
    }
}
