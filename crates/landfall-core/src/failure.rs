//! Failures: their kinds, the decision that follows from a kind, and their texts.
//!
//! [`next_action`] decides between another attempt, the next source and giving up. [`Circuit`] decides whether a
//! registry that did not answer is asked again. [`Shortcut`] lists the requests that only save work, and decides about
//! the plain way after an unexpected answer to one. [`error_chain`] renders an error with all its causes on one line, and
//! [`Hint`] is the advice that goes with an error; [`find_hint`] finds it in a chain of causes.

mod circuit;
mod error_chain;
mod hint;
mod kind;
mod retry;
mod shortcut;

pub use circuit::{Circuit, CircuitOpen, CircuitPolicy};
pub use error_chain::error_chain;
pub use hint::{Explanation, Hint, HintOf, find_hint, hint_as, hint_of, line_with_hint};
pub use kind::FailureKind;
pub use retry::{NextAction, RetryPolicy, next_action};
pub use shortcut::{AfterShortcut, Shortcut, Unexpected};
