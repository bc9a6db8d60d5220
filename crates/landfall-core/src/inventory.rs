//! What is there already: the facts that a plan is made against.

use std::collections::{BTreeMap, BTreeSet};

use crate::reference::{Digest, ImageReference};

/// What this host and its registries hold, as far as we know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Images that are complete in the content store: canonical source reference to manifest digest.
    pub stored: BTreeMap<ImageReference, Digest>,
    /// Provider images (by manifest digest) whose core images are all in containerd.
    pub core_loaded: BTreeSet<Digest>,
    /// Image names that containerd has, in namespace `k8s.io`, with their target digests.
    pub runtime: BTreeMap<String, Digest>,
    /// References that the primary registry is known to hold, with their digests.
    pub primary: BTreeMap<ImageReference, Digest>,
}
