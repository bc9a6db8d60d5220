//! Exit statuses. The program ends with no other.

use std::process::ExitCode;

/// Exit status of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done.
    Done,
    /// 1: the command worked, and the answer is no: an input has errors, an image is missing.
    AnswerIsNo,
    /// 2: the command could not do its work: a file cannot be read, the usage is wrong.
    Failed,
    /// 130: a signal stopped the command before its work was done, as a shell reports it for SIGINT.
    Interrupted,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(match status {
            ExitStatus::Done => 0,
            ExitStatus::AnswerIsNo => 1,
            ExitStatus::Failed => 2,
            ExitStatus::Interrupted => 130,
        })
    }
}
