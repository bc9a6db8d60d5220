//! What each phase does. A phase takes stock, asks the plan what is missing, and has it applied: run twice, the second
//! time finds nothing to do, which is what makes every phase resumable.

use std::sync::Arc;

use landfall_core::config::PrimaryKind;
use landfall_core::plan::{Step, plan_steps};
use landfall_core::status::Phase;
use landfall_core::wording::counted;

use crate::agent::apply::{Applied, Failed, apply_steps};
use crate::agent::reconciler::{ActiveConfig, Reconciler};
use crate::agent::survey::{show_stock, take_stock};
use crate::options::Role;

impl Reconciler {
    /// Runs one phase. The answer is a sentence for its event.
    ///
    /// # Errors
    ///
    /// When the phase could not be completed: what failed, where, and what to mend.
    pub(super) async fn run_phase(&mut self, phase: Phase) -> anyhow::Result<String> {
        if phase == Phase::Validating {
            let active = self.take_configuration().await?;
            self.ensure_api(&active.settings).await?;
            self.resume_services(&active).await;
            return Ok(counted(active.planned.len(), "image"));
        }
        let Some(active) = self.active.clone() else {
            anyhow::bail!("no configuration is in force");
        };
        match phase {
            Phase::ProviderImage => self.apply_phase(&active, phase, false).await,
            Phase::CoreImages | Phase::Images => self.apply_phase(&active, phase, true).await,
            Phase::PrimaryRegistry if self.role == Role::Webhook => self.survey_primary(&active).await,
            Phase::PrimaryRegistry => {
                let Some(primary) = &active.settings.primary else {
                    self.end_primary().await;
                    return Ok("no primary registry is configured".to_owned());
                };
                self.bring_up_primary(&active, primary).await?;
                self.find_lost_images(&active).await?;
                self.apply_phase(&active, phase, false).await
            }
            Phase::Redirect => {
                // A pod has neither kubelet nor container runtime to tell, and a file system that is not to be written.
                if self.role == Role::Host {
                    self.serve_mirror(&active).await?;
                    self.write_host_files(&active).await?;
                }
                let words = self.redirect(&active).await?;
                Ok(self.tell_node_level(&active.settings, words))
            }
            Phase::Validating | Phase::Running | Phase::Degraded => Ok(String::new()),
        }
    }

    /// Serves again what was served before a restart, before anything is fetched: pods must not wait for a registry far
    /// away that may be down. A failure is told by the phase that comes to it.
    async fn resume_services(&mut self, active: &Arc<ActiveConfig>) {
        if self.ledger.get().baseline.is_none() {
            return;
        }
        if let Some(primary) =
            (active.settings.primary.as_ref()).filter(|primary| primary.kind == PrimaryKind::Embedded)
            && let Err(error) = self.serve_primary(active, primary).await
        {
            tracing::warn!(error = format!("{error:#}"), "cannot serve the primary registry yet");
        }
        if let Err(error) = self.serve_mirror(active).await {
            tracing::warn!(error = format!("{error:#}"), "cannot serve the node-local mirror yet");
        }
        if let Err(error) = self.redirect(active).await {
            tracing::warn!(error = format!("{error:#}"), "cannot redirect yet");
        }
    }

    async fn apply_phase(
        &mut self,
        active: &Arc<ActiveConfig>,
        phase: Phase,
        with_runtime: bool,
    ) -> anyhow::Result<String> {
        let steps = self.missing(active, phase, with_runtime).await?;
        if steps.is_empty() {
            return Ok("nothing to do".to_owned());
        }
        let results = tokio::select! {
            results = apply_steps(&self.host, active, steps) => results,
            // A registry that does not answer must not keep its own correction waiting. What arrived is kept.
            changed = self.files_changed() => return Err(changed.into()),
        };
        let images = results.len();
        let failures = self.remember(results)?;
        if !failures.is_empty() {
            return Err(ImagesFailed(summarize_failures(images, &failures)).into());
        }
        // What was applied is looked at, not believed.
        match self.missing(active, phase, with_runtime).await?.len() {
            0 => Ok(counted(images, "image")),
            left => anyhow::bail!(
                "{} to do again: something else changes what was done",
                counted(left, "step")
            ),
        }
    }

    /// The steps of a phase that are still to be done.
    async fn missing(&self, active: &Arc<ActiveConfig>, phase: Phase, with_runtime: bool) -> anyhow::Result<Vec<Step>> {
        let ledger = self.ledger.get();
        let inventory = take_stock(&self.host, active, ledger, with_runtime).await?;
        let mut steps = plan_steps(&active.settings, &active.planned, &inventory);
        show_stock(&self.host.status, &active.planned, &inventory, &steps);
        steps.retain(|step| step.phase() == phase);
        Ok(steps)
    }

    /// Writes into the ledger what was done; hands back what failed.
    fn remember(&mut self, results: Vec<Result<Applied, Failed>>) -> anyhow::Result<Vec<Failed>> {
        let mut failures = Vec::new();
        self.ledger.update(|ledger| {
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
}

/// Images failed: each of them was an event. The text sums them up.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ImagesFailed(String);

/// The first of these many failures are told in full; the events tell the rest.
const TOLD_IN_FULL: usize = 3;

fn summarize_failures(images: usize, failures: &[Failed]) -> String {
    if let ([only], 1) = (failures, images) {
        return only.explanation.to_string();
    }
    let mut text = format!("{} of {} failed", failures.len(), counted(images, "image"));
    for failure in failures.iter().take(TOLD_IN_FULL) {
        text.push_str(": ");
        text.push_str(&failure.explanation.to_string());
    }
    if failures.len() > TOLD_IN_FULL {
        text.push_str(": the others are told by `landfall events`");
    }
    text
}
