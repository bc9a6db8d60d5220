//! A private containerd: own root, state and socket in a temporary directory, no CRI plug-in, no network.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

const START_ATTEMPTS: u32 = 500;
const START_PAUSE: Duration = Duration::from_millis(20);

/// A running containerd, killed by its process id on drop. After that its mounts are unmounted and its
/// directory is removed. Needs the `containerd` program and root.
#[derive(Debug)]
pub struct ContainerdProcess {
    directory: tempfile::TempDir,
    /// Directory of the content and of the images.
    root: Utf8PathBuf,
    child: Option<Child>,
}

impl ContainerdProcess {
    /// Starts containerd and waits until its socket answers.
    ///
    /// # Errors
    /// Returns an error if there is no `containerd` program, or it ends or does not answer. The error
    /// contains its log.
    pub fn start() -> io::Result<Self> {
        ContainerdProcess::boot_new(None)
    }

    /// Starts containerd with its content in this directory, which belongs to the caller.
    ///
    /// # Errors
    /// As [`ContainerdProcess::start`].
    pub fn start_at(root: &Utf8Path) -> io::Result<Self> {
        ContainerdProcess::boot_new(Some(root))
    }

    fn boot_new(root: Option<&Utf8Path>) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("landfall-containerd-").tempdir()?;
        let mut process = ContainerdProcess {
            directory,
            root: Utf8PathBuf::new(),
            child: None,
        };
        process.root = root.map_or_else(|| process.path("root"), Utf8Path::to_owned);
        fs_err::write(process.path("config.toml"), process.configuration())?;
        process.boot()?;
        Ok(process)
    }

    /// Returns the path of the unix socket.
    #[must_use]
    pub fn socket(&self) -> Utf8PathBuf {
        self.path("containerd.sock")
    }

    /// Kills containerd with SIGKILL, as a power cut would, and starts it again on the same root.
    ///
    /// # Errors
    /// As [`ContainerdProcess::start`].
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        self.boot()
    }

    /// Stops containerd and leaves its dead socket, as if the service were down.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended_already = child.kill();
            let _ended_already = child.wait();
        }
    }

    /// Runs `ctr` in namespace `k8s.io` and returns its output. For checks only: the product does not call
    /// `ctr`.
    ///
    /// # Errors
    /// Returns an error if `ctr` cannot run or fails; the error
    /// contains its output.
    pub fn ctr(&self, arguments: &[&str]) -> io::Result<String> {
        let output = Command::new("ctr")
            .args(["--address", self.socket().as_str(), "--namespace", "k8s.io"])
            .args(arguments)
            .output()?;
        if !output.status.success() {
            let talk = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!(
                "`ctr {}`: {}: {talk}",
                arguments.join(" "),
                output.status
            )));
        }
        String::from_utf8(output.stdout).map_err(io::Error::other)
    }

    fn boot(&mut self) -> io::Result<()> {
        let log = fs_err::File::create(self.path("log"))?;
        let child = Command::new("containerd")
            .args(["--config", self.path("config.toml").as_str()])
            .stdin(Stdio::null())
            .stdout(log.file().try_clone()?)
            .stderr(log.into_parts().0)
            .spawn()?;
        self.child = Some(child);
        for _ in 0..START_ATTEMPTS {
            if let Some(status) = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
                .transpose()?
            {
                let log = fs_err::read_to_string(self.path("log"))?;
                return Err(io::Error::other(format!("containerd ended with {status}:\n{log}")));
            }
            if self.answers() {
                return Ok(());
            }
            std::thread::sleep(START_PAUSE);
        }
        let log = fs_err::read_to_string(self.path("log"))?;
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("containerd stays silent:\n{log}"),
        ))
    }

    /// Returns true if the API answers. It comes up after the socket listens.
    fn answers(&self) -> bool {
        self.ctr(&["version"]).is_ok()
    }

    fn configuration(&self) -> String {
        let (root, state, socket) = (&self.root, self.path("state"), self.socket());
        let debug = self.path("debug.sock");
        format!(
            "version = 2\nroot = \"{root}\"\nstate = \"{state}\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\", \
             \"io.containerd.snapshotter.v1.btrfs\", \"io.containerd.snapshotter.v1.zfs\", \
             \"io.containerd.snapshotter.v1.devmapper\", \"io.containerd.snapshotter.v1.aufs\", \
             \"io.containerd.internal.v1.tracing\"]\n\
             [grpc]\naddress = \"{socket}\"\n[ttrpc]\naddress = \"{socket}.ttrpc\"\n[debug]\naddress = \"{debug}\"\n"
        )
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path())
            .expect("temporary directories have UTF-8 names")
            .join(name)
    }

    /// Returns the mount points below the directory, deepest first.
    fn mounts(&self) -> Vec<String> {
        let table = fs_err::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut mounts: Vec<_> = table
            .lines()
            .filter_map(|line| line.split(' ').nth(1))
            .filter(|target| std::path::Path::new(target).starts_with(self.directory.path()))
            .map(str::to_owned)
            .collect();
        mounts.reverse();
        mounts
    }
}

impl Drop for ContainerdProcess {
    fn drop(&mut self) {
        self.kill();
        for mount in self.mounts() {
            let _still_mounted = Command::new("umount").args(["--lazy", &mount]).status();
        }
    }
}
