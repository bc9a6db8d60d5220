//! The outside of a cluster: starts it, gives it commands, and ends it by letting go of its standard input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};

use landfall_testkit::image_builder::BuiltImage;

use super::client::KubeClient;
use super::node::import_image;
use crate::program::run;

/// The kubeconfig of the cluster's administrator, below its directory.
pub const ADMIN_KUBECONFIG: &str = "admin.kubeconfig";

/// containerd's socket, below its directory.
pub const CONTAINERD_SOCKET: &str = "containerd.sock";

/// containerd's directory of mirror files, below its own; not there as long as nobody wants any.
pub(super) const CERTS_DIRECTORY: &str = "certs.d";

pub(super) const COMMAND_KUBELET: &str = "kubelet";

/// A running cluster. It ends when this is dropped, and also when this process ends in any way.
#[derive(Debug)]
pub struct Cluster {
    directory: Utf8PathBuf,
    child: Child,
    control: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Cluster {
    /// Starts a cluster without a kubelet; `testbed` is the path of `landfall-test-cluster`.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(testbed: &Utf8Path) -> Cluster {
        let directory = tempfile::Builder::new()
            .prefix("landfall-cluster-")
            .tempdir()
            .expect("a temporary directory");
        // The cluster removes it: this process may be gone by then.
        let directory = Utf8PathBuf::from_path_buf(directory.keep()).expect("a temporary directory with a UTF-8 name");
        let log = fs_err::File::create(directory.join("testbed.err")).expect("a file in our own directory");
        let mut child = enter(testbed, &directory)
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

    /// Starts the kubelet, or starts it anew, with these flags as well, and waits until the node is ready.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn start_kubelet(&self, flags: &[&str]) {
        self.command(Some(&[&[COMMAND_KUBELET], flags].concat().join("\t")));
    }

    /// A client with every right.
    #[must_use]
    pub fn client(&self) -> KubeClient {
        KubeClient::of_kubeconfig(&self.kubeconfig())
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> Utf8PathBuf {
        self.directory.join("credentials").join(ADMIN_KUBECONFIG)
    }

    /// containerd's socket.
    #[must_use]
    pub fn containerd_socket(&self) -> Utf8PathBuf {
        self.directory.join("containerd").join(CONTAINERD_SOCKET)
    }

    /// Puts an image on the node.
    ///
    /// # Panics
    /// When containerd does not take it.
    pub fn import_image(&self, name: &str, image: &BuiltImage) {
        let import = import_image(&self.directory.join("containerd"), name, image);
        drop(run(import()).succeeded());
    }

    /// Lets containerd find the mirror files that somebody writes into this directory; it looks at every pull.
    ///
    /// # Panics
    /// When called twice.
    pub fn read_mirror_files_from(&self, directory: &Utf8Path) {
        let link = self.directory.join("containerd").join(CERTS_DIRECTORY);
        fs_err::os::unix::fs::symlink(directory, link).expect("a link in our own directory");
    }

    /// The API server's audit log of writes to pods, one JSON object a line.
    #[must_use]
    pub fn audit_log(&self) -> String {
        fs_err::read_to_string(self.directory.join("audit.log")).unwrap_or_default()
    }

    /// The log of one of the cluster's programs, for the message of a failed assertion.
    #[must_use]
    pub fn log(&self, program: &str) -> String {
        fs_err::read_to_string(self.directory.join(format!("{program}.err"))).unwrap_or_default()
    }

    /// Gives a command, if there is one, and waits for the answer.
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
        // The log is in the directory that a failed cluster removes, but for what the file still holds.
        assert_eq!(answer, "ok\n", "the cluster failed:\n{}", self.log("testbed"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The end of its input ends it; what is left of it is removed by then.
        if let Ok(control) = self.control.get_mut() {
            drop(writeln!(control.0, "end"));
        }
        drop(self.child.wait());
    }
}

/// The command that runs a cluster in namespaces of its own.
#[must_use]
pub fn enter(testbed: &Utf8Path, directory: &Utf8Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc", "--"])
        .arg(testbed)
        .args(["inside", directory.as_str()]);
    command
}
