//! What people and programs see: data on stdout, talk on stderr, progress, tables.

pub mod printer;
pub mod progress;
pub mod structured;
pub mod table;

/// `1 image`, `2 images`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
