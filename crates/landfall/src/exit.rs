//! How a command ends: three statuses, and nothing else leaves the program.

use std::process::ExitCode;

/// What the exit status of the program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// 0: done.
    Done,
    /// 1: we worked, and the answer is no: an input has errors, an image is missing.
    AnswerIsNo,
    /// 2: we could not do what was asked: a file cannot be read, the usage is wrong.
    Failed,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> ExitCode {
        ExitCode::from(match status {
            ExitStatus::Done => 0,
            ExitStatus::AnswerIsNo => 1,
            ExitStatus::Failed => 2,
        })
    }
}
