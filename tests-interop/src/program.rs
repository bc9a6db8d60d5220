//! Child processes that end with their owner, and programs that run to their end.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};

use crate::poll::wait_for;

/// A running child. Its output goes to two files, so that it can be read at any time and after a kill.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    stdout: Utf8PathBuf,
    stderr: Utf8PathBuf,
}

impl Program {
    /// Starts a command. Its output is appended to `<directory>/<name>.{out,err}`.
    ///
    /// # Panics
    /// Panics if the program cannot be started, for example because it is not installed.
    #[must_use]
    pub fn start(name: &str, directory: &Utf8Path, mut command: Command) -> Program {
        let [stdout, stderr] = log_files(name, directory);
        let child = command
            .stdin(Stdio::null())
            .stdout(open_log(&stdout))
            .stderr(open_log(&stderr))
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start {:?} (`make test` installs it): {error}",
                    command.get_program()
                )
            });
        Program {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// Returns what earlier programs of this name and directory wrote to standard error.
    #[must_use]
    pub fn stderr_before_start(name: &str, directory: &Utf8Path) -> String {
        let [_, stderr] = log_files(name, directory);
        read_lossy(&stderr)
    }

    /// Returns the exit status if the program has ended.
    ///
    /// # Panics
    /// Panics if the kernel does not know our child.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child can be asked for")
    }

    /// Waits for the end of the program.
    ///
    /// # Panics
    /// Panics after the deadline, with its output.
    pub fn wait(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        wait_for(&what, || self.try_wait())
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// Panics if the child is gone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// Sends SIGKILL and waits for the end. A child that has already ended stays ended.
    pub fn kill(&mut self) {
        // The only error is that the child has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// # Panics
    /// Never: a process id is positive.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Returns what the program wrote to standard output so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Returns what the program wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Returns both outputs, for the message of a failed assertion.
    #[must_use]
    pub fn output(&self) -> String {
        format!(
            "{0} wrote to stdout:\n{1}\n{0} wrote to stderr:\n{2}",
            self.name,
            self.stdout(),
            self.stderr()
        )
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs a program to its end.
///
/// # Panics
/// Panics if it cannot be started.
#[must_use]
pub fn run(mut command: Command) -> Finished {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!(
            "cannot start {:?} (`make test` installs it): {error}",
            command.get_program()
        )
    });
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args().map(OsStr::to_string_lossy) {
        write!(line, " {argument}").expect("a string takes everything");
    }
    Finished { line, output }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Finished {
    line: String,
    output: Output,
}

impl Finished {
    /// Returns the exit code; `None` if a signal ended the program.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.output.status.code()
    }

    #[must_use]
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    #[must_use]
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Returns the program if it succeeded.
    ///
    /// # Panics
    /// Panics with the output if it failed.
    #[must_use]
    pub fn succeeded(self) -> Finished {
        assert!(self.output.status.success(), "{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "`{}`: {}\nstdout:\n{}\nstderr:\n{}",
            self.line,
            self.output.status,
            self.stdout(),
            self.stderr()
        )
    }
}

fn log_files(name: &str, directory: &Utf8Path) -> [Utf8PathBuf; 2] {
    ["out", "err"].map(|extension| directory.join(format!("{name}.{extension}")))
}

fn open_log(path: &Utf8Path) -> std::fs::File {
    fs_err::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .expect("a log file in our own directory")
        .into_file()
}

fn read_lossy(path: &Utf8Path) -> String {
    String::from_utf8_lossy(&fs_err::read(path).unwrap_or_default()).into_owned()
}
