//! The binary under test, and a running `landfall agent`.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::status::{AgentStatus, Phase, ProgressEvent};
use rustix::process::Signal;

use crate::poll::try_wait_for;
use crate::program::{Finished, Program, run};

static BINARY: OnceLock<Utf8PathBuf> = OnceLock::new();

/// Environment variable with the cargo profile of the binary under test. `dev` gives a quick debug build.
const PROFILE: &str = "LANDFALL_TEST_PROFILE";

/// Returns the path of `landfall`. The first call builds it: the release build, which is what users run.
///
/// # Panics
/// Panics if the build fails.
pub fn binary() -> &'static Utf8Path {
    BINARY.get_or_init(|| {
        let profile = std::env::var(PROFILE).unwrap_or_else(|_| "release".into());
        let test = std::env::current_exe().expect("a test knows its own path");
        // target/<profile>/deps/<test>
        let target = test.ancestors().nth(3).expect("a test lies in target/<profile>/deps");
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "landfall",
            "--bin",
            "landfall",
        ]);
        command.args(["--profile", &profile, "--target-dir"]).arg(target);
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
        drop(run(command).succeeded());
        // Cargo's profile `dev` builds into a directory of another name.
        let directory = if profile == "dev" { "debug" } else { &profile };
        let binary = target.join(directory).join("landfall");
        Utf8PathBuf::from_path_buf(binary).expect("a target directory with a UTF-8 name")
    })
}

/// Returns a command of the binary that takes no configuration from the environment of this machine.
#[must_use]
pub fn landfall(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .args(arguments);
    command
}

/// Runs a command of the binary to its end.
#[must_use]
pub fn run_landfall(arguments: &[&str]) -> Finished {
    run(landfall(arguments))
}

/// A running `landfall agent`.
#[derive(Debug)]
pub struct LandfallAgent {
    program: Program,
    state_dir: Utf8PathBuf,
    /// Length of the log that an earlier agent wrote.
    log_start: usize,
}

impl LandfallAgent {
    pub(crate) fn start(log_directory: &Utf8Path, state_dir: &Utf8Path, arguments: &[&str]) -> LandfallAgent {
        LandfallAgent::start_by(log_directory, state_dir, landfall(arguments))
    }

    /// Starts an agent by a command that becomes `landfall`.
    pub(crate) fn start_by(log_directory: &Utf8Path, state_dir: &Utf8Path, command: Command) -> LandfallAgent {
        let log_start = Program::stderr_before_start("landfall", log_directory).len();
        let program = Program::start("landfall", log_directory, command);
        LandfallAgent {
            program,
            state_dir: state_dir.to_owned(),
            log_start,
        }
    }

    /// Returns what this run wrote to standard error: messages, and progress as JSON lines.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.program.stderr().split_off(self.log_start)
    }

    /// Returns the progress events so far.
    #[must_use]
    pub fn progress(&self) -> Vec<ProgressEvent> {
        self.stderr()
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Returns the messages so far: every line that is not a progress event.
    #[must_use]
    pub fn messages(&self) -> String {
        let stderr = self.stderr();
        let lines = stderr
            .lines()
            .filter(|line| serde_json::from_str::<ProgressEvent>(line).is_err());
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Returns the output of all agents of this site, to be searched for secrets.
    #[must_use]
    pub fn output(&self) -> String {
        self.program.output()
    }

    /// Waits until the progress satisfies `reached`; `what` is for the message.
    ///
    /// # Panics
    /// Panics if the agent ends or has everything in place before, or the deadline passes.
    pub fn wait_for_progress(&mut self, what: &str, reached: impl Fn(&[ProgressEvent]) -> bool) {
        let last = ProgressEvent::Phase { phase: Phase::Running };
        let came = try_wait_for(|| {
            // Checked before the log is read, so that everything written until the end counts.
            let ended = self.program.try_wait().is_some();
            let progress = self.progress();
            let reached = reached(&progress);
            (reached || ended || progress.contains(&last)).then_some(reached)
        });
        assert_eq!(came, Some(true), "{what} was not reached\n{}", self.messages());
    }

    /// Waits for a phase by reading the status file, as an operator would.
    ///
    /// # Panics
    /// Panics if the agent ends or is degraded before, or the deadline passes.
    pub fn wait_for_phase(&mut self, phase: Phase) -> AgentStatus {
        let file = self.state_dir.join("status.json");
        let last = try_wait_for(|| {
            let ended = self.program.try_wait().is_some();
            let bytes = fs_err::read(&file).ok();
            let status: Option<AgentStatus> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            let settled = status
                .as_ref()
                .is_some_and(|status| status.phase == phase || status.phase == Phase::Degraded);
            (settled || ended).then_some(status)
        });
        match last.flatten() {
            Some(status) if status.phase == phase => status,
            other => panic!("phase {phase} was not reached: {other:#?}\n{}", self.messages()),
        }
    }

    /// Sends SIGKILL.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Sends SIGTERM and returns the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.program.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end of the agent and returns the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.program.wait().code()
    }
}
