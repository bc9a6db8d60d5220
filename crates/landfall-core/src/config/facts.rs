//! What was read so far, each thing with the node that it came from, so that checks can point at it.

use std::collections::BTreeMap;

use crate::config::settings::{MappingRule, ProfileImage, Registry, Settings};
use crate::config::yaml::Node;

/// A value and where it is written.
#[derive(Debug, Clone)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) node: Node,
}

impl<T> Sourced<T> {
    pub(crate) fn new(value: T, node: &Node) -> Sourced<T> {
        Sourced {
            value,
            node: node.clone(),
        }
    }
}

/// Everything that the readers found.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// What needs no check against anything else.
    pub(crate) settings: Settings,
    pub(crate) registries: Vec<Sourced<Registry>>,
    pub(crate) rules: Vec<Sourced<MappingRule>>,
    pub(crate) images: Vec<Sourced<ProfileImage>>,
    /// The OS packs of all profiles.
    pub(crate) os_packs: Vec<OsPack>,
    /// Lists of admission plug-ins that hold `AlwaysPullImages`.
    pub(crate) always_pull: Vec<super::admission_plugins::Plugins>,
    /// Content of stage files by path, for checks that look into them.
    pub(crate) stage_files: Vec<Sourced<(String, String)>>,
    /// How often each step's name was used, in any stage.
    pub(crate) step_names: BTreeMap<String, usize>,
    /// Whether there is a profile at all.
    pub(crate) has_profile: bool,
}

/// An OS pack and what it says about the provider image.
#[derive(Debug)]
pub(crate) struct OsPack {
    /// The pack's entry in the profile.
    pub(crate) node: Node,
    pub(crate) name: String,
    pub(crate) provider: ProviderImage,
}

/// What `options."system.uri"` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProviderImage {
    /// Nothing.
    Missing,
    /// `NA`: there is none on purpose.
    None,
    /// An image, or something that has its finding already.
    Given,
}
