//! The content that pods pull out of bundles. Its images are copied first, because a stick may be pulled at any time.

use std::sync::Mutex;

use landfall_core::reference::Digest;
use landfall_core::sync::lock;
use landfall_oci::content::places::Places;
use tokio::sync::broadcast;

/// Digests that are kept. Of more than these, the oldest ones are forgotten: most of their images are here by then.
const ASKED_MAX: usize = 256;

/// The manifests and blobs that pods pulled out of the places of this host.
#[derive(Debug)]
pub(crate) struct Asked(Mutex<Reads>);

#[derive(Debug)]
struct Reads {
    new: broadcast::Receiver<Digest>,
    /// Each once, in the order in which they were asked for.
    digests: Vec<Digest>,
}

impl Asked {
    pub(crate) fn of(places: &Places) -> Asked {
        Asked(Mutex::new(Reads {
            new: places.watch_reads(),
            digests: Vec::new(),
        }))
    }

    /// Returns what pods asked for so far, each once, in that order.
    pub(crate) fn digests(&self) -> Vec<Digest> {
        let mut reads = lock(&self.0);
        loop {
            match reads.new.try_recv() {
                Ok(digest) if !reads.digests.contains(&digest) => reads.digests.push(digest),
                Ok(_) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
                Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
            }
        }
        let old = reads.digests.len().saturating_sub(ASKED_MAX);
        reads.digests.drain(..old);
        reads.digests.clone()
    }
}

#[cfg(test)]
mod tests {
    use landfall_oci::digest::digest_of;

    use super::*;

    #[test]
    fn content_is_kept_once_in_its_order_and_the_oldest_goes() {
        let places = Places::default();
        let asked = Asked::of(&places);
        let digest = |number: usize| digest_of(&number.to_le_bytes());
        for number in [1, 2, 1] {
            places.note_read(&digest(number));
        }
        assert_eq!(asked.digests(), [digest(1), digest(2)]);
        for number in 0..ASKED_MAX {
            places.note_read(&digest(100 + number));
            asked.digests();
        }
        let kept = asked.digests();
        assert_eq!((kept.len(), &kept[0]), (ASKED_MAX, &digest(100)));
    }
}
