//! What people and programs see: data on stdout, talk on stderr, progress, tables.

pub(crate) mod digest;
pub mod printer;
pub mod progress;
pub mod structured;
pub mod table;
