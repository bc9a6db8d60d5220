//! Independence of the agent's phases [spec:agent.phases]: a phase waits only for what it needs, so that one image that
//! cannot be fetched keeps neither the primary registry nor the webhook away.

use crate::plan::{Inventory, Step};
use crate::status::Phase;

/// Facts of a pass through the phases, before the next phase begins.
#[derive(Debug, Clone, Copy)]
pub struct PassFacts<'a> {
    /// True if a configuration is active: the one in the files, or the last good one.
    pub is_configured: bool,
    /// The phases of this pass that failed.
    pub failed: &'a [Phase],
}

/// Returns the failed phase without whose result `phase` cannot run; `None` if `phase` may run.
///
/// The order of the phases stays: the provider image is tried first, and the infrastructure before the primary
/// registry. A failure stops only what needs the missing result.
#[must_use]
pub fn blocked_by(phase: Phase, pass: PassFacts<'_>) -> Option<Phase> {
    match phase {
        Phase::Validating | Phase::Running | Phase::Degraded => None,
        _ if !pass.is_configured => Some(Phase::Validating),
        // The core images are files in the layers of the provider image.
        Phase::CoreImages => pass
            .failed
            .contains(&Phase::ProviderImage)
            .then_some(Phase::ProviderImage),
        Phase::ProviderImage | Phase::Images | Phase::PrimaryRegistry | Phase::Redirect => None,
    }
}

/// The steps of one phase.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PhaseSteps {
    /// Steps that can be applied now.
    pub ready: Vec<Step>,
    /// Steps of images that are not in the content store, and that no step of this phase brings there.
    pub without_image: Vec<Step>,
    /// Steps that need containerd, which does not answer.
    pub without_runtime: Vec<Step>,
}

/// Selects the steps of a phase, and separates those that cannot succeed. `runtime_answers` is true if containerd
/// answers, or is not used.
#[must_use]
pub fn split_steps(steps: Vec<Step>, phase: Phase, inventory: &Inventory, runtime_answers: bool) -> PhaseSteps {
    let mut split = PhaseSteps::default();
    for step in steps.into_iter().filter(|step| step.phase() == phase) {
        let needs_runtime = matches!(step, Step::LoadImage { .. } | Step::LoadCoreImages { .. });
        // The step that stores an image is in the phase of the step that loads it, and comes first.
        let lacks_image = match &step {
            Step::StoreImage { .. } | Step::LoadImage { .. } => false,
            Step::LoadCoreImages { provider: name, .. } | Step::PushImage { name, .. } => {
                !inventory.stored.contains_key(name)
            }
        };
        if lacks_image {
            split.without_image.push(step);
        } else if needs_runtime && !runtime_answers {
            split.without_runtime.push(step);
        } else {
            split.ready.push(step);
        }
    }
    split
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Reason;
    use crate::reference::ImageReference;
    use crate::settings::ImageRole;

    /// Returns the phases that run when some phases fail, the failed ones included.
    fn run(configured: bool, fails: &[Phase]) -> Vec<Phase> {
        let (mut ran, mut failed) = (Vec::new(), Vec::new());
        for phase in Phase::WORK {
            let facts = PassFacts {
                is_configured: configured,
                failed: &failed,
            };
            if blocked_by(phase, facts).is_none() {
                ran.push(phase);
                if fails.contains(&phase) {
                    failed.push(phase);
                }
            }
        }
        ran
    }

    #[test]
    fn each_phase_that_fails_alone_stops_only_what_needs_it() {
        use Phase::{CoreImages, Images, PrimaryRegistry, ProviderImage, Redirect, Validating};
        let all = Phase::WORK.to_vec();
        for (configured, fails, expected) in [
            (true, &[][..], all.clone()),
            (false, &[Validating], vec![Validating]),
            // The last good configuration is active, or the status API cannot listen.
            (true, &[Validating], all.clone()),
            (
                true,
                &[ProviderImage],
                vec![Validating, ProviderImage, Images, PrimaryRegistry, Redirect],
            ),
            (true, &[CoreImages], all.clone()),
            (true, &[Images], all.clone()),
            (true, &[PrimaryRegistry], all.clone()),
            (true, &[Redirect], all.clone()),
            (
                true,
                &[ProviderImage, Images, PrimaryRegistry, Redirect],
                vec![Validating, ProviderImage, Images, PrimaryRegistry, Redirect],
            ),
        ] {
            assert_eq!(run(configured, fails), expected, "{fails:?} fail");
        }
    }

    #[test]
    fn steps_that_cannot_succeed_are_set_apart() {
        let name = |text: &str| text.parse::<ImageReference>().unwrap();
        let store = |text: &str, role| Step::StoreImage {
            planned: 0,
            role,
            name: name(text),
            reason: Reason::NotStored,
        };
        let core = Step::LoadCoreImages {
            provider: name("example.io/os:1"),
            reason: Reason::NotLoaded,
        };
        let load = Step::LoadImage {
            name: name("example.io/cni:1"),
            as_names: Vec::new(),
            reason: Reason::NotLoaded,
        };
        let push = |text: &str| Step::PushImage {
            name: name(text),
            target: name("reg:5000/web:1"),
            reason: Reason::NotInPrimary,
        };
        let steps = vec![
            store("example.io/os:1", ImageRole::Provider),
            core.clone(),
            store("example.io/cni:1", ImageRole::Infrastructure),
            load.clone(),
            push("example.io/web:1"),
            push("example.io/gone:1"),
        ];
        let digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let mut inventory = Inventory {
            stored: [(name("example.io/web:1"), digest)].into(),
            ..Inventory::default()
        };
        let split = |phase, inventory: &Inventory, answers| split_steps(steps.clone(), phase, inventory, answers);

        let images = split(Phase::Images, &inventory, true);
        assert_eq!(images.ready, [steps[2].clone(), load.clone()]);
        let images = split(Phase::Images, &inventory, false);
        assert_eq!(
            (images.ready, images.without_runtime),
            (vec![steps[2].clone()], vec![load])
        );
        let pushes = split(Phase::PrimaryRegistry, &inventory, false);
        assert_eq!(pushes.ready, [push("example.io/web:1")]);
        assert_eq!(pushes.without_image, [push("example.io/gone:1")]);
        assert_eq!(
            split(Phase::CoreImages, &inventory, true).without_image,
            std::slice::from_ref(&core)
        );
        inventory.stored.insert(
            name("example.io/os:1"),
            format!("sha256:{}", "b".repeat(64)).parse().unwrap(),
        );
        assert_eq!(
            split(Phase::CoreImages, &inventory, true).ready,
            std::slice::from_ref(&core)
        );
        assert_eq!(split(Phase::CoreImages, &inventory, false).without_runtime, [core]);
    }
}
