//! How much of a blob one connection brings before it breaks. A reset takes with it what has arrived and was not read yet:
//! on a link that resets every connection soon, that can be most of it. So after the second break in a row the rest is
//! asked for in ranges that a connection lives long enough for.

use std::sync::{Mutex, MutexGuard};

use landfall_core::sync::lock;

/// A smaller range is not worth its request, in bytes.
const SMALLEST: u64 = 256 * 1024;
/// After so many ranges that came whole, a larger one is tried.
const WHOLE_BEFORE_LARGER: u32 = 32;

/// What was seen of the connections to one registry.
#[derive(Debug, Default)]
pub(super) struct Reach {
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// All is well.
    #[default]
    Unbroken,
    /// The last connection broke after so many bytes.
    BrokeOnce(u64),
    /// Ranges of so many bytes; so many of them came whole.
    Ranges { length: u64, whole: u32 },
}

impl Reach {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// How much to ask for at once; `None` for all there is.
    pub(super) fn range(&self) -> Option<u64> {
        match *self.state() {
            State::Ranges { length, .. } => Some(length),
            State::Unbroken | State::BrokeOnce(_) => None,
        }
    }

    /// A connection broke after so many bytes of a blob.
    pub(super) fn broke(&self, after: u64) {
        let mut state = self.state();
        let length = |shortest: u64| (shortest / 2).max(SMALLEST);
        *state = match *state {
            State::Unbroken => State::BrokeOnce(after),
            State::BrokeOnce(before) => State::Ranges {
                length: length(before.min(after)),
                whole: 0,
            },
            State::Ranges { length: former, .. } => State::Ranges {
                length: length(former.min(after)),
                whole: 0,
            },
        };
    }

    /// All that was asked for came: so many bytes. Fewer than are in question say nothing: small blobs nearly always come.
    pub(super) fn came_whole(&self, bytes: u64) {
        let mut state = self.state();
        *state = match *state {
            State::BrokeOnce(after) if bytes <= after => State::BrokeOnce(after),
            State::Unbroken | State::BrokeOnce(_) => State::Unbroken,
            State::Ranges { length, whole } if bytes < length => State::Ranges { length, whole },
            State::Ranges { length, whole } if whole + 1 < WHOLE_BEFORE_LARGER => State::Ranges {
                length,
                whole: whole + 1,
            },
            State::Ranges { length, .. } => State::Ranges {
                length: length.saturating_mul(2),
                whole: 0,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn one_break_changes_nothing_and_two_in_a_row_bring_ranges_that_fit() {
        let reach = Reach::default();
        reach.broke(MIB);
        reach.came_whole(2 * MIB);
        reach.broke(20 * MIB);
        assert_eq!(reach.range(), None);
        reach.broke(18 * MIB);
        assert_eq!(reach.range(), Some(9 * MIB));
        reach.broke(2 * MIB);
        assert_eq!(reach.range(), Some(MIB));
        reach.broke(0);
        assert_eq!(reach.range(), Some(SMALLEST));
        (0..WHOLE_BEFORE_LARGER).for_each(|_| reach.came_whole(SMALLEST));
        assert_eq!(reach.range(), Some(2 * SMALLEST));
    }

    #[test]
    fn small_blobs_that_come_whole_say_nothing_of_large_ones() {
        let reach = Reach::default();
        reach.broke(20 * MIB);
        reach.came_whole(1);
        reach.broke(20 * MIB);
        assert_eq!(reach.range(), Some(10 * MIB));
        (0..WHOLE_BEFORE_LARGER).for_each(|_| reach.came_whole(MIB));
        assert_eq!(reach.range(), Some(10 * MIB));
    }
}
