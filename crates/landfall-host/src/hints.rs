//! The types of errors of this crate that have advice.

use std::borrow::Cow;
use std::error::Error;

use landfall_core::failure::hint_as;

use crate::containerd::ContainerdError;
use crate::inputs::InputError;
use crate::managed::ManagedError;

/// Returns the hint of an error of this crate, without its causes; see [`landfall_core::failure::find_hint`].
#[must_use]
pub fn hint_of<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    hint_as::<ContainerdError>(error)
        .or_else(|| hint_as::<ManagedError>(error))
        .or_else(|| hint_as::<InputError>(error))
}
