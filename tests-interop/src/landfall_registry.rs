//! `landfall registry serve` as a child on a free loopback port.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::agent::landfall;
use crate::docker_registry::Account;
use crate::poll::wait_for;
use crate::program::{Program, run};
use crate::tls::PrivateAuthority;

/// A running Landfall registry.
#[derive(Debug)]
pub struct LandfallRegistry {
    program: Program,
    arguments: Vec<String>,
    url: String,
    directory: TempDir,
}

impl LandfallRegistry {
    /// Starts an empty registry. With an authority it serves TLS; without an account every client may do
    /// everything.
    ///
    /// # Panics
    /// Panics if it does not listen before the deadline.
    #[must_use]
    pub fn start(authority: Option<&PrivateAuthority>, account: Option<Account<'_>>) -> LandfallRegistry {
        LandfallRegistry::start_with(authority, account, None, &[])
    }

    /// Starts a registry with its data in `root`, if there is one, and these further arguments.
    ///
    /// # Panics
    /// Panics if it does not listen before the deadline.
    #[must_use]
    pub fn start_with(
        authority: Option<&PrivateAuthority>,
        account: Option<Account<'_>>,
        root: Option<&Utf8Path>,
        further: &[&str],
    ) -> LandfallRegistry {
        // In memory where possible: these tests do not depend on the speed of a disk.
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        let root = root.map_or_else(|| path.join("data"), Utf8Path::to_owned);
        let mut arguments: Vec<String> = ["registry", "serve", "--listen", "127.0.0.1:0", "--root", root.as_str()]
            .map(str::to_owned)
            .into();
        if let Some(authority) = authority {
            let (certificate, key) = authority.write_server_files(path);
            arguments.extend(["--tls-certificate".to_owned(), certificate.into_string()]);
            arguments.extend(["--tls-key".to_owned(), key.into_string()]);
        }
        if let Some(Account { user, password }) = account {
            let mut command = Command::new("htpasswd");
            command.args(["-nbB", user, password]);
            let file = path.join("htpasswd");
            fs_err::write(&file, run(command).succeeded().stdout()).expect("a file in our own directory");
            arguments.extend(["--htpasswd".to_owned(), file.into_string()]);
        }
        arguments.extend(further.iter().map(ToString::to_string));
        let (program, url) = start_listening(path, &arguments);
        LandfallRegistry {
            program,
            arguments,
            url,
            directory,
        }
    }

    /// Returns `http://127.0.0.1:<port>`, or `https`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns `127.0.0.1:<port>`.
    ///
    /// # Panics
    /// Never: a URL has a scheme.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.split_once("://").expect("a URL has a scheme").1
    }

    /// Returns the data directory, unless the arguments name another one.
    ///
    /// # Panics
    /// Never: checked at the start.
    #[must_use]
    pub fn root(&self) -> Utf8PathBuf {
        let path = Utf8Path::from_path(self.directory.path()).expect("checked at the start");
        path.join("data")
    }

    /// Returns the child process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Sends SIGKILL. The data stays for [`LandfallRegistry::start_again`].
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts the registry again with the same arguments, on another port.
    ///
    /// # Panics
    /// Panics if it does not listen before the deadline.
    pub fn start_again(&mut self) {
        self.program.kill();
        let path = Utf8Path::from_path(self.directory.path()).expect("checked at the start");
        (self.program, self.url) = start_listening(path, &self.arguments);
    }
}

/// Starts the program with a command that serves, and waits until it prints its URL. Returns the URL.
///
/// # Panics
/// Panics if it does not listen before the deadline.
#[must_use]
pub fn start_listening(directory: &Utf8Path, arguments: &[String]) -> (Program, String) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let name = "registry";
    // Output is appended to: a line of an older process must not count.
    let seen = fs_err::read(directory.join(format!("{name}.out")))
        .unwrap_or_default()
        .len();
    let mut program = Program::start(name, directory, landfall(&arguments));
    let url = wait_for("the registry listening", || {
        if let Some(status) = program.try_wait() {
            panic!("the registry ended with {status}:\n{}", program.output());
        }
        let line = program.stdout().split_off(seen);
        line.strip_suffix('\n').map(str::to_owned)
    });
    (program, url)
}
