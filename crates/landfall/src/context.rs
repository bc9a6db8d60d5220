//! Values that every command gets besides its own arguments.

use crate::output::printer::Printer;
use crate::output::progress::ProgressMode;

/// Output of a command.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) printer: Printer,
    pub(crate) progress: ProgressMode,
}
