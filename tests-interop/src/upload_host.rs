//! A host without a network and without containerd: an agent that gets its images out of bundles.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::status::{AgentStatus, BundleStatus};
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::landfall;
use crate::bundle::TILL;
use crate::poll::wait_for;
use crate::port::free_port;
use crate::program::{Program, run};

/// A host. Its drop ends its agent and removes everything.
#[derive(Debug)]
pub struct UploadHost {
    /// Removed with the host, if it has one of its own.
    directory: Option<TempDir>,
    path: Utf8PathBuf,
    port: u16,
    agent: Option<Program>,
}

impl UploadHost {
    /// Returns a host whose profile has the image [`TILL`]. Its agent does not run yet.
    ///
    /// # Panics
    /// Panics if a file cannot be written.
    #[must_use]
    pub fn new() -> UploadHost {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let directory = directory.expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        let mut host = UploadHost::on(path);
        host.directory = Some(directory);
        host
    }

    /// Returns a host in this directory, which has another owner.
    ///
    /// # Panics
    /// Panics if a file cannot be written.
    #[must_use]
    pub fn on(path: &Utf8Path) -> UploadHost {
        let host = UploadHost {
            directory: None,
            path: path.to_owned(),
            port: free_port(),
            agent: None,
        };
        let user_data = format!(
            "#cloud-config\nstylus:\n  managementMode: local\n  localUI:\n    port: {}\n  imageRedirectWebhook:\n    enable: \
             false\nlandfall:\n  listen: 0.0.0.0:{}\n  reconcileInterval: 3600\n  containerd:\n    enable: false\n  primary:\n    endpoint: \
             127.0.0.1:{}\n",
            host.port,
            host.port,
            free_port()
        );
        let profile = format!(
            "metadata: {{name: shop}}\nspec:\n  template:\n    packs:\n      - name: web\n        layer: addon\n        values: \
             |\n          pack:\n            content:\n              images:\n                - image: {TILL}\n"
        );
        fs_err::write(host.path("user-data.yaml"), user_data).expect("a file in our own directory");
        fs_err::write(host.path("profile.yaml"), profile).expect("a file in our own directory");
        fs_err::create_dir_all(host.content()).expect("a directory of our own");
        host
    }

    /// Starts the agent, and waits until its status API answers.
    pub fn start(&mut self) {
        let (root, state) = (self.path("root"), self.state_dir());
        let (user_data, profile) = (self.path("user-data.yaml"), self.path("profile.yaml"));
        let command = landfall(&[
            "agent",
            "--root",
            root.as_str(),
            "--state-dir",
            state.as_str(),
            "--user-data",
            user_data.as_str(),
            "--profile",
            profile.as_str(),
            "--progress",
            "none",
        ]);
        let mut agent = Program::start("agent", &self.path(""), command);
        wait_for("the status API", || {
            assert!(agent.try_wait().is_none(), "the agent ended\n{}", agent.output());
            self.curl(&["/healthz"])
        });
        self.agent = Some(agent);
    }

    /// Sends SIGKILL to the agent.
    pub fn kill(&mut self) {
        self.agent = None;
    }

    /// Returns the address of the status API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns the address of the status API with TLS.
    #[must_use]
    pub fn secure_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// Returns the certificate of the status API's authority.
    #[must_use]
    pub fn authority_file(&self) -> Utf8PathBuf {
        self.state_dir().join("api/ca.crt")
    }

    /// Returns the answer of curl for a path of the status API, with further arguments; `None` if there is none.
    #[must_use]
    pub fn curl(&self, arguments: &[&str]) -> Option<String> {
        let (path, further) = arguments.split_first()?;
        let mut command = Command::new("curl");
        command.args(["-sSf", "--max-time", "20"]).args(further);
        command.arg(format!("{}{path}", self.url()));
        let answer = run(command);
        (answer.code() == Some(0)).then(|| answer.stdout())
    }

    /// Returns the uploads with the ranges that the host has.
    ///
    /// # Panics
    /// Panics if the host does not answer.
    #[must_use]
    pub fn uploads(&self) -> Vec<Value> {
        let token = fs_err::read_to_string(self.token_file()).expect("the agent has made a token");
        let header = format!("Authorization: Bearer {}", token.trim());
        let ask = |path: &str| -> Value {
            let answer = self.curl(&[path, "-H", &header]).expect("the status API answers");
            serde_json::from_str(&answer).expect("an answer in JSON")
        };
        let list = ask("/api/v1/uploads");
        let ids = list["uploads"].as_array().expect("a list").iter();
        ids.filter_map(|upload| Some(ask(&format!("/api/v1/uploads/{}", upload["id"].as_str()?))))
            .collect()
    }

    /// Waits until the status has a bundle like this, and returns it.
    #[must_use]
    pub fn wait_for_bundle(&self, what: &str, is_it: impl Fn(&BundleStatus) -> bool) -> BundleStatus {
        wait_for(what, || {
            let answer = self.curl(&["/api/v1/status"])?;
            let status: AgentStatus = serde_json::from_str(&answer).ok()?;
            status.bundles.into_iter().find(|bundle| is_it(bundle))
        })
    }

    /// Returns the directory of bundles.
    #[must_use]
    pub fn content(&self) -> Utf8PathBuf {
        self.path("root/opt/spectrocloud/content")
    }

    #[must_use]
    pub fn token_file(&self) -> Utf8PathBuf {
        self.state_dir().join("upload-token")
    }

    #[must_use]
    pub fn state_dir(&self) -> Utf8PathBuf {
        self.path("state")
    }

    #[must_use]
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        self.path.join(name)
    }

    /// Returns what the agent wrote, for the message of a failed assertion.
    #[must_use]
    pub fn output(&self) -> String {
        self.agent.as_ref().map(Program::output).unwrap_or_default()
    }
}

impl Default for UploadHost {
    fn default() -> UploadHost {
        UploadHost::new()
    }
}
