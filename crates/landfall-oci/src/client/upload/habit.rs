//! What a registry makes of a request that breaks off in mid-upload, and so how the next blob goes there. One streaming
//! request is the fastest, and safe where the registry keeps what it got. Some keep nothing: distribution 2 even gives up
//! what earlier requests of the upload brought. For those a blob goes in pieces, each on a connection of its own, that are
//! smaller than what connections there live for. So it does where connections break again and again, whatever is kept: with
//! each of them is lost what was on its way, at both ends.
//!
//! Until something breaks the name of an upload tells: distribution 2, and what was made of it, gives it a random UUID.
//! Elsewhere pieces are larger, and not the whole: a proxy or a dying link may take in all that is sent and deliver nothing.

use std::sync::Mutex;

use landfall_core::sync::lock;

/// How much smaller a piece gets when one was lost.
const SMALLER: u64 = 16;
/// How much larger it is where the registry seems to keep what it got.
const LARGER: u64 = 4;
/// A smaller piece is not worth its request, in bytes.
pub(super) const SMALLEST: u64 = 256 * 1024;

/// What was seen of one registry.
#[derive(Debug)]
pub(in crate::client) struct Habit {
    /// The size of the first pieces.
    first: u64,
    /// How large the pieces of a large blob are; `None` when it goes in one request.
    piece: Mutex<Option<u64>>,
    /// How much connections there let through, by far.
    through: Mutex<Option<u64>>,
}

impl Habit {
    /// Nothing was seen yet: large blobs go in pieces of this size.
    pub(in crate::client) fn new(piece: u64) -> Habit {
        let first = piece.max(1);
        Habit {
            first,
            piece: Mutex::new(Some(first)),
            through: Mutex::new(None),
        }
    }

    /// How much is sent in one request of a blob of which so many bytes are left.
    pub(super) fn piece(&self, left: u64) -> u64 {
        let limits = [&self.piece, &self.through].map(|limit| *lock(limit));
        limits.into_iter().flatten().fold(left, u64::min)
    }

    /// It called an upload this (`Docker-Upload-UUID`).
    pub(super) fn calls_an_upload(&self, name: &str) {
        if is_random_uuid(name) {
            return;
        }
        let mut piece = lock(&self.piece);
        // What was seen counts for more than a name.
        if *piece == Some(self.first) {
            *piece = Some(self.first.saturating_mul(LARGER));
        }
    }

    /// It has bytes of a request that broke off.
    pub(super) fn keeps(&self) {
        *lock(&self.piece) = None;
    }

    /// It has nothing of a request of so many bytes that broke off.
    pub(super) fn loses(&self, request: u64) {
        let mut piece = lock(&self.piece);
        let smaller = (request.min(self.first) / SMALLER).max(SMALLEST);
        // Of many that broke at once, each says the same.
        *piece = Some(piece.map_or(smaller, |piece| piece.min(smaller)));
    }

    /// So many bytes of a request arrived before it broke off, and the one before it broke off too.
    pub(super) fn breaks_again(&self, arrived: u64) {
        let mut through = lock(&self.through);
        let fits = (arrived / 2).max(SMALLEST);
        *through = Some(through.map_or(fits, |through| through.min(fits)));
    }
}

/// A UUID of version 4 (RFC 9562 section 5.4), as registries write them.
fn is_random_uuid(name: &str) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    const VERSION: usize = 14;
    name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match at {
            VERSION => byte == b'4',
            at if DASHES.contains(&at) => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn pieces_get_smaller_with_each_loss_and_are_given_up_where_nothing_is_lost() {
        let habit = Habit::new(64 * MIB);
        assert_eq!((habit.piece(100 * MIB), habit.piece(MIB)), (64 * MIB, MIB));
        habit.loses(64 * MIB);
        habit.loses(64 * MIB);
        assert_eq!(habit.piece(100 * MIB), 4 * MIB);
        habit.loses(4 * MIB);
        habit.loses(MIB / 4);
        assert_eq!(habit.piece(100 * MIB), MIB / 4);
        habit.keeps();
        assert_eq!(habit.piece(100 * MIB), 100 * MIB);
        habit.loses(32 * MIB);
        assert_eq!(habit.piece(100 * MIB), 2 * MIB);
    }

    #[test]
    fn pieces_are_larger_where_uploads_have_no_random_uuid_and_nothing_was_lost() {
        let (whole, larger) = (2048 * MIB, 256 * MIB);
        for (name, piece) in [
            ("0b1a3f52-9a4e-4f0c-8b6f-2f1d5f0c7e11", 64 * MIB),
            ("01a1fe07-bcd4-77ff-a869-dee51dfdd497", larger),
            ("4f0c8b6f2f1d5f0c7e110b1a3f529a4e", larger),
            ("0b1a3f52-9a4e-4f0c-8b6f-2f1d5f0c7e1x", larger),
            ("", larger),
        ] {
            let habit = Habit::new(64 * MIB);
            habit.calls_an_upload(name);
            habit.calls_an_upload(name);
            assert_eq!(habit.piece(whole), piece, "{name}");
            habit.loses(whole);
            habit.calls_an_upload(name);
            assert_eq!(habit.piece(whole), 4 * MIB, "{name}");
        }
    }

    #[test]
    fn connections_that_break_again_and_again_get_pieces_that_fit_whatever_is_kept() {
        let habit = Habit::new(64 * MIB);
        habit.keeps();
        habit.breaks_again(20 * MIB);
        assert_eq!((habit.piece(100 * MIB), habit.piece(MIB)), (10 * MIB, MIB));
        habit.keeps();
        assert_eq!(habit.piece(100 * MIB), 10 * MIB);
        habit.breaks_again(0);
        assert_eq!(habit.piece(100 * MIB), MIB / 4);
    }
}
