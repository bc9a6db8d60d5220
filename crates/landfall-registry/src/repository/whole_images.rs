//! Images that were found whole a moment ago. Nodes ask for the same manifest in a burst, and looking at each layer's file
//! costs more than the response itself.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use tokio::time::Instant;

/// Content that a repository must have for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Completeness {
    /// All content that the manifest names.
    Complete,
    /// The content that was pushed: clients may push sparse images.
    AsPushed,
}

/// Time after which the files are looked at again: another process may have deleted one.
const VALID: Duration = Duration::from_secs(1);
/// Images that are remembered in a repository. Beyond it all are forgotten.
const IMAGES_MAX: usize = 1024;

/// State of a repository and of the registry: any change of them makes what was found worthless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Changes of the repository's record.
    pub(crate) changes: u64,
    /// Losses of the registry.
    pub(crate) losses: u64,
}

/// The whole images of one repository.
#[derive(Debug, Default)]
pub(crate) struct WholeImages {
    found: Mutex<HashMap<(Digest, Completeness), (Seen, Instant)>>,
}

impl WholeImages {
    /// Returns true if the image was found whole in this state, a moment ago.
    pub(crate) fn has(&self, digest: &Digest, completeness: Completeness, seen: Seen) -> bool {
        let found = lock(&self.found);
        found
            .get(&(digest.clone(), completeness))
            .is_some_and(|(then, at)| *then == seen && at.elapsed() < VALID)
    }

    /// Records that all content of the image is here, or all that was pushed.
    pub(crate) fn add(&self, digest: &Digest, completeness: Completeness, seen: Seen) {
        let mut found = lock(&self.found);
        if found.len() >= IMAGES_MAX {
            found.clear();
        }
        found.insert((digest.clone(), completeness), (seen, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use landfall_oci::digest::digest_of;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_a_loss_or_a_second_ends_what_was_found() {
        let (images, digest) = (WholeImages::default(), digest_of(b"image"));
        let seen = Seen { changes: 1, losses: 0 };
        let has = |seen| images.has(&digest, Completeness::AsPushed, seen);
        assert!(!has(seen));
        images.add(&digest, Completeness::AsPushed, seen);
        assert!(has(seen));
        assert!(!images.has(&digest, Completeness::Complete, seen), "it may be sparse");
        assert!(!has(Seen { changes: 2, ..seen }));
        assert!(!has(Seen { losses: 1, ..seen }));
        tokio::time::advance(VALID).await;
        assert!(!has(seen));
    }

    #[tokio::test(start_paused = true)]
    async fn images_are_remembered_beside_one_another_up_to_a_limit() {
        let images = WholeImages::default();
        let seen = Seen { changes: 1, losses: 0 };
        let digests: Vec<_> = (0..=IMAGES_MAX)
            .map(|number| digest_of(&number.to_le_bytes()))
            .collect();
        let (last, others) = digests.split_last().unwrap();
        for digest in others {
            images.add(digest, Completeness::Complete, seen);
        }
        assert!(
            others
                .iter()
                .all(|digest| images.has(digest, Completeness::Complete, seen))
        );
        images.add(last, Completeness::Complete, seen);
        assert!(
            images.has(last, Completeness::Complete, seen)
                && !others
                    .iter()
                    .any(|digest| images.has(digest, Completeness::Complete, seen))
        );
    }
}
