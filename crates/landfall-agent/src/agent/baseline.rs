//! Compares what the host came up with to what the configuration now asks for, to find out whether the host has to be
//! repaved or rebooted. The comparison is pure; reading the facts of the host is separate.

use std::sync::Arc;

use camino::Utf8Path;
use landfall_core::settings::{ImageRole, Settings};
use landfall_core::stage::{StageFile, StageStep};
use landfall_core::status::{EventReason, HostConditions};
use landfall_host::root::HostRoot;
use landfall_oci::digest::{Algorithm, Digester};
use secrecy::ExposeSecret as _;

use crate::agent::host::Host;
use crate::agent::ledger::{Baseline, LedgerFile};

/// Records the system image, boot ID and stages that the host started with, and reports whether it has to be repaved
/// or rebooted.
///
/// # Errors
///
/// If the ledger cannot be written.
pub(crate) async fn record_baseline(
    host: &Arc<Host>,
    settings: Arc<Settings>,
    ledger: &mut LedgerFile,
) -> anyhow::Result<()> {
    let reader = host.clone();
    let now = tokio::task::spawn_blocking(move || gather_baseline(&settings, &reader.root)).await?;
    let before = ledger.get().baseline.clone().unwrap_or_else(|| now.clone());
    let (baseline, conditions) = compare_baseline(&before, &now);
    ledger.update(|ledger| ledger.baseline = Some(baseline))?;
    let shown = host.status.get().host;
    if let (Some(reason), None) = (&conditions.repave_required, &shown.repave_required) {
        host.warn(EventReason::RepaveRequired, "host", reason.clone()).await;
    }
    if let (Some(reason), None) = (&conditions.reboot_required, &shown.reboot_required) {
        host.warn(EventReason::RebootRequired, "host", reason.clone()).await;
    }
    if shown != conditions {
        host.status.update(|status| status.host = conditions);
    }
    Ok(())
}

/// Reads the facts of the host as it runs now, and what the configuration asks for.
///
/// A fact that cannot be read is empty. It equals itself at the next reading, and raises no condition.
fn gather_baseline(settings: &Settings, root: &HostRoot) -> Baseline {
    let read = |path: &str| root.read(Utf8Path::new(path)).ok().flatten().unwrap_or_default();
    let provider = settings.images.iter().find(|image| image.role == ImageRole::Provider);
    let boot = read("/proc/sys/kernel/random/boot_id");
    Baseline {
        provider: provider.map(|image| image.reference.canonical().to_string()),
        initramfs: fingerprint_initramfs(settings),
        system: digest_hex([read("/etc/os-release").as_slice()]),
        boot: String::from_utf8_lossy(&boot).trim().to_owned(),
    }
}

/// Compares what the host came up with to what is wanted now, and returns the next baseline with the conditions. A host
/// that runs another operating system image was repaved, one with another boot ID was rebooted, and both came up with
/// what is wanted.
fn compare_baseline(before: &Baseline, now: &Baseline) -> (Baseline, HostConditions) {
    let repaved = before.system != now.system;
    let rebooted = repaved || before.boot != now.boot;
    let baseline = Baseline {
        provider: if repaved {
            now.provider.clone()
        } else {
            before.provider.clone()
        },
        initramfs: if rebooted {
            now.initramfs.clone()
        } else {
            before.initramfs.clone()
        },
        system: now.system.clone(),
        boot: now.boot.clone(),
    };
    let name = |provider: &Option<String>| provider.clone().unwrap_or_else(|| "none".to_owned());
    let conditions = HostConditions {
        repave_required: (baseline.provider != now.provider).then(|| {
            format!(
                "the provider image is now `{}`, and this host came up with `{}`",
                name(&now.provider),
                name(&baseline.provider)
            )
        }),
        reboot_required: (baseline.initramfs != now.initramfs)
            .then(|| "the `initramfs` stages differ from those that this host booted with".to_owned()),
    };
    (baseline, conditions)
}

fn fingerprint_initramfs(settings: &Settings) -> String {
    let stages = settings
        .stages
        .iter()
        .filter(|(name, _)| name.split('.').next() == Some("initramfs"));
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (name, steps) in stages {
        parts.push(name.clone().into_bytes());
        parts.extend(steps.iter().flat_map(step_parts));
    }
    digest_hex(parts.iter().map(Vec::as_slice))
}

/// Returns everything that a step does, without the place where it is written. A part that the step does not have adds
/// nothing: an agent of a later version, which knows more parts, computes the same fingerprint for this step.
fn step_parts(step: &StageStep) -> Vec<Vec<u8>> {
    let StageStep {
        name,
        condition,
        files,
        directories,
        commands,
        users,
        systemctl,
        environment,
        location: _,
    } = step;
    let mut parts = vec![format!("{name:?} {condition:?} {commands:?} {directories:?}").into_bytes()];
    for StageFile {
        path,
        mode,
        owner,
        group,
        owner_name,
        content,
    } in files.iter().chain(&systemctl.overrides)
    {
        parts.push(format!("{path} {mode:o} {owner} {group} {owner_name:?}").into_bytes());
        parts.push(content.0.clone());
    }
    let units = [&systemctl.enable, &systemctl.disable, &systemctl.mask, &systemctl.start];
    if units.iter().any(|units| !units.is_empty()) {
        parts.push(format!("{units:?}").into_bytes());
    }
    for user in users {
        // The password is not printed with the rest.
        parts.push(format!("{user:?}").into_bytes());
        parts.extend(
            user.password
                .as_ref()
                .map(|password| password.expose_secret().as_bytes().to_vec()),
        );
    }
    if let Some(environment) = environment {
        parts.push(environment.path.clone().into_bytes());
        let variables = environment.variables.iter();
        parts.extend(variables.map(|(name, value)| format!("{name}={}", value.expose_secret()).into_bytes()));
    }
    parts
}

fn digest_hex<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digester = Digester::new(Algorithm::Sha256);
    for part in parts {
        digester.update(&(part.len() as u64).to_be_bytes());
        digester.update(part);
    }
    digester.finish().hex().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_baseline(provider: &str, initramfs: &str, system: &str, boot: &str) -> Baseline {
        Baseline {
            provider: Some(provider.to_owned()),
            initramfs: initramfs.to_owned(),
            system: system.to_owned(),
            boot: boot.to_owned(),
        }
    }

    #[test]
    fn conditions_follow_from_what_changed_since_the_host_came_up() {
        let before = mk_baseline("os:1", "stages-1", "linux-1", "boot-1");
        let cases = [
            (
                "nothing",
                mk_baseline("os:1", "stages-1", "linux-1", "boot-1"),
                (false, false),
            ),
            (
                "provider image",
                mk_baseline("os:2", "stages-1", "linux-1", "boot-1"),
                (true, false),
            ),
            (
                "initramfs stage",
                mk_baseline("os:1", "stages-2", "linux-1", "boot-1"),
                (false, true),
            ),
            (
                "both",
                mk_baseline("os:2", "stages-2", "linux-1", "boot-1"),
                (true, true),
            ),
            (
                "stage, then rebooted",
                mk_baseline("os:1", "stages-2", "linux-1", "boot-2"),
                (false, false),
            ),
            (
                "both, then rebooted",
                mk_baseline("os:2", "stages-2", "linux-1", "boot-2"),
                (true, false),
            ),
            (
                "both, then repaved",
                mk_baseline("os:2", "stages-2", "linux-2", "boot-2"),
                (false, false),
            ),
        ];
        for (what, now, wanted) in cases {
            let (baseline, conditions) = compare_baseline(&before, &now);
            let got = (
                conditions.repave_required.is_some(),
                conditions.reboot_required.is_some(),
            );
            assert_eq!(got, wanted, "{what}");
            assert_eq!(
                compare_baseline(&baseline, &now).1,
                conditions,
                "{what}: the condition stays until it is met"
            );
        }
    }
}
