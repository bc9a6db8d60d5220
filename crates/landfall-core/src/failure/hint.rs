//! Advice that an error gives to its reader.

use std::borrow::Cow;

/// Advice of an error: one thing to do, phrased as an instruction.
///
/// The program prints it on a line of its own after the error: `hint: …`. An error that only passes another one on
/// returns the hint of its source.
pub trait Hint {
    /// Returns the advice; `None` when nothing specific can be advised.
    fn hint(&self) -> Option<Cow<'_, str>>;
}
