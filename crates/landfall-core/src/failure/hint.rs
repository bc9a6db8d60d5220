//! Advice that an error gives to its reader.
//!
//! `dyn Error` cannot be asked for a trait. Each crate therefore has one function of type [`HintOf`] that knows the
//! types with advice, and [`find_hint`] walks a chain of causes with it.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// Advice of an error: one thing to do, phrased as an instruction.
///
/// The program prints it on a line of its own after the error: `hint: …`. An error that only passes another one on
/// returns the hint of its source.
pub trait Hint {
    /// Returns the advice; `None` when nothing specific can be advised.
    fn hint(&self) -> Option<Cow<'_, str>>;
}

/// Function that returns the hint of one error, without its causes, if it knows the type of the error.
pub type HintOf = for<'a> fn(&'a (dyn Error + 'static)) -> Option<Cow<'a, str>>;

/// Returns the hint of an error of type `T`; `None` if the error has another type or no advice.
#[must_use]
pub fn hint_as<'a, T: Error + Hint + 'static>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    error.downcast_ref::<T>()?.hint()
}

/// Returns the hint of an error of this crate, without its causes.
#[must_use]
pub fn hint_of<'a>(error: &'a (dyn Error + 'static)) -> Option<Cow<'a, str>> {
    hint_as::<Explanation>(error)
}

/// Returns the first hint in an error and its causes, from the outside in.
#[must_use]
pub fn find_hint<'a>(error: &'a (dyn Error + 'static), hint_of: HintOf) -> Option<Cow<'a, str>> {
    std::iter::successors(Some(error), |&error| error.source()).find_map(hint_of)
}

/// Renders a message and its hint on one line, for events, logs and status: `message; hint: …`.
#[must_use]
pub fn line_with_hint(message: impl fmt::Display, hint: Option<impl fmt::Display>) -> String {
    match hint {
        Some(hint) => format!("{message}; hint: {hint}"),
        None => message.to_string(),
    }
}

/// A failure and its remedy, for errors that no type of their own describes. It also serves as the context of an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Explanation {
    /// The failure: its object, its place and its cause.
    pub message: String,
    /// One thing to do, with the key and the place to change.
    pub hint: String,
}

impl Explanation {
    #[must_use]
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Explanation {
        Explanation {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Joins the explanations of several candidates. The hint is that of the first, which the user prefers.
    #[must_use]
    pub fn join(tried: Vec<Explanation>) -> Explanation {
        let hint = tried.first().map(|first| first.hint.clone()).unwrap_or_default();
        let messages: Vec<String> = tried.into_iter().map(|one| one.message).collect();
        Explanation {
            message: messages.join("; then "),
            hint,
        }
    }

    /// Renders message and hint on one line.
    #[must_use]
    pub fn line(&self) -> String {
        line_with_hint(self, self.hint())
    }
}

impl Hint for Explanation {
    fn hint(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot do it")]
    struct Wrapper(#[source] Explanation);

    #[test]
    fn a_hint_below_another_error_is_found() {
        let error = Wrapper(Explanation::new("the disk is full", "free space"));
        assert_eq!(find_hint(&error, hint_of).as_deref(), Some("free space"));
        assert_eq!(hint_of(&error), None);
        assert_eq!(find_hint(&std::fmt::Error, hint_of), None);
    }

    #[test]
    fn a_line_has_its_hint_at_the_end() {
        let explanation = Explanation::new("the disk is full", "free space");
        assert_eq!(explanation.line(), "the disk is full; hint: free space");
        assert_eq!(line_with_hint("the disk is full", None::<&str>), "the disk is full");
    }
}
