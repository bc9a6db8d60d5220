//! olareg as a child on a free loopback port, built by `tests-interop/tools/tools.sh`. It has no logins.

use std::net::TcpStream;
use std::process::Command;

use camino::Utf8Path;
use tempfile::TempDir;

use crate::go_tool::tool;
use crate::poll::wait_for;
use crate::port::free_port;
use crate::program::Program;
use crate::tls::PrivateAuthority;

#[derive(Debug)]
pub struct Olareg {
    program: Program,
    port: u16,
    _directory: TempDir,
}

impl Olareg {
    /// Starts an empty registry, with TLS from `authority`.
    ///
    /// # Panics
    /// Panics if the build fails, or it does not listen before the deadline.
    #[must_use]
    pub fn start(authority: &PrivateAuthority) -> Olareg {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        let (certificate, key) = authority.write_server_files(path);
        let port = free_port();
        let mut command = Command::new(tool("olareg"));
        command
            .args(["serve", "--api-delete", "--api-blob-delete", "--addr", "127.0.0.1"])
            .args(["--port", &port.to_string(), "--dir"])
            .arg(path.join("data"))
            .args(["--tls-cert", certificate.as_str(), "--tls-key", key.as_str()]);
        let mut program = Program::start("olareg", path, command);
        wait_for("olareg listening", || {
            if let Some(status) = program.try_wait() {
                panic!("olareg ended with {status}:\n{}", program.output());
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Olareg {
            program,
            port,
            _directory: directory,
        }
    }

    /// Returns `127.0.0.1:<port>`.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the registry's output, to be searched for secrets.
    #[must_use]
    pub fn log(&self) -> String {
        self.program.output()
    }
}
