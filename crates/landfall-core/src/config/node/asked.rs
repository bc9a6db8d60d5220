//! Recorder of the keys that readers ask nodes for, so that a test can compare them with the table of keys.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::key_path::KeyPath;

thread_local! {
    static ASKED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Records that a reader asked for a key of the node at a path.
pub(super) fn record(path: &KeyPath, key: &str) {
    ASKED.with_borrow_mut(|asked| asked.insert(path.key(key).to_string()));
}

/// Returns the key paths that `read` asks for, without indices.
pub(crate) fn asked_keys(read: impl FnOnce()) -> BTreeSet<String> {
    ASKED.take();
    read();
    ASKED.take().iter().map(|path| without_indices(path)).collect()
}

/// Turns `a[0].b` into `a.b`.
fn without_indices(path: &str) -> String {
    let pieces = path.split('[').enumerate();
    let pieces = pieces.map(|(at, piece)| {
        if at == 0 {
            piece
        } else {
            piece.split_once(']').map_or(piece, |(_, rest)| rest)
        }
    });
    pieces.collect()
}
