//! A host without a network: a network namespace with loopback alone, and a mount namespace in which the directories that
//! an agent writes are those of the test. The agent runs with `/` as its root, so that it mounts sticks as on any host.
//!
//! udev does not run in the namespace: the test makes its links, as udev does when a stick comes or goes.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::status::AgentStatus;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::admission::{patch_of, review_of};
use crate::agent::{LandfallAgent, landfall};
use crate::poll::{try_wait_for, wait_for};
use crate::program::{Finished, Program, run};
use crate::small_disk::SmallDisk;
use crate::stick::Stick;

/// Directories that belong to the test. Those of udev's links are new ones below `/dev`.
const OWN_DIRECTORIES: [&str; 4] = ["/etc/containerd", "/etc/kubernetes", "/opt", "/dev/disk"];
const BY_LABEL: &str = "/dev/disk/by-label";
const BY_PARTITION: &str = "/dev/disk/by-partlabel";

/// A host without a network. Its drop ends the namespaces, and with them all mounts.
#[derive(Debug)]
pub struct OfflineHost {
    holder: Program,
    directory: TempDir,
    state_dir: Utf8PathBuf,
}

impl OfflineHost {
    /// Makes the namespaces. Needs root.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn new() -> OfflineHost {
        OfflineHost::with_state_on(None)
    }

    /// Makes the namespaces, with the state directory on a disk of its own.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn with_state_on(disk: Option<&SmallDisk>) -> OfflineHost {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
        let mut script = String::from("set -eu\nip link set lo up\n");
        for target in OWN_DIRECTORIES {
            let own = own_directory(path, target);
            fs_err::create_dir_all(&own).expect("a directory of our own");
            script += &format!("mkdir -p {target}\nmount --bind {own} {target}\n");
        }
        script += &format!("touch {path}/ready\nexec sleep infinity\n");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut holder = Program::start("namespaces", path, command);
        wait_for("the namespaces", || {
            assert!(holder.try_wait().is_none(), "{}", holder.output());
            path.join("ready").exists().then_some(())
        });
        let state_dir = disk.map_or(path, SmallDisk::path).join("state");
        OfflineHost {
            holder,
            directory,
            state_dir,
        }
    }

    /// Returns the same command inside the namespaces. Nothing of the environment is passed on but the search path.
    #[must_use]
    pub fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        let pid = self.holder.pid().as_raw_nonzero().to_string();
        inside.args(["--target", &pid, "--net", "--mount", "--"]);
        inside.arg(command.get_program()).args(command.get_args());
        inside
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        inside
    }

    /// Runs a line of a shell inside to its end.
    #[must_use]
    pub fn line(&self, line: &str) -> Finished {
        let mut command = Command::new("sh");
        command.args(["-euc", line]);
        run(self.inside(&command))
    }

    /// Runs `landfall` inside to its end.
    #[must_use]
    pub fn landfall(&self, arguments: &[&str]) -> Finished {
        run(self.inside(&landfall(arguments)))
    }

    /// Starts an agent with `user-data.yaml` and `profile.yaml` of the host's directory.
    #[must_use]
    pub fn start_agent(&self) -> LandfallAgent {
        let (user_data, profile) = (self.path("user-data.yaml"), self.path("profile.yaml"));
        let (user_data, profile) = (user_data.as_str(), profile.as_str());
        let command = landfall(&[
            "agent",
            "--progress",
            "json",
            "--user-data",
            user_data,
            "--profile",
            profile,
        ]);
        LandfallAgent::start_by(&self.path(""), &self.state_dir(), self.inside(&command))
    }

    /// Returns a path in the directory of the host.
    ///
    /// # Panics
    /// Never: temporary directories have UTF-8 names.
    #[must_use]
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        let path = Utf8Path::from_path(self.directory.path());
        path.expect("a temporary directory with a UTF-8 name").join(name)
    }

    /// Returns the directory that is `/etc/containerd` inside.
    #[must_use]
    pub fn etc_containerd(&self) -> Utf8PathBuf {
        own_directory(&self.path(""), "/etc/containerd")
    }

    /// Returns `landfall.stateDir`.
    #[must_use]
    pub fn state_dir(&self) -> Utf8PathBuf {
        self.state_dir.clone()
    }

    /// Returns the status that the agent wrote last, if there is one.
    #[must_use]
    pub fn status(&self) -> Option<AgentStatus> {
        let bytes = fs_err::read(self.state_dir().join("status.json")).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Waits for a status.
    ///
    /// # Panics
    /// Panics after the deadline, with the last status and the log of the agent.
    pub fn wait_for_status(&self, agent: &LandfallAgent, what: &str, is: impl Fn(&AgentStatus) -> bool) -> AgentStatus {
        let found = try_wait_for(|| self.status().filter(&is));
        found.unwrap_or_else(|| panic!("{what} did not come: {:#?}\n{}", self.status(), agent.messages()))
    }

    /// Returns the image that the webhook gives a pod with one container, asked as kube-apiserver does.
    ///
    /// # Panics
    /// Panics if the webhook does not answer.
    #[must_use]
    pub fn redirected_image(&self, image: &str) -> String {
        let webhook = self.status().and_then(|status| status.webhook).expect("a webhook");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
            "spec": {"containers": [{"name": "web", "image": image}]},
        });
        let review = self.path("review.json");
        fs_err::write(&review, review_of(&pod).to_string()).expect("a file in our own directory");
        let line = format!(
            "curl --silent --show-error --cacert {} --header 'content-type: application/json' --data-binary @{review} {}",
            webhook.ca_file.expect("a webhook of its own authority"),
            webhook.url
        );
        let answer: Value = serde_json::from_str(&self.line(&line).succeeded().stdout()).expect("an answer");
        if answer["response"]["patch"].is_null() {
            return image.to_owned();
        }
        let steps = patch_of(&answer["response"]);
        let replaced = steps.iter().find(|step| step["op"] == "replace").expect("an image");
        replaced["value"].as_str().expect("a name").to_owned()
    }

    /// Shows a stick to the host: udev links it by the label of its file system, as `blkid` reads it.
    ///
    /// # Panics
    /// Panics if it has none.
    pub fn show(&self, stick: &Stick) {
        let device = stick.device();
        let line = format!(
            "label=$(blkid -c /dev/null -o value -s LABEL {device}); test -n \"$label\"; mkdir -p {BY_LABEL}; \
             ln -sfn {device} {BY_LABEL}/$label"
        );
        drop(self.line(&line).succeeded());
    }

    /// Shows a stick whose file system has no label: udev links it by the label of its partition.
    ///
    /// # Panics
    /// Panics if the link cannot be made.
    pub fn show_partition(&self, stick: &Stick, label: &str) {
        let device = stick.device();
        let line = format!("mkdir -p {BY_PARTITION}; ln -sfn {device} {BY_PARTITION}/{label}");
        drop(self.line(&line).succeeded());
    }

    /// Takes udev's links away, as when a stick was pulled.
    ///
    /// # Panics
    /// Panics if there are none.
    pub fn hide_sticks(&self) {
        drop(self.line("rm -r /dev/disk/*").succeeded());
    }

    /// Returns the mounts of the host below its state directory, as lines of `/proc/mounts`.
    ///
    /// # Panics
    /// Panics if the host is gone.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let table = format!("/proc/{}/mounts", self.holder.pid().as_raw_nonzero());
        let table = fs_err::read_to_string(table).expect("the holder of the namespaces runs");
        let state = self.state_dir();
        let below = |line: &&str| {
            line.split(' ')
                .nth(1)
                .is_some_and(|target| target.starts_with(state.as_str()))
        };
        table.lines().filter(below).map(str::to_owned).collect()
    }
}

impl Default for OfflineHost {
    fn default() -> OfflineHost {
        OfflineHost::new()
    }
}

fn own_directory(directory: &Utf8Path, target: &str) -> Utf8PathBuf {
    directory.join("own").join(target.trim_start_matches('/'))
}
