//! The phases that fetch, load and push images. Each takes stock, has the missing steps planned, and applies them. A
//! second run finds nothing to do: that makes every phase resumable.

use std::sync::Arc;

use landfall_core::plan::{Step, plan_steps};
use landfall_core::status::Phase;
use landfall_core::wording::counted;

use crate::agent::active_config::ActiveConfig;
use crate::agent::apply::{Applied, Failed, apply_steps};
use crate::agent::config_loader::FilesChanged;
use crate::agent::host::Host;
use crate::agent::ledger::LedgerFile;
use crate::agent::stock::{StockScope, show_stock, take_stock};

/// Applies the missing steps of a phase, and returns a sentence for its event. `changed` is ready when an input file
/// changed.
///
/// # Errors
///
/// If an image failed, stock could not be taken, or a file changed during the phase.
pub(crate) async fn apply_phase(
    host: &Arc<Host>,
    active: &ActiveConfig,
    ledger: &mut LedgerFile,
    phase: Phase,
    changed: impl Future<Output = FilesChanged>,
) -> anyhow::Result<String> {
    let steps = missing_steps(host, active, ledger, phase).await?;
    if steps.is_empty() {
        return Ok("nothing to do".to_owned());
    }
    let results = tokio::select! {
        results = apply_steps(host, active, steps) => results,
        // A registry that does not answer must not delay its own correction. Data that arrived is kept.
        changed = changed => return Err(changed.into()),
    };
    let images = results.len();
    let failures = remember(ledger, results)?;
    if !failures.is_empty() {
        return Err(ImagesFailed {
            summary: summarize_failures(images, &failures),
        }
        .into());
    }
    // The phase verifies the result instead of trusting it.
    match missing_steps(host, active, ledger, phase).await?.len() {
        0 => Ok(counted(images, "image")),
        left => anyhow::bail!(
            "{} to do again: something else changes what was done",
            counted(left, "step")
        ),
    }
}

/// Returns the steps of a phase that are still to be done.
async fn missing_steps(
    host: &Host,
    active: &ActiveConfig,
    ledger: &LedgerFile,
    phase: Phase,
) -> anyhow::Result<Vec<Step>> {
    let inventory = take_stock(host, active, ledger.get(), StockScope::of_phase(phase)).await?;
    let mut steps = plan_steps(&active.settings, &active.planned, &inventory);
    show_stock(&host.status, &active.planned, &inventory, &steps);
    steps.retain(|step| step.phase() == phase);
    Ok(steps)
}

/// Writes into the ledger what was done, and returns what failed.
fn remember(ledger: &mut LedgerFile, results: Vec<Result<Applied, Failed>>) -> anyhow::Result<Vec<Failed>> {
    let mut failures = Vec::new();
    ledger.update(|ledger| {
        for result in results {
            match result {
                Ok(Applied::InPlace) => {}
                Ok(Applied::Core(core)) => ledger.core_images = Some(core),
                Ok(Applied::Pushed { target, digest }) => {
                    ledger.primary.insert(target, digest);
                }
                Err(failure) => failures.push(failure),
            }
        }
    })?;
    Ok(failures)
}

/// Images failed. Each of them was an event; the text summarizes them.
#[derive(Debug, thiserror::Error)]
#[error("{summary}")]
pub(crate) struct ImagesFailed {
    pub(crate) summary: String,
}

/// The number of failures that the summary quotes. The events have the others.
const QUOTED_MAX: usize = 3;

fn summarize_failures(images: usize, failures: &[Failed]) -> String {
    if let ([only], 1) = (failures, images) {
        return only.explanation.line();
    }
    let mut text = format!("{} of {} failed", failures.len(), counted(images, "image"));
    for failure in failures.iter().take(QUOTED_MAX) {
        text.push_str(": ");
        text.push_str(&failure.explanation.line());
    }
    if failures.len() > QUOTED_MAX {
        text.push_str(": `landfall events` has the others");
    }
    text
}
