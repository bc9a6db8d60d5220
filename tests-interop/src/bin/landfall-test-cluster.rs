//! Real Kubernetes on this machine, for tests and by hand (`make cluster-up`, `make cluster-down`).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer's program")]

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ExitCode, Stdio};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_tests_interop::cluster::host_resources::HostResources;
use landfall_tests_interop::cluster::{ADMIN_KUBECONFIG, enter, init};
use landfall_tests_interop::poll::{try_wait_for, try_wait_for_cluster, wait_for};
use landfall_tests_interop::program::run;

/// Named pipe for commands. The cluster itself holds it open.
const CONTROL: &str = "control";
/// File of the answers. Two lines mean that the kubelet is up as well.
const ANSWERS: &str = "test-cluster.out";
const LOG: &str = "test-cluster.err";
const PID: &str = "test-cluster.pid";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["up", directory] => up(Utf8Path::new(directory)),
        ["down", directory] => down(Utf8Path::new(directory)),
        ["inside", directory] => init::run_inside(Utf8Path::new(directory)),
        _ => {
            eprintln!("usage: landfall-test-cluster up|down DIRECTORY");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// Starts a cluster that outlives this process.
fn up(directory: &Utf8Path) {
    assert!(
        !directory.exists(),
        "{directory} is there: `make cluster-down` ends that cluster"
    );
    fs_err::create_dir_all(directory).expect("a new directory");
    let control = directory.join(CONTROL);
    let mut pipe = std::process::Command::new("mkfifo");
    pipe.arg(&control);
    drop(run(pipe).succeeded());
    let input = open_control(directory);
    let file = |name: &str| {
        fs_err::File::create(directory.join(name))
            .expect("a file in our own directory")
            .into_file()
    };
    let myself = Utf8PathBuf::from_path_buf(std::env::current_exe().expect("a program knows its own path"))
        .expect("a target directory with a UTF-8 name");
    let mut child = enter(&myself, directory)
        .stdin(Stdio::from(input.into_file()))
        .stdout(file(ANSWERS))
        .stderr(file(LOG))
        .process_group(0)
        .spawn()
        .expect("unshare is part of util-linux");
    fs_err::write(directory.join(PID), child.id().to_string()).expect("a file in our own directory");
    tell(directory, "kubelet");
    let answers = || fs_err::read_to_string(directory.join(ANSWERS)).unwrap_or_default();
    let log = fs_err::File::open(directory.join(LOG)).expect("our own file");
    let ready = wait_twice(|| (answers() == "ok\nok\n" || child.try_wait().ok().flatten().is_some()).then(answers));
    if ready.as_deref() != Some("ok\nok\n") {
        panic!(
            "the cluster failed:\n{}",
            std::io::read_to_string(log).unwrap_or_default()
        );
    }
    println!(
        "export KUBECONFIG={}",
        directory.join("credentials").join(ADMIN_KUBECONFIG)
    );
}

/// Waits for twice the deadline of one wait: the control plane and the kubelet have a deadline each, inside.
fn wait_twice<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..2).find_map(|_| try_wait_for_cluster(&mut look))
}

/// Ends a cluster in any state, and removes what is left of it.
fn down(directory: &Utf8Path) {
    let pid = fs_err::read_to_string(directory.join(PID))
        .ok()
        .and_then(|pid| pid.parse::<i32>().ok());
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        let gone = || rustix::process::test_kill_process(pid).is_err().then_some(());
        if gone().is_none() {
            tell(directory, "end");
            if try_wait_for(gone).is_none() {
                let _ended_by_now = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                wait_for("the end of the cluster", gone);
            }
        }
    }
    HostResources::of(directory).remove();
}

fn tell(directory: &Utf8Path, line: &str) {
    let mut control = open_control(directory);
    control.write_all(format!("{line}\n").as_bytes()).expect("our own pipe");
}

/// Opens the pipe for both directions, so that opening does not block and reading never sees the end of file.
fn open_control(directory: &Utf8Path) -> fs_err::File {
    let mut options = fs_err::OpenOptions::new();
    let opened = options.read(true).write(true).open(directory.join(CONTROL));
    opened.expect("our own pipe")
}
