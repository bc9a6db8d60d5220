//! Runs the built program on the examples.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod desk;
pub(crate) mod followed;

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use landfall_testkit::memory::peak_memory;

/// Secret value that must never be in the output.
pub(crate) const CANARY: &str = "canary-7f3a9c";

/// Values for every template of the example profile.
pub(crate) const VALUES: [&str; 4] = [
    "--set",
    "macro.provider-password=canary-7f3a9c",
    "--set",
    "var.registryPassword=canary-7f3a9c",
];

/// Returns the program as a command in the workspace's root, where `examples/` is, without this machine's environment.
pub(crate) fn landfall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfall"));
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
        .env_clear()
        .args(arguments);
    command
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    landfall(arguments).output().expect("the program starts")
}

/// Runs the program with a text on stdin.
pub(crate) fn run_with_stdin(arguments: &[&str], text: &str) -> Output {
    run_command_with_stdin(landfall(arguments), text)
}

/// Runs a command of the program with a text on stdin.
pub(crate) fn run_command_with_stdin(mut command: Command, text: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(text.as_bytes()).expect("the program reads stdin");
    drop(stdin);
    child.wait_with_output().expect("the program ends")
}

/// Runs the program to its end. Returns the largest memory that it had as well, in MiB.
pub(crate) fn run_measured(arguments: &[&str]) -> (Output, u64) {
    let mut command = landfall(arguments);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("the program starts");
    let process = child.id().to_string();
    let ended = std::thread::spawn(move || child.wait_with_output().expect("the program ends"));
    let mut peak = 0;
    // Its memory is gone once it has ended, so it is asked for often.
    while !ended.is_finished() {
        peak = peak_memory(&process).unwrap_or_default().max(peak);
        std::thread::sleep(Duration::from_millis(1));
    }
    (ended.join().expect("no panic"), peak >> 20)
}

/// Renders status, stdout and stderr as one text, for a snapshot.
pub(crate) fn shown(output: &Output) -> String {
    let mut text = format!("status {}\n", output.status.code().expect("the program was not killed"));
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let content = String::from_utf8_lossy(bytes);
        if !content.is_empty() {
            write!(text, "--- {name}\n{content}").expect("a string takes everything");
        }
    }
    text
}

/// Runs the program and renders its output as [`shown`].
pub(crate) fn show(arguments: &[&str]) -> String {
    shown(&run(arguments))
}

/// Waits until a file is there.
pub(crate) fn wait_for_file(path: &Path) {
    for _ in 0..1_000 {
        if path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("it never came: {}", path.display());
}

/// Command that runs until the test ends it, even by a panic.
pub(crate) struct Running {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Running {
        let mut child = landfall(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        Running { child, stdout }
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("stdout is UTF-8");
        line.trim_end().to_owned()
    }

    /// Returns the largest memory of the program so far, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let peak = peak_memory(&self.child.id().to_string());
        peak.expect("the program runs") >> 20
    }

    pub(crate) fn hang_up(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).expect("the program runs");
    }

    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the program runs");
        self.child.wait().expect("the program ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The program has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
