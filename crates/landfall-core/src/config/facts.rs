//! What was read so far, each thing with the node that it came from, so that checks can point at it.

use std::collections::BTreeMap;

use crate::config::node::Node;
use crate::settings::{MappingRule, ProfileImage, Registry, Settings};

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
    /// The files that stages write, for checks that look into them.
    pub(crate) stage_files: Vec<WrittenFile>,
    /// The documents of every `cluster.config`.
    pub(crate) cluster_configs: Vec<Node>,
    /// The name of the Kubernetes pack, which tells the distribution.
    pub(crate) kubernetes_pack: Option<String>,
    /// Namespaces that a profile has redirected by the node, where the label is written.
    pub(crate) node_namespaces: Vec<Sourced<String>>,
    /// How often each step's name was used, in any stage.
    pub(crate) step_names: BTreeMap<String, usize>,
    /// Whether there is a profile at all.
    pub(crate) has_profile: bool,
}

/// A file that a stage writes.
#[derive(Debug)]
pub(crate) struct WrittenFile {
    /// The stage, with its suffix.
    pub(crate) stage: String,
    pub(crate) path: Sourced<String>,
    /// The content, decoded; its node is that of the file when it has no content.
    pub(crate) content: Sourced<String>,
    /// Whether the content stands there as it is, so that its places can be shown.
    pub(crate) is_plain: bool,
    /// The mode, where it is written.
    pub(crate) mode: Option<Sourced<u32>>,
    /// Whether it holds a login, by its place or its looks.
    pub(crate) holds_secret: bool,
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
