//! Registries as children on loopback, each with its own storage in memory.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::http::{Body, Http};
use crate::process::{parse_memory, read_cpu_seconds, service};

/// A file system in memory: a disk would dominate every row.
const MEMORY: &str = "/dev/shm";
const START_TIME: Duration = Duration::from_secs(10);

/// A registry program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum RegistryKind {
    /// Debian's docker-registry (distribution 2.8)
    DockerRegistry,
    /// Distribution 3
    Registry3,
    /// olareg
    Olareg,
    /// `landfall registry serve`
    Landfall,
}

impl RegistryKind {
    pub(crate) const ALL: [RegistryKind; 4] = [
        RegistryKind::DockerRegistry,
        RegistryKind::Registry3,
        RegistryKind::Olareg,
        RegistryKind::Landfall,
    ];

    /// Returns the name of the registry in rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RegistryKind::DockerRegistry => "docker-registry",
            RegistryKind::Registry3 => "registry 3",
            RegistryKind::Olareg => "olareg",
            RegistryKind::Landfall => "landfall",
        }
    }

    fn command(self, program: &Path, root: &Path, address: SocketAddr) -> anyhow::Result<Command> {
        let mut command = match self {
            RegistryKind::Landfall => service(program),
            _ => Command::new(program),
        };
        match self {
            RegistryKind::DockerRegistry | RegistryKind::Registry3 => {
                let config = root.join("config.yml");
                fs_err::write(&config, distribution_config(&root.join("data"), address))?;
                command.arg("serve").arg(config);
                // The default exporter of version 3 looks for a collector.
                command.env("OTEL_TRACES_EXPORTER", "none");
            }
            RegistryKind::Olareg => {
                let (root, host, port) = (root.join("data"), address.ip().to_string(), address.port().to_string());
                command.args([
                    "serve",
                    "--addr",
                    &host,
                    "--port",
                    &port,
                    "--store-type",
                    "dir",
                    "--dir",
                ]);
                command.arg(root);
            }
            RegistryKind::Landfall => {
                command.args(["registry", "serve", "--listen", &address.to_string(), "--root"]);
                command.arg(root.join("data"));
            }
        }
        Ok(command)
    }
}

fn distribution_config(data: &Path, address: SocketAddr) -> String {
    format!(
        "version: 0.1\n\
         log: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {data}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: '{address}', secret: not-a-secret}}\n",
        data = data.display()
    )
}

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    pub(crate) peak_bytes: u64,
}

/// A running registry. Drop ends its process and removes its storage.
#[derive(Debug)]
pub(crate) struct RunningRegistry {
    kind: RegistryKind,
    program: PathBuf,
    address: SocketAddr,
    root: tempfile::TempDir,
    child: Child,
}

impl RunningRegistry {
    /// Starts an empty registry on loopback and waits until it answers.
    pub(crate) fn start(kind: RegistryKind, program: &Path) -> anyhow::Result<RunningRegistry> {
        RunningRegistry::start_at(kind, program, Ipv4Addr::LOCALHOST.into())
    }

    /// Starts an empty registry at another address of this machine.
    pub(crate) fn start_at(kind: RegistryKind, program: &Path, address: IpAddr) -> anyhow::Result<RunningRegistry> {
        let root = match Path::new(MEMORY).is_dir() {
            true => tempfile::Builder::new().prefix("landfall-bench-").tempdir_in(MEMORY),
            false => tempfile::tempdir(),
        };
        let root = root.context("cannot make a directory for a registry")?;
        let address = SocketAddr::new(address, free_port()?);
        let child = start(kind, program, root.path(), address)?;
        Ok(RunningRegistry {
            kind,
            program: program.to_owned(),
            address,
            root,
            child,
        })
    }

    /// Returns `ADDRESS:PORT`.
    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the CPU time since the start of the process, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        read_cpu_seconds(&self.child.id().to_string())
    }

    /// Returns the current and the highest memory.
    pub(crate) fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let bytes = |key| parse_memory(&status, key).with_context(|| format!("there is no `{key}` in its status"));
        Ok(Memory {
            resident_bytes: bytes("VmRSS")?,
            peak_bytes: bytes("VmHWM")?,
        })
    }

    /// Restarts the registry on the same content.
    pub(crate) fn start_again(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        self.child = start(self.kind, &self.program, self.root.path(), self.address)?;
        Ok(())
    }

    /// Restarts the registry and returns the time until it answers a request with 200.
    #[expect(clippy::disallowed_types, reason = "a benchmark measures real time")]
    pub(crate) fn time_to_answer(&mut self, path: &str) -> anyhow::Result<Duration> {
        self.stop()?;
        let mut command = self.kind.command(&self.program, self.root.path(), self.address)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let start = std::time::Instant::now();
        self.child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let host = self.host();
        let answered = || {
            let headers = [("accept", "application/vnd.oci.image.manifest.v1+json")];
            let answer = Http::connect(&host).and_then(|mut http| http.request("GET", path, &headers, Body::Empty));
            answer.is_ok_and(|answer| answer.status == 200)
        };
        while !answered() {
            anyhow::ensure!(start.elapsed() < START_TIME, "{} does not answer", self.kind.name());
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(start.elapsed())
    }

    /// Stops the registry, removes all content or restores the content of a [`RunningRegistry::keep`], and
    /// starts it again.
    pub(crate) fn restart(&mut self, content: Option<&Path>) -> anyhow::Result<()> {
        self.stop()?;
        let data = self.root.path().join("data");
        if data.exists() {
            fs_err::remove_dir_all(&data)?;
        }
        if let Some(content) = content {
            copy_directory(content, &data)?;
        }
        self.child = start(self.kind, &self.program, self.root.path(), self.address)?;
        Ok(())
    }

    /// Copies the content; the copy lives as long as this registry.
    pub(crate) fn keep(&mut self) -> anyhow::Result<PathBuf> {
        let kept = self.root.path().join("kept");
        self.stop()?;
        if kept.exists() {
            fs_err::remove_dir_all(&kept)?;
        }
        copy_directory(&self.root.path().join("data"), &kept)?;
        self.child = start(self.kind, &self.program, self.root.path(), self.address)?;
        Ok(kept)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        self.child.kill().context("cannot end a registry")?;
        self.child.wait().context("cannot wait for a registry's end")?;
        Ok(())
    }
}

impl Drop for RunningRegistry {
    fn drop(&mut self) {
        // An error means that it has ended already.
        drop(self.stop());
    }
}

fn start(kind: RegistryKind, program: &Path, root: &Path, address: SocketAddr) -> anyhow::Result<Child> {
    const POLL: Duration = Duration::from_millis(5);
    fs_err::create_dir_all(root.join("data"))?;
    let log = fs_err::File::create(root.join("log"))?.into_parts().0;
    let mut command = kind.command(program, root, address)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
    let host = address.to_string();
    let mut waited = Duration::ZERO;
    while !answers(&host) {
        if let Some(status) = child.try_wait()? {
            let log = fs_err::read_to_string(root.join("log"))?;
            bail!("{} ended with {status}: {}", kind.name(), log.trim());
        }
        if waited >= START_TIME {
            child.kill()?;
            child.wait()?;
            bail!("{} did not answer within {START_TIME:?}", kind.name());
        }
        std::thread::sleep(POLL);
        waited += POLL;
    }
    Ok(child)
}

fn answers(host: &str) -> bool {
    let ping = Http::connect(host).and_then(|mut http| http.request("GET", "/v2/", &[], Body::Empty));
    ping.is_ok_and(|answer| answer.status == 200)
}

fn copy_directory(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    let copied = copied.context("cannot run `cp`")?;
    anyhow::ensure!(copied.success(), "`cp` could not copy `{}`", from.display());
    Ok(())
}

/// Returns a port that was free a moment ago: the servers' default ports may be taken on this machine.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot bind a port")?;
    Ok(listener.local_addr().context("cannot read the port")?.port())
}
