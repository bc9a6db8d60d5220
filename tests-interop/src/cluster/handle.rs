//! Handle of a cluster: starts it, sends it commands, and ends it by closing its standard input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};

use landfall_testkit::image_builder::ImageFixture;

use super::client::KubeClient;
use super::node::{CERTS_DIRECTORY, CONTAINERD_SOCKET, import_image};
use crate::program::run;

/// File name of the administrator's kubeconfig in the directory of the cluster.
pub const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";

pub(super) const COMMAND_KUBELET: &str = "kubelet";

/// A running cluster. It ends on drop, and also when this process ends in any way.
#[derive(Debug)]
pub struct Cluster {
    directory: Utf8PathBuf,
    child: Child,
    control: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Cluster {
    /// Starts a cluster without a kubelet; `program` is the path of `landfall-test-cluster`.
    ///
    /// # Panics
    /// Panics if it does not become ready.
    #[must_use]
    pub fn start(program: &Utf8Path) -> Cluster {
        let directory = tempfile::Builder::new()
            .prefix("landfall-cluster-")
            .tempdir()
            .expect("a temporary directory");
        // The cluster removes its directory: this process may have ended by then.
        let directory = Utf8PathBuf::from_path_buf(directory.keep()).expect("a temporary directory with a UTF-8 name");
        let log = fs_err::File::create(directory.join("test-cluster.err")).expect("a file in our own directory");
        let mut child = enter(program, &directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log.into_file())
            .spawn()
            .expect("unshare is part of util-linux");
        let input = child.stdin.take().expect("it was asked for");
        let output = child.stdout.take().expect("it was asked for");
        let cluster = Cluster {
            directory,
            child,
            control: Mutex::new((input, BufReader::new(output))),
        };
        cluster.command(None);
        cluster
    }

    /// Starts or restarts the kubelet with these additional flags, and waits until the node is ready.
    ///
    /// # Panics
    /// Panics if it does not become ready.
    pub fn start_kubelet(&self, flags: &[&str]) {
        self.command(Some(&[&[COMMAND_KUBELET], flags].concat().join("\t")));
    }

    /// Returns a client with every right.
    #[must_use]
    pub fn client(&self) -> KubeClient {
        KubeClient::of_kubeconfig(&self.kubeconfig())
    }

    #[must_use]
    pub fn kubeconfig(&self) -> Utf8PathBuf {
        self.directory.join("credentials").join(ADMIN_KUBECONFIG)
    }

    #[must_use]
    pub fn containerd_socket(&self) -> Utf8PathBuf {
        self.directory.join("containerd").join(CONTAINERD_SOCKET)
    }

    /// Imports an image into the containerd of the node.
    ///
    /// # Panics
    /// Panics if containerd does not take it.
    pub fn import_image(&self, name: &str, image: &ImageFixture) {
        let import = import_image(&self.directory.join("containerd"), name, image);
        drop(run(import()).succeeded());
    }

    /// Makes containerd read mirror files from this directory. It does so at every pull.
    ///
    /// # Panics
    /// Panics if called twice.
    pub fn read_mirror_files_from(&self, directory: &Utf8Path) {
        let link = self.directory.join("containerd").join(CERTS_DIRECTORY);
        fs_err::os::unix::fs::symlink(directory, link).expect("a link in our own directory");
    }

    /// Returns the audit log of writes to pods, one JSON object per line.
    #[must_use]
    pub fn audit_log(&self) -> String {
        fs_err::read_to_string(self.directory.join("audit.log")).unwrap_or_default()
    }

    /// Returns the log of one of the programs, for the message of a failed assertion.
    #[must_use]
    pub fn log(&self, program: &str) -> String {
        fs_err::read_to_string(self.directory.join(format!("{program}.err"))).unwrap_or_default()
    }

    /// Sends a command, if there is one, and waits for the answer.
    fn command(&self, line: Option<&str>) {
        let mut control = self.control.lock().expect("no test fails while it gives a command");
        if let Some(line) = line {
            writeln!(control.0, "{line}").expect("the cluster reads its input");
        }
        let mut answer = String::new();
        control
            .1
            .read_line(&mut answer)
            .expect("the cluster's output is a pipe");
        // A failed cluster removes the directory of the log; the open file still has its content.
        assert_eq!(answer, "ok\n", "the cluster failed:\n{}", self.log("test-cluster"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of its input ends the cluster. It removes its resources before that.
        if let Ok(control) = self.control.get_mut() {
            drop(writeln!(control.0, "end"));
        }
        drop(self.child.wait());
    }
}

/// Returns the command that runs a cluster in new namespaces.
#[must_use]
pub fn enter(program: &Utf8Path, directory: &Utf8Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"])
        .arg(program)
        .args(["inside", directory.as_str()]);
    command
}
