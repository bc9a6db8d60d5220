//! Parser and checks of the configuration: user-data and profiles become [`Settings`]. No other module sees raw YAML.
//!
//! Files become `text::Text`s, and texts become trees of `node::Node`s. `shape` compares a tree with the table of known
//! keys (`keys`), readers take the values out, [`parse_settings`] assembles them, and `checks` examine the whole. Each
//! step reports its findings and continues.

mod address;
mod admission_plugins;
mod bundles;
mod charts;
mod checks;
mod cluster;
pub(crate) mod codes;
mod connect;
mod effect;
mod facts;
mod fix;
mod images;
mod input;
mod keys;
mod known_key;
mod near;
mod node;
mod profile;
mod registry;
pub(crate) mod report;
mod schema;
pub(crate) mod shape;
mod site;
mod stages;
mod template;
pub(crate) mod text;
mod unknown;
mod user_data;
mod values_file;
mod variables;
mod version;
pub(crate) mod yaml;

use std::sync::Arc;

use crate::diagnostic::{Diagnostics, NamedText};
use crate::hostconf::containerd_config::ContainerdFacts;
use crate::resolve::BundleOffers;
use crate::settings::{Compat, RegistryRole, Settings};

pub use codes::{CodeDoc, all_codes};
pub use fix::fix_profile;
pub use input::{INPUT_BYTES_MAX, NotAnInput, decode_input};
pub use schema::{profile_schema, user_data_schema};
pub use template::{TemplateValueError, TemplateValues};

use facts::Facts;
use report::Report;
use text::Text;
use unknown::{UnreadFile, find_unknowns};
use yaml::TEXTS_BYTES_MAX;

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
    /// The bundles that the host is to have, as far as that is known.
    pub bundles: Arc<BundleOffers>,
    /// The machine that was looked at; `None` if none was.
    pub machine: Option<Machine>,
}

/// A machine whose programs are to read the files of Landfall.
#[derive(Debug, Clone)]
pub struct Machine {
    pub containerd: ContainerdFacts,
    /// True if the inputs are known to be for this machine. At a desk they are for another one.
    pub is_the_host: bool,
}

/// Parses all inputs and reports all findings. The settings are `None` only if no file could be parsed: commands show
/// their result even if there are errors [spec:combinations.findings], and `unknown` of the settings has the parts that
/// could not be read [spec:combinations.unknown].
#[must_use]
pub fn parse_settings(inputs: &Inputs) -> (Option<Settings>, Diagnostics) {
    let mut report = Report::default();
    let mut facts = Facts::default();
    facts.settings.compat = inputs.compat;
    facts.bundles = inputs.bundles.clone();
    facts.machine = inputs.machine.clone();
    for written in inputs.values.written() {
        report.secret(written.clone());
    }
    let (user_data, profiles) = within_limit(inputs, &mut report);
    let mut unread = Vec::new();
    for (files, within, is_profile) in [
        (&inputs.user_data, &user_data, false),
        (&inputs.profiles, &profiles, true),
    ] {
        unread.extend(files[within.len()..].iter().map(|file| UnreadFile {
            name: &file.name,
            is_profile,
        }));
    }
    let user_data = user_data::parse_user_data(user_data, &mut unread, &mut report);
    if let Some(root) = &user_data {
        user_data::read_user_data(root, &mut facts, &mut report);
    }
    profile::read_profiles(profiles, &inputs.values, &mut unread, &mut facts, &mut report);
    if let Some(root) = &user_data {
        user_data::read_own_primary(root, &mut facts, &mut report);
    }
    facts.images = images::merge_images(std::mem::take(&mut facts.images));
    facts.settings.unknown = find_unknowns(&unread, &report);
    for list in [&mut facts.settings.unknown.sources, &mut facts.settings.unknown.images] {
        list.extend(inputs.values.unread().iter().cloned());
    }
    let settings = assemble(&facts);
    checks::run_checks(&facts, &settings, &mut report);
    let nothing_given = inputs.user_data.is_empty() && inputs.profiles.is_empty();
    let readable = user_data.is_some() || facts.has_profile || nothing_given;
    let files = inputs.user_data.iter().chain(&inputs.profiles);
    (readable.then_some(settings), report.finish(files))
}

/// Returns the files that fit into the limit of all inputs together, in order, and reports the first that does not.
fn within_limit<'i>(inputs: &'i Inputs, report: &mut Report) -> (&'i [NamedText], &'i [NamedText]) {
    let mut room = TEXTS_BYTES_MAX;
    let mut fits = |file: &NamedText| {
        let left = room.checked_sub(file.text.len());
        room = left.unwrap_or(0);
        left.is_some()
    };
    let user_data = inputs.user_data.iter().take_while(|file| fits(file)).count();
    let profiles = inputs.profiles.iter().take_while(|file| fits(file)).count();
    let (user_data, more) = inputs.user_data.split_at(user_data);
    let (profiles, more_profiles) = inputs.profiles.split_at(profiles);
    for file in more.iter().chain(more_profiles) {
        report
            .at(
                &codes::TOO_LARGE,
                Text::of_file(file).slice(0..0),
                Arc::from(""),
                format!("all inputs together have more than {TEXTS_BYTES_MAX} bytes: this one is not read"),
            )
            .help("leave out what is not needed, or remove what is generated");
    }
    (user_data, profiles)
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
