//! Execution of one command with a timeout and a limit on the kept output.

use std::process::Stdio;
use std::time::Duration;

use camino::Utf8Path;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use super::outcome::StageError;

/// The maximum number of kept bytes: the end of an output tells why a command failed.
const OUTPUT_BYTES_MAX: usize = 16 << 10;
const READ_BYTES: usize = 4 << 10;

/// Runs `sh -c script`; see [`run_program`].
pub(super) async fn run_shell(script: &str, directory: &Utf8Path, limit: Duration) -> Result<String, StageError> {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(directory);
    run_program(command, "sh", limit).await
}

/// Runs a program and returns the end of its output. The program gets no input, and a process group of its own, so that
/// after a timeout it is killed with its children. Processes that it leaves in the background are not waited for.
///
/// # Errors
/// If the program cannot be run, exits with another code than 0, or takes longer than `limit`.
pub(super) async fn run_program(mut command: Command, name: &str, limit: Duration) -> Result<String, StageError> {
    let failed = |source| StageError::Program {
        program: name.to_owned(),
        source,
    };
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    let mut reader = Receiver::from_owned_fd(reader.into()).map_err(failed)?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(failed)?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    // The command holds the writing end of the pipe. It must be closed here, or the reader never sees the end.
    drop(command);
    let mut output = Vec::new();
    let ended = tokio::time::timeout(limit, watch(&mut child, &mut reader, &mut output)).await;
    let Ok(ended) = ended else {
        kill_group(&mut child).await.map_err(failed)?;
        return Err(StageError::Timeout {
            limit,
            output: text(&output),
        });
    };
    let status = ended.map_err(failed)?;
    // The last output of the command is still in the pipe.
    let mut buffer = [0; READ_BYTES];
    while let Ok(length @ 1..) = reader.try_read(&mut buffer) {
        keep_end(&mut output, &buffer[..length]);
    }
    if status.success() {
        Ok(text(&output))
    } else {
        Err(StageError::Exit {
            status,
            output: text(&output),
        })
    }
}

async fn watch(
    child: &mut Child,
    reader: &mut Receiver,
    output: &mut Vec<u8>,
) -> std::io::Result<std::process::ExitStatus> {
    let mut buffer = [0; READ_BYTES];
    loop {
        tokio::select! {
            status = child.wait() => return status,
            read = reader.read(&mut buffer) => match read? {
                0 => return child.wait().await,
                length => keep_end(output, &buffer[..length]),
            },
        }
    }
}

async fn kill_group(child: &mut Child) -> std::io::Result<()> {
    let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    if let Some(group) = group {
        // The process may have ended in this moment.
        let _already_gone = kill_process_group(group, Signal::KILL);
    }
    child.wait().await.map(drop)
}

fn keep_end(output: &mut Vec<u8>, bytes: &[u8]) {
    output.extend_from_slice(bytes);
    let excess = output.len().saturating_sub(OUTPUT_BYTES_MAX);
    output.drain(..excess);
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn run(script: &str) -> Result<String, StageError> {
        run_shell(script, Utf8Path::new("/"), LIMIT).await
    }

    #[tokio::test]
    async fn output_and_errors_come_in_the_order_they_were_printed() {
        assert_eq!(
            run("echo one; echo two >&2; echo three").await.unwrap(),
            "one\ntwo\nthree\n"
        );
    }

    #[tokio::test]
    async fn the_end_of_a_long_output_is_kept() {
        let output = run("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i+1)); done")
            .await
            .unwrap();
        assert_eq!(output.len(), OUTPUT_BYTES_MAX);
        assert!(output.ends_with("line 4999\n"));
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed_with_its_children() {
        let script = "echo started; sleep 600 & echo $!; wait";
        let limit = Duration::from_millis(300);
        let error = run_shell(script, Utf8Path::new("/"), limit).await.unwrap_err();
        let StageError::Timeout { output, .. } = &error else {
            panic!("{error}")
        };
        let child = output
            .lines()
            .nth(1)
            .expect("the child's number was printed")
            .to_owned();
        let state = || fs_err::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // A killed process stays as a zombie until its new parent has reaped it.
        let gone = || state().is_empty() || state().contains(") Z ") || state().contains(") X ");
        for _ in 0..1000 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the child still runs: {}", state());
    }

    #[tokio::test]
    async fn a_background_process_is_not_waited_for() {
        let output = run("sleep 600 & echo $!").await.unwrap();
        let child = output
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .expect("the child's number was printed");
        rustix::process::kill_process(child, Signal::KILL).expect("it still runs, and is ours");
    }

    #[tokio::test]
    async fn a_failing_command_tells_its_status_and_what_it_printed() {
        let error = run("echo oh no; exit 7").await.unwrap_err();
        assert_eq!(error.to_string(), "the command ended with exit status: 7");
        assert!(matches!(error, StageError::Exit { output, .. } if output == "oh no\n"));
    }
}
