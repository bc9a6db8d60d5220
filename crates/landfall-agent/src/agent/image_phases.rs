//! The phases that fetch, load and push images. Each takes stock, has the missing steps planned, and applies them. A
//! second run finds nothing to do: that makes every phase resumable.

use std::sync::Arc;

use landfall_core::failure::Explanation;
use landfall_core::plan::phases::{PhaseSteps, split_steps};
use landfall_core::plan::plan_steps;
use landfall_core::schedule::shortest_wait;
use landfall_core::status::Phase;
use landfall_core::wording::counted;
use tokio::time::Instant;

use crate::agent::active_config::ActiveConfig;
use crate::agent::apply::{Applied, Causes, apply_steps};
use crate::agent::config_loader::FilesChanged;
use crate::agent::host::Host;
use crate::agent::ledger::LedgerFile;
use crate::agent::stock::{RuntimeStock, Stock, StockScope, show_stock, take_stock};
use crate::agent::transfer::Failed;

/// Applies the missing steps of a phase, and returns a sentence for its event. `changed` is ready when an input file
/// changed.
///
/// # Errors
///
/// If an image failed, stock could not be taken, or a file changed during the phase. The other images are done then.
pub(crate) async fn apply_phase(
    host: &Arc<Host>,
    active: &ActiveConfig,
    ledger: &mut LedgerFile,
    phase: Phase,
    causes: &Causes,
    changed: impl Future<Output = FilesChanged>,
) -> anyhow::Result<String> {
    let Missing { steps, runtime } = missing_steps(host, active, ledger, phase).await?;
    let waiting = steps.without_image.len();
    let mut images = 0;
    let mut failures = Vec::new();
    if !steps.ready.is_empty() {
        let results = tokio::select! {
            results = apply_steps(host, active, steps.ready, causes) => results,
            // A registry that does not answer must not delay its own correction. Data that arrived is kept.
            changed = changed => return Err(changed.into()),
        };
        images = results.len();
        failures = remember(ledger, results)?;
    }
    if let (Err(problem), false) = (&runtime, steps.without_runtime.is_empty()) {
        let summary = match failures.is_empty() {
            true => problem.line(),
            false => format!("{}; {}", summarize_failures(images, &failures), problem.line()),
        };
        return Err(ImagesFailed::new(summary, &failures, runtime).into());
    }
    if !failures.is_empty() {
        return Err(ImagesFailed::new(summarize_failures(images, &failures), &failures, Ok(())).into());
    }
    // The phase verifies the result instead of trusting it.
    if images > 0 {
        let left = missing_steps(host, active, ledger, phase).await?.steps.ready.len();
        if left > 0 {
            anyhow::bail!(
                "{} to do again: something else changes what was done",
                counted(left, "step")
            );
        }
    }
    Ok(match (images, waiting) {
        (0, 0) => "nothing to do".to_owned(),
        (images, 0) => counted(images, "image"),
        (images, waiting) => format!("{}, {waiting} not in the content store yet", counted(images, "image")),
    })
}

/// The steps of a phase that are still to be done.
struct Missing {
    steps: PhaseSteps,
    /// The reason why containerd could not be asked.
    runtime: Result<(), Explanation>,
}

async fn missing_steps(
    host: &Host,
    active: &ActiveConfig,
    ledger: &LedgerFile,
    phase: Phase,
) -> anyhow::Result<Missing> {
    let Stock { inventory, runtime } = take_stock(host, active, ledger.get(), StockScope::of_phase(phase)).await?;
    let steps = plan_steps(&active.settings, &active.planned, &inventory);
    let is_runtime_known = matches!(runtime, RuntimeStock::Known);
    show_stock(&host.status, &active.planned, &inventory, is_runtime_known, &steps);
    let runtime = match runtime {
        RuntimeStock::Known | RuntimeStock::NotAsked => Ok(()),
        RuntimeStock::Silent(problem) => Err(problem),
    };
    Ok(Missing {
        steps: split_steps(steps, phase, &inventory, runtime.is_ok()),
        runtime,
    })
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

/// Images failed. Each of them was an event; the text summarizes them. If containerd does not answer, the text says that
/// as well.
#[derive(Debug, thiserror::Error)]
#[error("{summary}")]
pub(crate) struct ImagesFailed {
    pub(crate) summary: String,
    /// The failures, in an order that does not depend on the order of the work. The summary also counts the images that
    /// did not fail, which are fewer in the next pass.
    pub(crate) causes: Vec<String>,
    /// True if an earlier phase of the pass failed for the same causes, so that this failure says nothing new.
    pub(crate) is_consequence: bool,
    /// The time before which another attempt asks no registry; `None` if another attempt at an image may succeed at any
    /// time.
    pub(crate) waits_until: Option<Instant>,
}

impl ImagesFailed {
    fn new(summary: String, failures: &[Failed], runtime: Result<(), Explanation>) -> ImagesFailed {
        let waits = failures.iter().map(|failure| failure.waits_until);
        let waits_until = shortest_wait(waits.chain(runtime.is_err().then_some(None)));
        let is_consequence = runtime.is_ok() && failures.iter().all(|failure| failure.is_known);
        let mut causes: Vec<String> = failures.iter().map(|failure| failure.cause.clone()).collect();
        causes.extend(runtime.err().map(|problem| problem.line()));
        causes.sort();
        causes.dedup();
        ImagesFailed {
            summary,
            causes,
            is_consequence,
            waits_until,
        }
    }
}

/// The number of failures that the summary quotes, each for another cause. The status has the others.
const QUOTED_MAX: usize = 3;

fn summarize_failures(images: usize, failures: &[Failed]) -> String {
    if let ([only], 1) = (failures, images) {
        return only.explanation.line();
    }
    let mut text = format!("{} of {} failed", failures.len(), counted(images, "image"));
    let distinct = failures.iter().filter(|failure| !failure.is_known);
    let quoted = distinct.take(QUOTED_MAX).inspect(|failure| {
        text.push_str(": ");
        text.push_str(&failure.explanation.line());
    });
    if quoted.count() < failures.len() {
        text.push_str(": `landfall status` has the others");
    }
    text
}
