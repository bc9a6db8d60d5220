//! Printer of data to stdout and of messages to stderr.
//!
//! Nothing else in the program writes to either. A reader that closes stdout (`landfall plan … | head`) is no failure:
//! the printer returns [`ReaderGone`], which ends the program with success.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use clap::ValueEnum;

/// Amount of messages. Data and errors are always written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// `--quiet`: only errors.
    Quiet,
    /// The default: errors and results.
    Normal,
    /// `--verbose`: reasons too.
    Verbose,
}

/// Colour of messages and data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal with colours; the environment may force or forbid them.
    #[default]
    Auto,
    Always,
    Never,
}

impl ColorChoice {
    /// Decides about a stream. `NO_COLOR` (no-color.org) forbids colours; otherwise `FORCE_COLOR` and `CLICOLOR_FORCE`
    /// force them, unless they are `0`. `TERM=dumb` is a terminal without colours.
    fn allows(self, is_terminal: bool, variable: impl Fn(&str) -> Option<OsString>) -> bool {
        let is_set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        let forces = |name: &str| is_set(name) && variable(name).is_some_and(|value| value != "0");
        match self {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if is_set("NO_COLOR") => false,
            ColorChoice::Auto if forces("FORCE_COLOR") || forces("CLICOLOR_FORCE") => true,
            ColorChoice::Auto => is_terminal && !is_dumb(variable("TERM").as_deref()),
        }
    }
}

fn is_dumb(term: Option<&OsStr>) -> bool {
    term.is_some_and(|term| term == "dumb")
}

/// The reader of stdout has closed it: it has seen enough, and the program ends with success.
#[derive(Debug, thiserror::Error)]
#[error("the reader of stdout has gone")]
pub struct ReaderGone;

/// Writer of data and messages.
#[derive(Debug, Clone)]
pub struct Printer {
    verbosity: Verbosity,
    color: ColorChoice,
    /// True if stdout has other data: the command's own data goes to stderr.
    data_on_stderr: bool,
}

impl Printer {
    #[must_use]
    pub fn new(verbosity: Verbosity, color: ColorChoice) -> Printer {
        Printer {
            verbosity,
            color,
            data_on_stderr: false,
        }
    }

    /// Returns a printer that writes data to stderr, because stdout gets an image.
    #[must_use]
    pub fn to_stderr(&self) -> Printer {
        Printer {
            data_on_stderr: true,
            ..self.clone()
        }
    }

    #[must_use]
    pub fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Returns true if messages are coloured.
    #[must_use]
    pub fn colors_messages(&self) -> bool {
        self.color
            .allows(io::stderr().is_terminal(), |name| std::env::var_os(name))
    }

    /// Returns true if data is coloured.
    #[must_use]
    pub fn colors_data(&self) -> bool {
        let is_terminal = match self.data_on_stderr {
            true => io::stderr().is_terminal(),
            false => io::stdout().is_terminal(),
        };
        self.color.allows(is_terminal, |name| std::env::var_os(name))
    }

    /// Writes data to stdout, and adds a line end if there is none.
    ///
    /// # Errors
    /// [`ReaderGone`] if the reader has closed stdout; otherwise the error of writing.
    pub fn data(&self, text: &str) -> anyhow::Result<()> {
        let line_end = if text.ends_with('\n') { "" } else { "\n" };
        self.exact_data(text)?;
        self.exact_data(line_end)
    }

    /// Writes data to stdout unchanged.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn exact_data(&self, text: &str) -> anyhow::Result<()> {
        let write = |out: &mut dyn Write| out.write_all(text.as_bytes()).and_then(|()| out.flush());
        let written = match self.data_on_stderr {
            true => write(&mut io::stderr().lock()),
            false => write(&mut io::stdout().lock()),
        };
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderGone.into()),
            Err(error) => Err(error).context("cannot write to stdout"),
        }
    }

    /// Replaces what the terminal on stdout shows. Lines below its last row are counted, not shown.
    ///
    /// # Errors
    /// As [`Printer::data`].
    pub fn redraw<'a>(&self, lines: impl Iterator<Item = &'a str>, screen: &Screen) -> anyhow::Result<()> {
        self.exact_data(&render_screen(&lines.collect::<Vec<_>>(), *screen))
    }

    /// Prints a result on stderr, unless `--quiet`.
    pub fn note(&self, text: impl fmt::Display) {
        self.print_message(Verbosity::Normal, &text);
    }

    /// Prints a reason on stderr, with `--verbose`.
    pub fn detail(&self, text: impl fmt::Display) {
        self.print_message(Verbosity::Verbose, &text);
    }

    /// Prints a problem on stderr, always.
    pub fn problem(&self, text: impl fmt::Display) {
        self.print_message(Verbosity::Quiet, &text);
    }

    fn print_message(&self, needed: Verbosity, text: &dyn fmt::Display) {
        if self.verbosity >= needed {
            // If stderr is closed, no one can be told.
            let _stderr_closed = writeln!(io::stderr().lock(), "{}", text.to_string().trim_end_matches('\n'));
        }
    }
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    pub columns: usize,
    pub rows: usize,
}

/// Returns the size of the terminal on stdout; `None` if stdout is a pipe or a file, or its terminal cannot be redrawn.
#[must_use]
pub fn stdout_screen() -> Option<Screen> {
    let out = io::stdout();
    if !out.is_terminal() || is_dumb(std::env::var_os("TERM").as_deref()) {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out).ok()?;
    (size.ws_col > 0 && size.ws_row > 1).then_some(Screen {
        columns: usize::from(size.ws_col),
        rows: usize::from(size.ws_row),
    })
}

/// Renders lines for a terminal, from its first row on (ECMA-48: CUP, EL, ED). Each line clears the rest of its row, so that
/// nothing flickers. The terminal wraps a long line into several rows.
fn render_screen(lines: &[&str], screen: Screen) -> String {
    let rows_of = |line: &str| line.chars().count().div_ceil(screen.columns).max(1);
    let fitting = |room: usize| {
        let mut used = 0;
        let fits = |line: &&&str| {
            used += rows_of(line);
            used <= room
        };
        lines.iter().take_while(fits).count()
    };
    // The cursor stays in a row of its own.
    let room = screen.rows - 1;
    let shown = match fitting(room) {
        all if all == lines.len() => all,
        _ => fitting(room - 1),
    };
    let mut text = "\x1b[H".to_owned();
    for line in &lines[..shown] {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    if shown < lines.len() {
        text.push_str(&format!("… {} more lines\x1b[K\n", lines.len() - shown));
    }
    text.push_str("\x1b[J");
    text
}

/// Returns the width of the terminal on stdout, in columns; `None` if stdout is a pipe or a file.
#[must_use]
pub fn stdout_width() -> Option<usize> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(out).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_then_environment_then_terminal_decide_about_colours() {
        use ColorChoice::{Always, Auto, Never};
        let on_terminal = true;
        for (choice, variables, terminal, expected) in [
            (Auto, &[][..], on_terminal, true),
            (Auto, &[], false, false),
            (Auto, &[("TERM", "xterm")], on_terminal, true),
            (Auto, &[("TERM", "dumb")], on_terminal, false),
            (Auto, &[("NO_COLOR", "1")], on_terminal, false),
            (Auto, &[("NO_COLOR", "")], on_terminal, true),
            (Auto, &[("FORCE_COLOR", "1")], false, true),
            (Auto, &[("CLICOLOR_FORCE", "1"), ("TERM", "dumb")], false, true),
            (Auto, &[("FORCE_COLOR", "0")], false, false),
            (Auto, &[("FORCE_COLOR", "")], false, false),
            (Auto, &[("FORCE_COLOR", "1"), ("NO_COLOR", "1")], on_terminal, false),
            (Always, &[("NO_COLOR", "1"), ("TERM", "dumb")], false, true),
            (Never, &[("FORCE_COLOR", "1")], on_terminal, false),
        ] {
            let variable = |name: &str| {
                let found = variables.iter().find(|(of_name, _)| *of_name == name);
                found.map(|(_, value)| OsString::from(value))
            };
            assert_eq!(
                choice.allows(terminal, variable),
                expected,
                "{choice:?} {variables:?} terminal: {terminal}"
            );
        }
    }

    #[test]
    fn lines_below_the_last_row_are_counted() {
        let screen = |rows| Screen { columns: 4, rows };
        for (rows, expected) in [
            (4, "\x1b[Ha\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J"),
            (3, "\x1b[Ha\x1b[K\n… 2 more lines\x1b[K\n\x1b[J"),
            (2, "\x1b[H… 3 more lines\x1b[K\n\x1b[J"),
        ] {
            assert_eq!(render_screen(&["a", "b", "c"], screen(rows)), expected, "{rows} rows");
        }
        assert_eq!(
            render_screen(&["a", "of nine.", "c"], screen(4)),
            "\x1b[Ha\x1b[K\n… 2 more lines\x1b[K\n\x1b[J",
            "the second line has two rows"
        );
    }
}
