//! Plans: the order of work, the reasons, and the property that an applied plan leaves an empty plan.
#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::collections::BTreeSet;

use common::{mk_reference, with_external, with_image, with_primary, with_rule, without_redirection};
use landfall_core::plan::{Inventory, PlannedImage, Step, plan_images, plan_steps};
use landfall_core::reference::Digest;
use landfall_core::resolve::Resolver;
use landfall_core::settings::{ImageRole, Settings};
use landfall_core::status::Phase;
use proptest::prelude::*;

const PRIMARY: &str = "10.10.100.45:30003";

fn mk_digest(fill: char) -> Digest {
    format!("sha256:{}", fill.to_string().repeat(64)).parse().unwrap()
}

fn plan(settings: &Settings) -> Vec<PlannedImage> {
    plan_images(settings, &Resolver::new(settings))
}

/// Applies a step to the inventory, as the agent's effect would.
fn apply(inventory: &mut Inventory, step: &Step) {
    match step {
        Step::StoreImage { name, .. } => {
            inventory.stored.insert(name.clone(), mk_digest('a'));
        }
        Step::LoadCoreImages { provider, .. } => {
            inventory.core_loaded.insert(inventory.stored[provider].clone());
        }
        Step::LoadImage { name, as_names, .. } => {
            let digest = inventory.stored[name].clone();
            inventory
                .runtime
                .extend(as_names.iter().map(|name| (name.clone(), digest.clone())));
        }
        Step::PushImage { name, target, .. } => {
            inventory.primary.insert(target.clone(), inventory.stored[name].clone());
        }
    }
}

fn show(steps: &[Step]) -> String {
    let line = |step: &Step| match step {
        Step::StoreImage { name, reason, .. } => format!("{:?}: store {name} ({reason:?})", step.phase()),
        Step::LoadCoreImages { provider, reason } => {
            format!("{:?}: load core images of {provider} ({reason:?})", step.phase())
        }
        Step::LoadImage { name, as_names, reason } => {
            format!(
                "{:?}: load {name} as {} ({reason:?})",
                step.phase(),
                as_names.join(" and ")
            )
        }
        Step::PushImage { name, target, reason } => format!("{:?}: push {name} to {target} ({reason:?})", step.phase()),
    };
    steps.iter().map(|step| line(step) + "\n").collect()
}

fn edge() -> Settings {
    let settings = with_image(Settings::default(), ImageRole::Application, "nginx:1.27");
    let settings = with_image(settings, ImageRole::Infrastructure, "quay.io/calico/node:v3");
    with_image(settings, ImageRole::Provider, "quay.io/kairos/core:1")
}

#[test]
fn the_provider_image_is_first_then_infrastructure_then_applications_then_the_primary_registry() {
    let settings = with_primary(with_external(edge(), "reg:5000"), PRIMARY, true);
    let steps = plan_steps(&settings, &plan(&settings), &Inventory::default());
    insta::assert_snapshot!(show(&steps), @r"
    ProviderImage: store quay.io/kairos/core:1 (NotStored)
    CoreImages: load core images of quay.io/kairos/core:1 (NotLoaded)
    Images: store quay.io/calico/node:v3 (NotStored)
    Images: load quay.io/calico/node:v3 as quay.io/calico/node:v3 and reg:5000/quay.io/calico/node:v3 (NotLoaded)
    Images: store docker.io/library/nginx:1.27 (NotStored)
    PrimaryRegistry: push docker.io/library/nginx:1.27 to 10.10.100.45:30003/spectro-images/reg_5000/docker.io/library/nginx:1.27 (NotInPrimary)
    ");
}

#[test]
fn without_containerd_only_core_images_are_extracted_and_without_a_primary_nothing_is_pushed() {
    let mut settings = edge();
    settings.landfall.containerd_enable = false;
    let steps = plan_steps(&settings, &plan(&settings), &Inventory::default());
    insta::assert_snapshot!(show(&steps), @r"
    ProviderImage: store quay.io/kairos/core:1 (NotStored)
    CoreImages: load core images of quay.io/kairos/core:1 (NotLoaded)
    Images: store quay.io/calico/node:v3 (NotStored)
    Images: store docker.io/library/nginx:1.27 (NotStored)
    ");
}

#[test]
fn with_redirection_off_images_come_from_the_origin_and_still_go_to_the_primary_registry() {
    let settings = without_redirection(with_primary(with_external(edge(), "reg:5000"), PRIMARY, true));
    let planned = plan(&settings);
    let nginx = planned
        .iter()
        .find(|image| image.role == ImageRole::Application)
        .unwrap();
    assert_eq!(nginx.pull.len(), 1);
    assert_eq!(nginx.pull[0].reference, mk_reference("docker.io/library/nginx:1.27"));
    assert_eq!(nginx.runtime, mk_reference("docker.io/library/nginx:1.27"));
    assert_eq!(
        nginx.primary,
        Some(mk_reference(&format!(
            "{PRIMARY}/spectro-images/reg_5000/docker.io/library/nginx:1.27"
        )))
    );
}

#[test]
fn what_changed_is_done_again_and_nothing_else() {
    let settings = with_primary(edge(), PRIMARY, true);
    let planned = plan(&settings);
    let mut inventory = Inventory::default();
    for step in plan_steps(&settings, &planned, &inventory) {
        apply(&mut inventory, &step);
    }
    let provider = mk_reference("quay.io/kairos/core:1");
    let nginx = mk_reference("docker.io/library/nginx:1.27");
    let kept = mk_reference(&format!("{PRIMARY}/spectro-images/docker.io/library/nginx:1.27"));
    for (case, change) in [
        (
            "another provider image",
            &(|inventory: &mut Inventory| {
                inventory.stored.insert(provider.clone(), mk_digest('b'));
            }) as &dyn Fn(&mut Inventory),
        ),
        ("the primary registry lost an image", &|inventory| {
            inventory.primary.remove(&kept);
        }),
        ("the primary registry holds an older image", &|inventory| {
            inventory.primary.insert(kept.clone(), mk_digest('b'));
        }),
        ("the store lost an image", &|inventory| {
            inventory.stored.remove(&nginx);
        }),
        ("containerd lost an image", &|inventory| inventory.runtime.clear()),
    ] {
        let mut changed = inventory.clone();
        change(&mut changed);
        let steps = plan_steps(&settings, &planned, &changed);
        assert!(!steps.is_empty(), "{case}");
        for step in &steps {
            apply(&mut changed, step);
        }
        assert_eq!(show(&plan_steps(&settings, &planned, &changed)), "", "{case}");
    }
}

#[test]
fn an_image_that_was_brought_by_hand_is_not_asked_for_again() {
    let settings = with_image(Settings::default(), ImageRole::Application, "nginx:1.27");
    let settings = with_primary(settings, PRIMARY, false);
    let planned = plan(&settings);
    assert_eq!(planned[0].pull, []);
    let mut inventory = Inventory::default();
    assert_eq!(plan_steps(&settings, &planned, &inventory).len(), 2);
    inventory
        .primary
        .insert(planned[0].primary.clone().unwrap(), mk_digest('a'));
    assert_eq!(plan_steps(&settings, &planned, &inventory), []);
}

#[test]
fn two_sources_with_one_name_in_the_primary_registry_do_not_replace_each_other() {
    let settings = with_rule(Settings::default(), "quay.io", "ex.com/q");
    let settings = with_image(settings, ImageRole::Application, "quay.io/x:1");
    let settings = with_image(settings, ImageRole::Application, "ex.com/q/x:1");
    let settings = with_primary(settings, PRIMARY, true);
    let steps = plan_steps(&settings, &plan(&settings), &Inventory::default());
    assert_eq!(
        steps
            .iter()
            .filter(|step| step.phase() == Phase::PrimaryRegistry)
            .count(),
        1
    );
}

fn settings() -> impl Strategy<Value = Settings> {
    let role = prop_oneof![
        Just(ImageRole::Provider),
        Just(ImageRole::Infrastructure),
        Just(ImageRole::Application)
    ];
    let image = (role, "([ab]\\.io/)?[ab](/[ab]){0,2}(:[12])?");
    (
        proptest::collection::vec(image, 0..12),
        proptest::option::of("[abc]\\.io(/[ab])?"),
        proptest::option::of(("[ab]\\.io", "c\\.io(/[ab])?")),
        any::<Option<bool>>(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(images, external, rule, primary, containerd, redirection)| {
            let mut settings = Settings::default();
            for (role, source) in images {
                settings = with_image(settings, role, &source);
            }
            if let Some(external) = external {
                settings = with_external(settings, &external);
            }
            if let Some((from, to)) = rule {
                settings = with_rule(settings, &from, &to);
            }
            if let Some(sync) = primary {
                settings = with_primary(settings, PRIMARY, sync);
            }
            settings.landfall.containerd_enable = containerd;
            settings.webhook.enable = redirection;
            settings
        })
}

proptest! {
    #[test]
    fn a_plan_applied_leaves_an_empty_plan(settings in settings(), done in 0_usize..30) {
        let planned = plan(&settings);
        let mut inventory = Inventory::default();
        // The agent loses power after any step, and then runs the rest.
        for step in plan_steps(&settings, &planned, &inventory).iter().take(done) {
            apply(&mut inventory, step);
        }
        for step in plan_steps(&settings, &planned, &inventory) {
            apply(&mut inventory, &step);
        }
        prop_assert_eq!(plan_steps(&settings, &planned, &inventory), []);
    }

    #[test]
    fn phases_come_in_order_and_every_image_is_stored_before_it_is_used(settings in settings()) {
        let planned = plan(&settings);
        let steps = plan_steps(&settings, &planned, &Inventory::default());
        let phases: Vec<Phase> = steps.iter().map(Step::phase).collect();
        prop_assert!(phases.is_sorted());
        let mut stored = BTreeSet::new();
        for step in &steps {
            match step {
                Step::StoreImage { name, planned: index, role, .. } => {
                    prop_assert_eq!(&planned[*index].canonical, name);
                    prop_assert_eq!(planned[*index].role, *role);
                    prop_assert!(stored.insert(name), "stored twice");
                }
                Step::LoadCoreImages { provider: name, .. }
                | Step::LoadImage { name, .. }
                | Step::PushImage { name, .. } => prop_assert!(stored.contains(name)),
            }
        }
    }

    #[test]
    fn the_agent_never_pulls_from_the_primary_registry_that_it_fills(settings in settings()) {
        for image in plan(&settings) {
            for candidate in &image.pull {
                prop_assert_ne!(candidate.reference.host.as_str(), PRIMARY);
            }
        }
    }
}
