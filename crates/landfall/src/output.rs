//! Output for people and programs: data on stdout, messages on stderr, progress, tables.

pub(crate) mod digest;
pub(crate) mod failures;
pub mod printer;
pub mod progress;
pub(crate) mod size;
pub mod structured;
pub mod table;
