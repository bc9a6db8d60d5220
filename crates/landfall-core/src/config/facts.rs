//! The values that were read so far. Each has its node, so that checks can point at it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::Machine;
use crate::config::node::Node;
use crate::config::template::marks;
use crate::resolve::BundleOffers;
use crate::settings::{MappingRule, ProfileImage, RegistrySettings, Settings};

/// A value and its node.
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

/// All values that the readers found.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// The values that no check compares with others.
    pub(crate) settings: Settings,
    pub(crate) registries: Vec<Sourced<RegistrySettings>>,
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
    /// The name of the Kubernetes pack, which determines the distribution.
    pub(crate) kubernetes_pack: Option<String>,
    /// Namespaces that a profile leaves to redirection by the node, with the node of the label.
    pub(crate) node_namespaces: Vec<Sourced<String>>,
    /// The number of uses of each step's name, in all stages.
    pub(crate) step_names: BTreeMap<String, usize>,
    /// The numbers of the marks of templates without a value on which a decision depends, with the key path of the
    /// value.
    pub(crate) used_marks: BTreeMap<usize, Arc<str>>,
    /// True if there is a profile.
    pub(crate) has_profile: bool,
    /// The bundles that the host is to have.
    pub(crate) bundles: Arc<BundleOffers>,
    /// The machine that was looked at.
    pub(crate) machine: Option<Machine>,
    /// The node of `landfall.mirror.files`.
    pub(crate) mirror_files: Option<Node>,
}

impl Facts {
    /// Records that a decision depends on a value, so that a template without a value in it is an error.
    pub(crate) fn depend_on(&mut self, node: &Node) {
        for mark in node.raw_text().into_iter().flat_map(marks) {
            self.used_marks.entry(mark).or_insert_with(|| node.key_path());
        }
    }
}

/// A file that a stage writes.
#[derive(Debug)]
pub(crate) struct WrittenFile {
    /// The stage, with its suffix.
    pub(crate) stage: String,
    pub(crate) path: Sourced<String>,
    /// The decoded content. Its node is that of the file if the file has no content.
    pub(crate) content: Sourced<String>,
    /// True if the content is not encoded, so that positions in it can be shown.
    pub(crate) is_plain: bool,
    /// The mode, if it is given.
    pub(crate) mode: Option<Sourced<u32>>,
    /// True if the file holds a login, judged by its path or its content.
    pub(crate) holds_secret: bool,
    /// True for a file of `write_files`, whose mode is a string.
    pub(crate) is_foreign: bool,
}

/// An OS pack and its provider image.
#[derive(Debug)]
pub(crate) struct OsPack {
    /// The pack's entry in the profile.
    pub(crate) node: Node,
    pub(crate) name: String,
    pub(crate) provider: ProviderImage,
}

/// The value of `options."system.uri"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProviderImage {
    Missing,
    /// `NA`: there is intentionally none.
    None,
    /// An image, or a value that was reported already.
    Given,
}
