//! Adoption of a bundle by a host [spec:bundles.adoption]: facts in, phase and next step out.
//!
//! All facts are observed anew in each pass, so that a restart resumes where the last run ended: an image that is in the
//! content store is adopted, whoever stored it. The phase is never read back from disk.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bundle::document::NeededBlob;
use crate::failure::Hint;
use crate::reference::{Digest, ImageReference};

/// Phase of a bundle at a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BundlePhase {
    /// The file is complete.
    Found,
    /// The host takes it, by its keys and its policy.
    Trusted,
    /// Everything that the bundle leaves to the site is there.
    Planned,
    /// Its images are pulled out of the file.
    Serving,
    /// Images are being copied into the content store.
    Adopting,
    /// The content store has all of its images.
    Adopted,
    /// The receipt is written.
    Receipt,
    /// The file is shorter than it has to be: it is still being copied.
    Incomplete,
    /// The host does not take it.
    Refused,
    /// The file is gone before all of it was adopted.
    Vanished,
}

impl BundlePhase {
    /// All phases, in order.
    pub const ALL: [BundlePhase; 10] = [
        BundlePhase::Found,
        BundlePhase::Trusted,
        BundlePhase::Planned,
        BundlePhase::Serving,
        BundlePhase::Adopting,
        BundlePhase::Adopted,
        BundlePhase::Receipt,
        BundlePhase::Incomplete,
        BundlePhase::Refused,
        BundlePhase::Vanished,
    ];

    /// Returns the name in the serialized form.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            BundlePhase::Found => "found",
            BundlePhase::Trusted => "trusted",
            BundlePhase::Planned => "planned",
            BundlePhase::Serving => "serving",
            BundlePhase::Adopting => "adopting",
            BundlePhase::Adopted => "adopted",
            BundlePhase::Receipt => "receipt",
            BundlePhase::Incomplete => "incomplete",
            BundlePhase::Refused => "refused",
            BundlePhase::Vanished => "vanished",
        }
    }
}

/// Facts about a bundle, as observed in one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleFacts {
    pub file: FileState,
    /// The decision of the host's keys and policy, once it is made.
    pub trust: Option<Decision>,
    /// The result of the check of the bundle's needs, once it is made.
    pub needs: Option<Decision>,
    /// True if its images are pulled out of the file. A file that is read in one pass is never served.
    pub is_served: bool,
    pub images: usize,
    /// Images that are in the content store.
    pub adopted: usize,
    pub has_receipt: bool,
}

/// State of the file of a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    Gone,
    Incomplete,
    /// It cannot be used, e.g. because its head is damaged.
    Unusable,
    /// A file of another format that nobody has read yet: its images are not known.
    Unread,
    /// A file of another format that is being read.
    BeingRead,
    Complete,
}

/// A decision about a bundle. The reason of a refusal is kept by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Take,
    Refuse,
}

/// The next step of the agent with a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BundleStep {
    DecideTrust,
    CheckNeeds,
    /// Read a file of another format, and copy its blobs into the content store.
    Read,
    Serve,
    /// Copy the images that the content store lacks.
    Adopt,
    WriteReceipt,
    /// Nothing, until the facts change.
    Wait,
}

/// Returns the phase of a bundle and the next step with it.
#[must_use]
pub fn next_step(facts: &BundleFacts) -> (BundlePhase, BundleStep) {
    use BundleStep::{Adopt, CheckNeeds, DecideTrust, Read, Serve, Wait, WriteReceipt};
    let is_adopted = facts.adopted >= facts.images;
    match (facts.file, facts.trust, facts.needs) {
        // A stick that is pulled after everything was adopted has done its work.
        (FileState::Gone, _, _) if is_adopted && facts.has_receipt => (BundlePhase::Receipt, Wait),
        (FileState::Gone, _, _) if is_adopted => (BundlePhase::Adopted, Wait),
        (FileState::Gone, _, _) => (BundlePhase::Vanished, Wait),
        (FileState::Incomplete, _, _) => (BundlePhase::Incomplete, Wait),
        (FileState::Unusable, _, _) | (FileState::Unread, Some(Decision::Refuse), _) => (BundlePhase::Refused, Wait),
        // A signature of the whole file is checked while the file is read.
        (FileState::Unread, None, _) => (BundlePhase::Found, Read),
        (FileState::Unread, Some(Decision::Take), _) => (BundlePhase::Trusted, Read),
        (FileState::BeingRead, Some(Decision::Take), _) => (BundlePhase::Adopting, Wait),
        (FileState::BeingRead, _, _) => (BundlePhase::Found, Wait),
        (FileState::Complete, None, _) => (BundlePhase::Found, DecideTrust),
        (FileState::Complete, Some(Decision::Refuse), _) => (BundlePhase::Refused, Wait),
        (FileState::Complete, Some(Decision::Take), None) => (BundlePhase::Trusted, CheckNeeds),
        (FileState::Complete, Some(Decision::Take), Some(Decision::Refuse)) => (BundlePhase::Refused, Wait),
        (FileState::Complete, Some(Decision::Take), Some(Decision::Take)) => match facts {
            _ if is_adopted && facts.has_receipt => (BundlePhase::Receipt, Wait),
            _ if is_adopted => (BundlePhase::Adopted, WriteReceipt),
            BundleFacts { is_served: false, .. } => (BundlePhase::Planned, Serve),
            BundleFacts { adopted: 0, .. } => (BundlePhase::Serving, Adopt),
            _ => (BundlePhase::Adopting, Adopt),
        },
    }
}

/// An image that is to be adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingImage {
    pub name: ImageReference,
    /// Its manifests and blobs.
    pub content: HashSet<Digest>,
    /// Position among the images of the profiles, which are in the order of work; `None` if no profile names it.
    pub planned: Option<usize>,
}

/// Returns the position of the image that is adopted next: first those that pods asked for, in that order, then those of
/// the profiles, then the others by name. `asked` holds digests of manifests and blobs. `None` if there is no image.
#[must_use]
pub fn next_to_adopt(images: &[PendingImage], asked: &[Digest]) -> Option<usize> {
    let first_of = |is_meant: &dyn Fn(&PendingImage) -> bool| {
        let meant = images.iter().enumerate().filter(|(_, image)| is_meant(image));
        let first = meant.min_by_key(|(_, image)| (image.planned.unwrap_or(usize::MAX), &image.name));
        first.map(|(number, _)| number)
    };
    let of_pods = asked
        .iter()
        .find_map(|digest| first_of(&|image| image.content.contains(digest)));
    of_pods.or_else(|| first_of(&|_| true))
}

/// The bundle counts on blobs that the site does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the bundle counts on {}", describe_needs(.missing))]
pub struct NeedsMissing {
    /// At least one.
    pub missing: Vec<NeededBlob>,
}

impl Hint for NeedsMissing {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some("take `needs.json` back, and bring a bundle with these blobs: `landfall bundle create` without `--base`, or with the site's inventory of today".into())
    }
}

fn describe_needs(missing: &[NeededBlob]) -> String {
    let mut by_image: BTreeMap<&ImageReference, (usize, u64)> = BTreeMap::new();
    for need in missing {
        let (blobs, bytes) = by_image.entry(&need.image).or_default();
        (*blobs, *bytes) = (*blobs + 1, bytes.saturating_add(need.size));
    }
    let images: Vec<String> = by_image
        .into_iter()
        .map(|(image, (blobs, bytes))| format!("{blobs} of `{image}` ({bytes} bytes)"))
        .collect();
    format!("blobs that this site does not have: {}", images.join(", "))
}

/// Checks, before the first write, that the site has everything that a bundle leaves to it.
///
/// # Errors
/// If blobs are missing. `has` tells if the site has a blob of this size.
pub fn check_needs(needs: &[NeededBlob], has: impl Fn(&NeededBlob) -> bool) -> Result<(), NeedsMissing> {
    let missing: Vec<NeededBlob> = needs.iter().filter(|need| !has(need)).cloned().collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(NeedsMissing { missing }),
    }
}

#[cfg(test)]
mod tests;
