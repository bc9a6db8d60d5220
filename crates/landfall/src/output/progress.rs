//! Progress of long work, from one stream of events: bars on a terminal, lines in a pipe, JSON lines for programs.
//!
//! All progress goes to stderr.

mod bars;
mod lines;

use std::io::{self, IsTerminal};
use std::sync::Arc;

use clap::ValueEnum;
use landfall_core::status::{NoProgress, ProgressSink};

use crate::output::printer::{Printer, Verbosity};

/// Display of progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, plain lines elsewhere.
    #[default]
    Auto,
    /// A line of text for each phase and image.
    Plain,
    /// A line of JSON for each event.
    Json,
    /// No progress.
    None,
}

/// Progress display of a command, and a writer for log lines that does not disturb it.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Receiver of the events.
    pub sink: Arc<dyn ProgressSink>,
    /// Writer of log lines to stderr.
    pub log: LogWriter,
}

impl Progress {
    /// Starts the display of this mode.
    #[must_use]
    pub fn new(mode: ProgressMode, printer: &Printer) -> Progress {
        let bars_fit = io::stderr().is_terminal() && printer.verbosity() > Verbosity::Quiet;
        match mode {
            ProgressMode::Auto if bars_fit => {
                let bars = bars::Bars::new();
                let log = LogWriter {
                    bars: Some(bars.multi()),
                };
                Progress {
                    sink: Arc::new(bars),
                    log,
                }
            }
            ProgressMode::Auto | ProgressMode::Plain => Progress::without_bars(lines::PlainLines::new(printer.clone())),
            ProgressMode::Json => Progress::without_bars(lines::JsonLines),
            ProgressMode::None => Progress::without_bars(NoProgress),
        }
    }

    /// Returns true if the terminal shows a line for each image.
    #[must_use]
    pub fn shows_bars(&self) -> bool {
        self.log.bars.is_some()
    }

    fn without_bars(sink: impl ProgressSink + 'static) -> Progress {
        Progress {
            sink: Arc::new(sink),
            log: LogWriter { bars: None },
        }
    }
}

/// Writer to stderr that clears the progress bars for the time of a line.
#[derive(Debug, Clone)]
pub struct LogWriter {
    bars: Option<indicatif::MultiProgress>,
}

impl io::Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let write = || io::stderr().lock().write_all(line);
        match &self.bars {
            Some(bars) => bars.suspend(write)?,
            None => write()?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
