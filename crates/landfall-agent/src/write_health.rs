//! Failed writes of the agent's state. A disk that is full or read-only must not stop the agent: it goes on in memory,
//! says so once, and tries again with the next change.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::failure::line_with_hint;
use landfall_core::sync::lock;

use crate::failure::{describe_space, find_hint_in_context, is_full};

/// Advice where the disk of the state directory has no room.
const FREE_SPACE: &str = "free space on its disk; the agent goes on in memory until then";

/// The files that cannot be written, with the reason of each. Cheap to clone.
#[derive(Debug, Clone)]
pub struct WriteHealth {
    state_dir: Utf8PathBuf,
    problems: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl WriteHealth {
    /// Returns the health of a state directory of which nothing is known yet.
    #[must_use]
    pub fn new(state_dir: &Utf8Path) -> WriteHealth {
        WriteHealth {
            state_dir: state_dir.to_owned(),
            problems: Arc::default(),
        }
    }

    /// Takes note of the outcome of a write. The first failure of a file and its end are logged.
    pub fn note(&self, file: &'static str, written: anyhow::Result<()>) {
        let mut problems = lock(&self.problems);
        match written {
            Ok(()) => {
                if problems.remove(file).is_some() {
                    tracing::info!(file, "the agent's state is written again");
                }
            }
            Err(error) => {
                let problem = self.explain(file, &error);
                if problems.insert(file, problem.clone()).is_none() {
                    tracing::error!(problem, "cannot write the agent's state");
                }
            }
        }
    }

    /// Returns the reason why the state cannot be written; `None` if it can.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        lock(&self.problems).values().next().cloned()
    }

    fn explain(&self, file: &str, error: &anyhow::Error) -> String {
        let text = format!("{file} cannot be written: {error:#}");
        if !is_full(error.as_ref()) {
            return line_with_hint(text, find_hint_in_context(error));
        }
        line_with_hint(format!("{text}{}", describe_space(&self.state_dir)), Some(FREE_SPACE))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn problem_is_kept_until_the_file_is_written() {
        let health = WriteHealth::new("/".into());
        assert_eq!(health.problem(), None);
        let full =
            || Err::<(), _>(io::Error::from(io::ErrorKind::StorageFull)).context("failed to write `/s/ledger.json`");
        health.note("the ledger", full());
        health.note("the event log", Err(anyhow::anyhow!("it is read-only")));
        assert_eq!(
            health.problem().as_deref(),
            Some("the event log cannot be written: it is read-only")
        );
        health.note("the event log", Ok(()));
        let problem = health.problem().unwrap();
        assert!(
            problem.starts_with("the ledger cannot be written: failed to write `/s/ledger.json`: no storage space, ")
                && problem
                    .ends_with("bytes are free; hint: free space on its disk; the agent goes on in memory until then"),
            "{problem}"
        );
        health.note("the ledger", Ok(()));
        assert_eq!(health.problem(), None);
    }
}
