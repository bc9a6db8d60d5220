//! The decisions: a plan of 10,000 images with 1,000 rules, and one resolution among as many.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Context as _;
use landfall_core::config::{Inputs, parse_settings};
use landfall_core::diagnostic::NamedText;
use landfall_core::plan::{Inventory, plan_images, plan_steps};
use landfall_core::reference::parse_reference;
use landfall_core::resolve::Resolver;
use landfall_core::settings::{ImageRole, MappingRule, ProfileImage, RulePrefix, Settings};

use crate::process::{median, time};
use crate::report::Row;

const IMAGES: usize = 10_000;
const RULES: usize = 1_000;
const RUNS: usize = 20;

pub(crate) fn measure() -> anyhow::Result<Vec<Row>> {
    let settings = mk_settings()?;
    let plans = (0..RUNS).map(|_| time(|| black_box(plan(black_box(&settings)))).as_secs_f64() * 1e3);
    let plan_milliseconds = median(plans.collect());

    let resolver = Resolver::new(&settings);
    let resolves = (0..RUNS).map(|_| {
        let all = time(|| {
            for image in &settings.images {
                black_box(resolver.resolve(black_box(&image.reference), ImageRole::Application));
            }
        });
        all.as_secs_f64() * 1e6 / IMAGES as f64
    });
    let resolve_microseconds = median(resolves.collect());
    Ok(vec![
        Row::new(
            "plan of 10,000 images against 1,000 rules",
            "time, ms",
            plan_milliseconds,
            50.0,
        ),
        Row::new(
            "one resolution among 1,000 rules",
            "time, µs",
            resolve_microseconds,
            1.0,
        ),
    ])
}

/// Plans everything: compiles the rules, resolves every image, and plans the steps of an empty host.
fn plan(settings: &Settings) -> usize {
    let resolver = Resolver::new(settings);
    let planned = plan_images(settings, &resolver);
    plan_steps(settings, &planned, &Inventory::default()).len()
}

/// Returns settings as a user would write them, then multiplied: the limits of the parser are far below these
/// numbers.
fn mk_settings() -> anyhow::Result<Settings> {
    let mut user_data = "#cloud-config\nlandfall:\n  primary:\n    endpoint: 10.10.100.45:30003\n".to_owned();
    user_data.push_str("stylus:\n  externalRegistries:\n    registries:\n");
    for registry in 0..4 {
        user_data.push_str(&format!(
            "      - domain: mirror{registry}.example.com/images\n        username: robot\n        password: x\n"
        ));
    }
    user_data
        .push_str("    registryMappingRules:\n      us-docker.pkg.dev/team/0: mirror0.example.com/images/team/0\n");
    let profile = "{metadata: {name: bench}, spec: {version: '1', template: {packs: [{name: app, layer: addon, tag: '1', \
                   values: 'pack: {content: {images: [{image: us-docker.pkg.dev/team/0/x:1}]}}'}]}}}";
    let named = |name: &str, text: &str| NamedText {
        name: Arc::from(name),
        text: Arc::from(text),
    };
    let inputs = Inputs {
        user_data: vec![named("user-data.yaml", &user_data)],
        profiles: vec![named("profile.yaml", profile)],
        ..Inputs::default()
    };
    let (settings, diagnostics) = parse_settings(&inputs);
    let mut settings = settings.with_context(|| format!("the benchmark's input has errors: {diagnostics:?}"))?;
    let rule = settings.rules.first().context("no rule was read")?.clone();
    let image = settings.images.first().context("no image was read")?.clone();
    settings.rules = (0..RULES)
        .map(|index| mk_rule(&rule, index))
        .collect::<anyhow::Result<_>>()?;
    settings.images = (0..IMAGES)
        .map(|index| mk_image(&image, index))
        .collect::<anyhow::Result<_>>()?;
    Ok(settings)
}

fn mk_rule(rule: &MappingRule, index: usize) -> anyhow::Result<MappingRule> {
    Ok(MappingRule {
        from: RulePrefix::Path {
            host: "us-docker.pkg.dev".parse()?,
            path: format!("team/{index}"),
        },
        to_path: format!("images/team/{index}"),
        ..rule.clone()
    })
}

fn mk_image(image: &ProfileImage, index: usize) -> anyhow::Result<ProfileImage> {
    let source = format!(
        "us-docker.pkg.dev/team/{}/packs/app-{index}/server:v1.{index}.0",
        index % RULES
    );
    Ok(ProfileImage {
        reference: parse_reference(&source)?,
        source,
        ..image.clone()
    })
}
