//! The one way out: data to stdout, talk to stderr.
//!
//! Nothing else in the program writes to either. A reader of stdout that goes away (`landfall plan … | head`) is no
//! failure: it is reported as [`ReaderGone`], which ends the program with success.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;

/// How much the program talks. Data and errors are always written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// `--quiet`: errors only.
    Quiet,
    /// The default: what was done.
    Normal,
    /// `--verbose`: also why.
    Verbose,
}

/// The reader of our stdout has gone. Whoever started us has seen enough: the program ends with success.
#[derive(Debug, thiserror::Error)]
#[error("the reader of stdout has gone")]
pub struct ReaderGone;

/// Writes data and talk.
#[derive(Debug, Clone)]
pub struct Printer {
    verbosity: Verbosity,
}

impl Printer {
    /// A printer that talks as much as `verbosity` says.
    #[must_use]
    pub fn new(verbosity: Verbosity) -> Printer {
        Printer { verbosity }
    }

    /// How much this printer talks.
    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Writes data to stdout, with a line end if it has none.
    ///
    /// # Errors
    /// [`ReaderGone`] when nobody reads any more; otherwise what writing failed with.
    pub fn data(&self, text: &str) -> anyhow::Result<()> {
        let line_end = if text.ends_with('\n') { "" } else { "\n" };
        self.exact_data(text)?;
        self.exact_data(line_end)
    }

    /// Writes data to stdout as it is.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn exact_data(&self, text: &str) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
            Err(error) => Err(error).context("cannot write to stdout"),
        }
    }

    /// Says what was done, on stderr.
    pub fn note(&self, text: impl fmt::Display) {
        self.talk(Verbosity::Normal, &text);
    }

    /// Says why, on stderr, with `--verbose`.
    pub fn detail(&self, text: impl fmt::Display) {
        self.talk(Verbosity::Verbose, &text);
    }

    /// Says what is wrong, on stderr, always.
    pub fn problem(&self, text: impl fmt::Display) {
        self.talk(Verbosity::Quiet, &text);
    }

    fn talk(&self, needed: Verbosity, text: &dyn fmt::Display) {
        if self.verbosity >= needed {
            // With stderr gone there is no place left to complain to.
            let _nobody_listens = writeln!(io::stderr().lock(), "{}", text.to_string().trim_end_matches('\n'));
        }
    }
}

/// The width in columns of the terminal that stdout is; `None` when stdout is a pipe or a file.
#[must_use]
pub fn stdout_width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Whether talk may be coloured: stderr is a terminal, and `NO_COLOR` (no-color.org) is not set.
#[must_use]
pub fn stderr_may_be_coloured() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether data may be coloured: stdout is a terminal, and `NO_COLOR` (no-color.org) is not set.
#[must_use]
pub fn stdout_may_be_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
