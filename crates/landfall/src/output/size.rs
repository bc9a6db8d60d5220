//! Sizes as people read them.

/// Renders a number of bytes with a binary unit.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
