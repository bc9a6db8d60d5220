//! An error with all its causes as one line of text, for logs and events.

use std::error::Error;

/// Returns the text of an error and of every cause below it: `cannot read a file: the disk is gone`.
#[must_use]
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn every_cause_is_told_from_the_outside_in() {
        let below = Layer {
            text: "the disk is gone",
            source: None,
        };
        let error = Layer {
            text: "cannot read a file",
            source: Some(Box::new(below)),
        };
        assert_eq!(error_chain(&error), "cannot read a file: the disk is gone");
    }
}
