//! Content that is read where it lies, beside the store: an opened bundle. Servers look into the store first, then into
//! the places.
//!
//! [`read_only::ReadOnlyContent`] is the trait of such content. [`place::Place`] gives its images the names under which
//! they are served, and verifies what is read. [`places::Places`] is the set that servers look into: it changes while
//! they serve.

pub mod names;
pub mod parts;
pub mod place;
pub mod places;
pub mod read_only;
mod verified;
