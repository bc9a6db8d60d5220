//! Chunking policies of one registry: the length of its upload chunks and of its download ranges. Both are learnt from
//! transfers that break.
//!
//! Uploads and downloads share [`AdaptiveLength`]. The rules around it differ:
//! - A download can always resume with a range, so that only its connection matters. Breaks are counted per registry.
//!   The length doubles again after many complete ranges.
//! - An upload also depends on the registry: some registries discard the bytes of a request that broke off. Breaks are
//!   counted per blob, because the client asks the registry for each blob how many bytes arrived. The bound from broken
//!   connections never rises again.

use std::sync::{Mutex, MutexGuard};

use landfall_core::sync::lock;

/// Divisor for the length of a chunk that the registry lost.
const LOST_DIVISOR: u64 = 16;
/// Factor for the first length where the registry probably keeps the bytes of a broken request.
const KEPT_FACTOR: u64 = 4;
/// Divisor of the length of a chunk, for the bytes that may be unconfirmed at first. Each silent request halves the
/// window: together they lose less than a chunk, until the window has its least size.
const WINDOW_DIVISOR: u64 = 2;
/// The smallest window, in bytes. A smaller one would slow the uploads over a path with a long round trip.
const WINDOW_MIN: u64 = 4 * 1024 * 1024;
/// Number of complete ranges before the client tries a range of twice the length.
const COMPLETE_BEFORE_GROWTH: u32 = 32;

/// An upper bound for the bytes of one request; unbounded by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct AdaptiveLength(Option<u64>);

impl AdaptiveLength {
    /// The shortest length that the client falls back to, in bytes: a shorter one is not worth its request.
    pub(super) const MIN: u64 = 256 * 1024;

    const UNBOUNDED: AdaptiveLength = AdaptiveLength(None);

    /// Lowers the bound to `length`, but not below [`AdaptiveLength::MIN`]. A lower bound stays: several requests that
    /// broke at once report the same length.
    fn lower_to(&mut self, length: u64) {
        let length = length.max(AdaptiveLength::MIN);
        self.0 = Some(self.0.map_or(length, |bound| bound.min(length)));
    }

    /// Lowers the bound to a length that connections get through, after one broke at `bytes`.
    fn fit(&mut self, bytes: u64) {
        self.lower_to(bytes / 2);
    }

    fn bound(self, length: u64) -> u64 {
        self.0.map_or(length, |bound| bound.min(length))
    }
}

/// Chunk lengths of uploads to one registry.
///
/// A single streaming request is the fastest way to push a blob, and it is safe where the registry keeps the bytes of a
/// broken request. Some registries keep nothing: distribution 2 even discards the bytes of earlier requests of the
/// upload session. There the client sends a large blob in chunks, each on a connection of its own, and short enough for
/// the lifetime of connections there. Chunks are also used when connections keep breaking: each break loses the bytes
/// in flight, at both ends.
///
/// Before any failure the client guesses from `Docker-Upload-UUID`: a v4 UUID means distribution 2 or a derivative.
/// Other registries get longer chunks once they have told how far an upload got while bytes arrived: a proxy or a dying
/// link may accept all bytes and deliver none.
#[derive(Debug)]
pub(super) struct ChunkPolicy {
    /// Length of the first chunks, in bytes.
    first: u64,
    lengths: Mutex<ChunkLengths>,
}

#[derive(Debug)]
struct ChunkLengths {
    /// Bound from the registry's treatment of broken requests; unbounded where it keeps their bytes.
    resumable: AdaptiveLength,
    /// Bound from the bytes that connections get through.
    connection: AdaptiveLength,
    /// True if the registry took a chunk that is not the last one.
    taken: bool,
    /// True if the registry refused a blob in chunks, and took it in one request.
    refused: bool,
    progress: Progress,
    /// Maximum of unconfirmed bytes of a request, in bytes.
    window: u64,
}

/// The registry's answers to the question how far an upload got, asked while bytes arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The registry must not be asked.
    NotAsked,
    Unknown,
    Told,
    NotTold,
}

impl ChunkPolicy {
    pub(super) fn new(first: u64) -> ChunkPolicy {
        let first = first.max(1);
        ChunkPolicy {
            first,
            lengths: Mutex::new(ChunkLengths {
                resumable: AdaptiveLength(Some(first)),
                connection: AdaptiveLength::UNBOUNDED,
                taken: false,
                refused: false,
                progress: Progress::NotAsked,
                window: (first / WINDOW_DIVISOR).max(1),
            }),
        }
    }

    fn lengths(&self) -> MutexGuard<'_, ChunkLengths> {
        lock(&self.lengths)
    }

    /// Returns the length of the next request of a blob with `left` bytes to go.
    pub(super) fn chunk_size(&self, left: u64) -> u64 {
        let lengths = self.lengths();
        if lengths.refused {
            return left;
        }
        let length = lengths.connection.bound(lengths.resumable.bound(left));
        match lengths.progress {
            Progress::Told => length,
            // A dying link may take all bytes of a request and deliver none.
            Progress::Unknown => length.min(lengths.window),
            Progress::NotAsked | Progress::NotTold => length.min(self.first),
        }
    }

    /// Returns the most bytes of a request that may be unconfirmed; `None` if the registry is not asked how far it got.
    pub(super) fn window(&self, request: u64) -> Option<u64> {
        let lengths = self.lengths();
        let is_asked = matches!(lengths.progress, Progress::Unknown | Progress::Told);
        Some(lengths.window).filter(|window| is_asked && request > window / 2)
    }

    /// Records that a request went silent while bytes of it were unconfirmed.
    pub(super) fn went_silent(&self) {
        let mut lengths = self.lengths();
        let halved = (lengths.window / 2).max(WINDOW_MIN);
        lengths.window = lengths.window.min(halved);
    }

    /// Returns true if the registry has told how far an upload got while bytes arrived.
    pub(super) fn tells_progress(&self) -> bool {
        self.lengths().progress == Progress::Told
    }

    /// Records whether the registry tells how far an upload got while bytes arrive. An answer counts for more than its
    /// absence.
    pub(super) fn told_progress(&self, told: bool) {
        let mut lengths = self.lengths();
        lengths.progress = match (lengths.progress, told) {
            (_, true) | (Progress::Told, false) => Progress::Told,
            (_, false) => Progress::NotTold,
        };
    }

    /// Records that the registry took a chunk that is not the last one.
    pub(super) fn taken(&self) {
        self.lengths().taken = true;
    }

    pub(super) fn were_taken(&self) -> bool {
        self.lengths().taken
    }

    /// Records that the registry refused a blob in chunks, and took it in one request.
    pub(super) fn refused(&self) {
        self.lengths().refused = true;
    }

    /// Takes the registry's ID of an upload session (`Docker-Upload-UUID`) into account.
    pub(super) fn saw_upload_id(&self, id: &str) {
        if is_random_uuid(id) {
            return;
        }
        let mut lengths = self.lengths();
        if !id.is_empty() && lengths.progress == Progress::NotAsked {
            lengths.progress = Progress::Unknown;
        }
        // An observation counts for more than an ID.
        if lengths.resumable == AdaptiveLength(Some(self.first)) {
            lengths.resumable = AdaptiveLength(Some(self.first.saturating_mul(KEPT_FACTOR)));
        }
    }

    /// Records that the registry has bytes of a request that broke off.
    pub(super) fn resume_kept(&self) {
        self.lengths().resumable = AdaptiveLength::UNBOUNDED;
    }

    /// Records that the registry has no byte of a request of `request` bytes that broke off.
    pub(super) fn resume_lost(&self, request: u64) {
        self.lengths()
            .resumable
            .lower_to(request.min(self.first) / LOST_DIVISOR);
    }

    /// Records that `arrived` bytes of a request arrived before it broke off, right after another broken request.
    pub(super) fn connection_broke(&self, arrived: u64) {
        self.lengths().connection.fit(arrived);
    }
}

/// Returns true for a UUID of version 4 (RFC 9562 section 5.4) in the form that registries use.
fn is_random_uuid(id: &str) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    const VERSION: usize = 14;
    id.len() == 36
        && id.bytes().enumerate().all(|(at, byte)| match at {
            VERSION => byte == b'4',
            at if DASHES.contains(&at) => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Range lengths of downloads from one registry.
///
/// A reset discards bytes that have arrived and were not read yet. On a link that soon resets every connection, that
/// can be most of them. So after the second break in a row the client requests ranges that a connection lives long
/// enough for.
#[derive(Debug, Default)]
pub(super) struct RangePolicy {
    state: Mutex<RangeState>,
}

#[derive(Debug, Clone, Copy, Default)]
struct RangeState {
    length: AdaptiveLength,
    /// Bytes that the last connection brought before it broke, while the length is still unbounded.
    broke_after: Option<u64>,
    /// Complete ranges of the current length.
    complete: u32,
}

impl RangePolicy {
    fn state(&self) -> MutexGuard<'_, RangeState> {
        lock(&self.state)
    }

    /// Returns the length of the next request of a blob with `left` bytes to go.
    pub(super) fn range_size(&self, left: u64) -> u64 {
        self.state().length.bound(left)
    }

    /// Records that a connection broke after `bytes` bytes of a blob.
    pub(super) fn connection_broke(&self, bytes: u64) {
        let mut state = self.state();
        match state.length.0.or(state.broke_after.take()) {
            None => state.broke_after = Some(bytes),
            Some(former) => {
                state.length.fit(former.min(bytes));
                state.complete = 0;
            }
        }
    }

    /// Records that a request of `bytes` completed. Ignored if shorter than the current range: small blobs succeed even
    /// on bad links.
    pub(super) fn completed(&self, bytes: u64) {
        let mut state = self.state();
        match state.length.0 {
            None if state.broke_after.is_some_and(|after| bytes <= after) => {}
            None => state.broke_after = None,
            Some(length) if bytes < length => {}
            Some(_) if state.complete + 1 < COMPLETE_BEFORE_GROWTH => state.complete += 1,
            Some(length) => {
                state.length = AdaptiveLength(Some(length.saturating_mul(2)));
                state.complete = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn chunks_get_shorter_with_each_loss_and_are_given_up_where_nothing_is_lost() {
        let policy = ChunkPolicy::new(64 * MIB);
        assert_eq!((policy.chunk_size(100 * MIB), policy.chunk_size(MIB)), (64 * MIB, MIB));
        policy.resume_lost(64 * MIB);
        policy.resume_lost(64 * MIB);
        assert_eq!(policy.chunk_size(100 * MIB), 4 * MIB);
        policy.resume_lost(4 * MIB);
        policy.resume_lost(MIB / 4);
        assert_eq!(policy.chunk_size(100 * MIB), MIB / 4);
        policy.resume_kept();
        assert_eq!(policy.chunk_size(100 * MIB), 64 * MIB);
        policy.told_progress(true);
        assert_eq!(policy.chunk_size(100 * MIB), 100 * MIB);
        policy.resume_lost(32 * MIB);
        assert_eq!(policy.chunk_size(100 * MIB), 2 * MIB);
    }

    #[test]
    fn a_chunk_size_below_the_minimum_stays() {
        let policy = ChunkPolicy::new(1000);
        policy.resume_lost(1000);
        assert_eq!(policy.chunk_size(MIB), 1000);
    }

    #[test]
    fn chunks_are_longer_where_uploads_have_no_random_uuid_and_nothing_was_lost() {
        let (whole, longer) = (2048 * MIB, 256 * MIB);
        for (id, first, chunk) in [
            ("0b1a3f52-9a4e-4f0c-8b6f-2f1d5f0c7e11", 64 * MIB, 64 * MIB),
            ("01a1fe07-bcd4-77ff-a869-dee51dfdd497", 32 * MIB, longer),
            ("4f0c8b6f2f1d5f0c7e110b1a3f529a4e", 32 * MIB, longer),
            ("0b1a3f52-9a4e-4f0c-8b6f-2f1d5f0c7e1x", 32 * MIB, longer),
            ("", 64 * MIB, longer),
        ] {
            let policy = ChunkPolicy::new(64 * MIB);
            policy.saw_upload_id(id);
            policy.saw_upload_id(id);
            assert_eq!(policy.chunk_size(whole), first, "{id}");
            policy.told_progress(true);
            assert_eq!(policy.chunk_size(whole), chunk, "{id}");
            policy.resume_lost(whole);
            policy.saw_upload_id(id);
            assert_eq!(policy.chunk_size(whole), 4 * MIB, "{id}");
        }
    }

    #[test]
    fn all_silent_requests_together_lose_less_than_a_chunk() {
        let policy = ChunkPolicy::new(64 * MIB);
        policy.saw_upload_id("01a1fe07-bcd4-77ff-a869-dee51dfdd497");
        let mut lost = 0;
        for window in [32 * MIB, 16 * MIB, 8 * MIB, 4 * MIB] {
            // A registry that told nothing yet gets no more than the window either.
            assert_eq!(
                (policy.chunk_size(100 * MIB), policy.window(100 * MIB)),
                (window, Some(window))
            );
            policy.went_silent();
            lost += window;
        }
        assert!(lost < 64 * MIB);
        assert_eq!(policy.window(100 * MIB), Some(4 * MIB));
        assert_eq!(policy.window(2 * MIB), None);
        let small = ChunkPolicy::new(MIB);
        small.saw_upload_id("1");
        small.went_silent();
        assert_eq!(small.window(MIB), Some(MIB / 2));
    }

    #[test]
    fn connections_that_keep_breaking_get_chunks_that_fit_even_where_bytes_are_kept() {
        let policy = ChunkPolicy::new(64 * MIB);
        policy.resume_kept();
        policy.connection_broke(20 * MIB);
        assert_eq!((policy.chunk_size(100 * MIB), policy.chunk_size(MIB)), (10 * MIB, MIB));
        policy.resume_kept();
        assert_eq!(policy.chunk_size(100 * MIB), 10 * MIB);
        policy.connection_broke(0);
        assert_eq!(policy.chunk_size(100 * MIB), MIB / 4);
    }

    #[test]
    fn one_break_changes_nothing_and_two_in_a_row_bring_ranges_that_fit() {
        const MIN: u64 = AdaptiveLength::MIN;
        let whole = 1000 * MIB;
        let policy = RangePolicy::default();
        policy.connection_broke(MIB);
        policy.completed(2 * MIB);
        policy.connection_broke(20 * MIB);
        assert_eq!(policy.range_size(whole), whole);
        policy.connection_broke(18 * MIB);
        assert_eq!(policy.range_size(whole), 9 * MIB);
        policy.connection_broke(2 * MIB);
        assert_eq!(policy.range_size(whole), MIB);
        policy.connection_broke(0);
        assert_eq!(policy.range_size(whole), MIN);
        (0..COMPLETE_BEFORE_GROWTH).for_each(|_| policy.completed(MIN));
        assert_eq!(policy.range_size(whole), 2 * MIN);
    }

    #[test]
    fn small_blobs_that_complete_say_nothing_about_large_ones() {
        let whole = 1000 * MIB;
        let policy = RangePolicy::default();
        policy.connection_broke(20 * MIB);
        policy.completed(1);
        policy.connection_broke(20 * MIB);
        assert_eq!(policy.range_size(whole), 10 * MIB);
        (0..COMPLETE_BEFORE_GROWTH).for_each(|_| policy.completed(MIB));
        assert_eq!(policy.range_size(whole), 10 * MIB);
    }
}
