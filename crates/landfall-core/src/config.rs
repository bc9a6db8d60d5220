//! Parser and checks of the configuration: user-data and profiles become [`Settings`]. No other module sees raw YAML.
//!
//! Files become `text::Text`s, and texts become trees of `node::Node`s. `shape` compares a tree with the table of known
//! keys (`keys`), readers take the values out, [`parse_settings`] assembles them, and `checks` examine the whole. Each
//! step reports its findings and continues.

mod address;
mod admission_plugins;
mod checks;
mod cluster;
pub(crate) mod codes;
mod connect;
mod facts;
mod fix;
mod images;
mod keys;
mod known_key;
mod near;
mod node;
mod profile;
mod registry;
pub(crate) mod report;
mod schema;
pub(crate) mod shape;
mod stages;
mod template;
pub(crate) mod text;
mod user_data;
mod values_file;
pub(crate) mod yaml;

use crate::diagnostic::{Diagnostics, NamedText};
use crate::settings::{Compat, RegistryRole, Settings};

pub use codes::{CodeDoc, all_codes};
pub use fix::fix_profile;
pub use schema::{profile_schema, user_data_schema};
pub use template::{TemplateValueError, TemplateValues};

use facts::Facts;
use report::Report;

/// The inputs of [`parse_settings`].
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// User-data files; later ones lie on top of earlier ones. May be empty.
    pub user_data: Vec<NamedText>,
    /// Cluster profiles. May be empty.
    pub profiles: Vec<NamedText>,
    /// Values for the templates of the profiles.
    pub values: TemplateValues,
    /// The product whose behaviour is reproduced.
    pub compat: Compat,
}

/// Parses all inputs and reports all findings. The settings are `None` only if no file could be parsed: commands show
/// their result even if there are errors [spec:combinations.findings].
#[must_use]
pub fn parse_settings(inputs: &Inputs) -> (Option<Settings>, Diagnostics) {
    let mut report = Report::default();
    let mut facts = Facts::default();
    facts.settings.compat = inputs.compat;
    let user_data = user_data::parse_user_data(&inputs.user_data, &mut report);
    if let Some(root) = &user_data {
        user_data::read_user_data(root, &mut facts, &mut report);
    }
    profile::read_profiles(&inputs.profiles, &inputs.values, &mut facts, &mut report);
    if let Some(root) = &user_data {
        user_data::read_own_primary(root, &mut facts, &mut report);
    }
    facts.images = images::merge_images(std::mem::take(&mut facts.images));
    let settings = assemble(&facts);
    checks::run_checks(&facts, &settings, &mut report);
    let nothing_given = inputs.user_data.is_empty() && inputs.profiles.is_empty();
    let readable = user_data.is_some() || facts.has_profile || nothing_given;
    let files = inputs.user_data.iter().chain(&inputs.profiles);
    (readable.then_some(settings), report.finish(files))
}

fn assemble(facts: &Facts) -> Settings {
    let mut settings = facts.settings.clone();
    settings.registries = facts.registries.iter().map(|registry| registry.value.clone()).collect();
    settings.rules = facts.rules.iter().map(|rule| rule.value.clone()).collect();
    settings.images = facts.images.iter().map(|image| image.value.clone()).collect();
    if settings.compat == Compat::Palette {
        limit_as_palette(&mut settings);
    }
    settings
}

/// Applies Palette's limits [spec:combinations.compat]: no provider login beside an external registry, and one provider
/// registry.
fn limit_as_palette(settings: &mut Settings) {
    let has_external = settings
        .registries
        .iter()
        .any(|registry| registry.role == RegistryRole::External);
    let mut providers = 0;
    settings.registries.retain(|registry| {
        let is_provider = registry.role == RegistryRole::Provider;
        providers += usize::from(is_provider);
        !is_provider || (!has_external && providers == 1)
    });
}
