//! CNCF distribution as a child on a free loopback port: Debian's `docker-registry` (2.8), or 3.1.1, built by
//! `tests-interop/tools/tools.sh`.

mod access_log;

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::go_tool::tool;
use crate::poll::wait_for;
use crate::port::free_port;
use crate::program::{Program, run};
use crate::tls::PrivateAuthority;

pub use access_log::{Request, parse_access_log};

/// Number of ports that are tried if another process takes one first.
const PORT_ATTEMPTS: usize = 8;

/// Credentials of the only user.
#[derive(Debug, Clone, Copy)]
pub struct Account<'a> {
    pub user: &'a str,
    pub password: &'a str,
}

/// Release of distribution that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Debian's.
    V2,
    /// The version in `tests-interop/tools/tools.tsv`.
    V3,
}

/// A running registry.
#[derive(Debug)]
pub struct DockerRegistry {
    release: Release,
    program: Program,
    port: u16,
    directory: TempDir,
}

impl DockerRegistry {
    /// Starts an empty registry, with TLS from `authority`. Without an account every client may do everything.
    ///
    /// # Panics
    /// Panics if it does not listen before the deadline.
    #[must_use]
    pub fn start(authority: &PrivateAuthority, account: Option<Account<'_>>) -> DockerRegistry {
        DockerRegistry::start_release(Release::V2, authority, account)
    }

    /// Starts a registry of a release, like [`DockerRegistry::start`]. Only the access log of Debian's release
    /// is parsed.
    ///
    /// # Panics
    /// Panics if the build fails, or it does not listen before the deadline.
    #[must_use]
    pub fn start_release(
        release: Release,
        authority: &PrivateAuthority,
        account: Option<Account<'_>>,
    ) -> DockerRegistry {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        let server_files = authority.write_server_files(path);
        if let Some(account) = account {
            write_htpasswd(path, account);
        }
        for _ in 0..PORT_ATTEMPTS {
            let port = free_port();
            write_config(path, port, &server_files, account.is_some());
            if let Some(program) = start_listening(release, path, port) {
                return DockerRegistry {
                    release,
                    program,
                    port,
                    directory,
                };
            }
        }
        panic!("docker-registry found no free port in {PORT_ATTEMPTS} attempts");
    }

    /// Returns `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends the process. The data and the port stay for [`DockerRegistry::start_again`].
    pub fn stop(&mut self) {
        self.program.kill();
    }

    /// Starts the process again after [`DockerRegistry::stop`].
    ///
    /// # Panics
    /// Panics if it does not listen before the deadline.
    pub fn start_again(&mut self) {
        self.program =
            start_listening(self.release, self.path(), self.port).expect("the registry's port is still free");
    }

    /// Waits until every request that has begun is answered, and returns all requests in the order of their
    /// arrival.
    ///
    /// # Panics
    /// Panics if one is not answered within the deadline.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        wait_for("the registry's answer to every request", || {
            let requests = parse_access_log(&self.program.stderr());
            requests
                .iter()
                .all(|request| request.finished.is_some())
                .then_some(requests)
        })
    }

    /// Returns the size in bytes of a blob that the registry holds.
    ///
    /// # Panics
    /// Panics if the registry lacks it.
    #[must_use]
    pub fn blob_size(&self, digest: &str) -> u64 {
        let hex = digest.strip_prefix("sha256:").expect("a SHA-256 digest");
        let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        fs_err::metadata(self.data().join(blob))
            .expect("a blob of this registry")
            .len()
    }

    /// Returns the directory of the registry's data.
    #[must_use]
    pub fn data(&self) -> Utf8PathBuf {
        self.path().join("data")
    }

    /// Returns the registry's output, to be searched for secrets.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.output()
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("checked at the start")
    }
}

/// Starts the program and waits until it listens. Returns `None` if the port is taken.
fn start_listening(release: Release, directory: &Utf8Path, port: u16) -> Option<Program> {
    let name = "docker-registry";
    let listening = format!("listening on 127.0.0.1:{port}");
    let mut command = match release {
        Release::V2 => Command::new(name),
        Release::V3 => Command::new(tool("registry")),
    };
    // 3.1.1 would send traces to a collector.
    command
        .env("OTEL_TRACES_EXPORTER", "none")
        .arg("serve")
        .arg(directory.join("config.yml"))
        .current_dir(directory);
    // The log is appended to: a line of an older process must not count.
    let seen = Program::stderr_before_start(name, directory)
        .matches(&listening)
        .count();
    let mut program = Program::start(name, directory, command);
    wait_for("docker-registry listening", || {
        if let Some(status) = program.try_wait() {
            let output = program.output();
            assert!(
                output.contains("address already in use"),
                "docker-registry ended with {status}:\n{output}"
            );
            return Some(false);
        }
        (program.stderr().matches(&listening).count() > seen).then_some(true)
    })
    .then_some(program)
}

/// Writes the bcrypt entry with Apache's own tool.
fn write_htpasswd(directory: &Utf8Path, account: Account<'_>) {
    let mut command = Command::new("htpasswd");
    command.args(["-nbB", account.user, account.password]);
    fs_err::write(directory.join("htpasswd"), run(command).succeeded().stdout()).expect("a file in our own directory");
}

fn write_config(directory: &Utf8Path, port: u16, server: &(Utf8PathBuf, Utf8PathBuf), authenticated: bool) {
    let auth = if authenticated {
        format!(
            "auth:\n  htpasswd: {{realm: landfall, path: {}}}\n",
            directory.join("htpasswd")
        )
    } else {
        String::new()
    };
    // At level debug the JSON lines have the user and the bytes written. The access log proper has neither.
    let config = format!(
        "version: 0.1\n\
         log: {{level: debug, formatter: json, accesslog: {{disabled: true}}}}\n\
         storage:\n  filesystem: {{rootdirectory: {data}}}\n  delete: {{enabled: true}}\n\
         http:\n  addr: 127.0.0.1:{port}\n  secret: not-a-secret\n  tls: {{certificate: {}, key: {}}}\n{auth}",
        server.0,
        server.1,
        data = directory.join("data"),
    );
    fs_err::write(directory.join("config.yml"), config).expect("a file in our own directory");
}
