//! One edge host: its inputs, its state directory, its containerd and its ports, all private to a test.

use std::collections::{BTreeMap, BTreeSet};

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::digest_of;
use serde_json::Value;
use tempfile::TempDir;

use crate::agent::{LandfallAgent, run_landfall};
use crate::canary_secrets::{PRIMARY_PASSWORD, PROVIDER_PASSWORD, files_below};
use crate::docker_registry::Account;
use crate::port::free_port;
use crate::program::Finished;
use crate::skopeo::Access;
use crate::user_data::{CONTAINERD_SOCKET, Ports, STATE_DIR, UserData};

/// The user that `profile-edge.yaml` names for the primary registry.
pub const PRIMARY_ACCOUNT: Account<'static> = Account {
    user: "admin",
    password: PRIMARY_PASSWORD,
};

/// An edge host. Its drop ends its containerd and removes everything.
#[derive(Debug)]
pub struct Site {
    directory: TempDir,
    /// The private containerd; a node of a cluster has the cluster's.
    containerd: Option<ContainerdProcess>,
    /// Ports on which the agent listens.
    pub ports: Ports,
}

impl Site {
    /// Returns a host with nothing on it but containerd. Its profile is the example's, fixed by `landfall
    /// profile fix`.
    ///
    /// # Panics
    /// Panics if a program is missing or fails.
    #[must_use]
    pub fn new() -> Site {
        let containerd = ContainerdProcess::start().expect("a private containerd");
        let socket = containerd.socket();
        Site {
            containerd: Some(containerd),
            ..Site::on(&socket)
        }
    }

    /// Returns a host whose containerd listens at this socket and has another owner.
    ///
    /// # Panics
    /// Panics if `landfall` fails.
    #[must_use]
    pub fn on(containerd: &Utf8Path) -> Site {
        let site = Site {
            directory: tempfile::tempdir().expect("a temporary directory"),
            containerd: None,
            ports: Ports {
                primary: free_port(),
                webhook: free_port(),
                api: free_port(),
            },
        };
        let socket = site.root().join(CONTAINERD_SOCKET.trim_start_matches('/'));
        fs_err::create_dir_all(socket.parent().expect("a path with a directory")).expect("a directory of our own");
        fs_err::os::unix::fs::symlink(containerd, socket).expect("a link in our own directory");
        let values =
            format!("macro:\n  provider-password: {PROVIDER_PASSWORD}\nvar:\n  registryPassword: {PRIMARY_PASSWORD}\n");
        site.write("values.yaml", &values);
        site.write_profile(|example| example);
        site
    }

    /// Returns the user-data of a host without an external registry.
    #[must_use]
    pub fn user_data(&self) -> UserData<'static> {
        UserData {
            external: None,
            site_authority: None,
            ports: self.ports,
            primary: None,
            bandwidth_limit: None,
            more: "",
        }
    }

    pub fn write_user_data(&self, user_data: UserData<'_>) {
        self.write("user-data.yaml", &user_data.render());
    }

    /// Writes the profile of the example with a change, fixed by `landfall profile fix`.
    ///
    /// # Panics
    /// Panics if the fix fails.
    pub fn write_profile(&self, change: impl FnOnce(String) -> String) {
        let example = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/profile-edge.yaml");
        self.write(
            "profile.yaml",
            &change(fs_err::read_to_string(example).expect("the example is in the repository")),
        );
        let profile = self.path("profile.yaml");
        drop(run_landfall(&["profile", "fix", "--write", profile.as_str()]).succeeded());
    }

    /// Runs a command on the inputs of the host to its end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let inputs = self.inputs();
        run_landfall(&[arguments, &inputs.iter().map(String::as_str).collect::<Vec<_>>()].concat())
    }

    #[must_use]
    pub fn start_agent(&self, arguments: &[&str]) -> LandfallAgent {
        let root = self.root();
        let inputs = self.inputs();
        let mut line = vec!["agent", "--progress", "json", "--root", root.as_str()];
        line.extend(inputs.iter().map(String::as_str));
        line.extend(arguments);
        LandfallAgent::start(&self.path(""), &self.state_dir(), &line)
    }

    /// Returns the arguments for the profile and the user-data. The values of its templates are in a file,
    /// since other users can read a command line.
    fn inputs(&self) -> Vec<String> {
        [
            ("--user-data", "user-data.yaml"),
            ("--profile", "profile.yaml"),
            ("--values", "values.yaml"),
        ]
        .into_iter()
        .flat_map(|(flag, file)| [flag.to_owned(), self.path(file).into_string()])
        .collect()
    }

    /// Returns `landfall.stateDir`, below [`Site::root`].
    #[must_use]
    pub fn state_dir(&self) -> Utf8PathBuf {
        self.root().join(STATE_DIR.trim_start_matches('/'))
    }

    /// Returns the directory that stands for `/`.
    #[must_use]
    pub fn root(&self) -> Utf8PathBuf {
        self.path("root")
    }

    /// Returns the path of an input file, to be named in a message.
    #[must_use]
    pub fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path())
            .expect("a temporary directory with a UTF-8 name")
            .join(name)
    }

    /// Returns the images of containerd's namespace `k8s.io` with their digests, according to `ctr`.
    ///
    /// # Panics
    /// Panics if `ctr` fails.
    #[must_use]
    pub fn containerd_images(&self) -> BTreeMap<String, String> {
        let table = self.ctr(&["images", "ls"]);
        // REF TYPE DIGEST …
        let row = |line: &str| {
            let mut columns = line.split_whitespace();
            Some((columns.next()?.to_owned(), columns.nth(1)?.to_owned()))
        };
        table.lines().skip(1).filter_map(row).collect()
    }

    /// Returns the images whose content is incomplete in containerd, according to `ctr`.
    ///
    /// # Panics
    /// Panics if `ctr` fails.
    #[must_use]
    pub fn incomplete_containerd_images(&self) -> Vec<String> {
        let table = self.ctr(&["images", "check"]);
        table
            .lines()
            .skip(1)
            .filter(|line| !line.contains(" complete "))
            .map(str::to_owned)
            .collect()
    }

    /// Returns skopeo's access to the primary registry: without TLS, since it listens on loopback only.
    #[must_use]
    pub fn primary_access<'a>(&self, host: &'a str) -> Access<'a> {
        Access {
            host,
            authority: None,
            account: Some(PRIMARY_ACCOUNT),
        }
    }

    /// Returns `host:port` of the primary registry.
    #[must_use]
    pub fn primary_host(&self) -> String {
        format!("127.0.0.1:{}", self.ports.primary)
    }

    /// Returns the digests of all finished blobs on disk.
    ///
    /// # Panics
    /// Panics if the content of one does not match its digest.
    #[must_use]
    pub fn finished_blobs(&self) -> BTreeSet<String> {
        files_below(&self.state_dir())
            .into_iter()
            .filter(|file| file.parent().is_some_and(|parent| parent.ends_with("blobs/sha256")))
            .map(|file| {
                let digest = digest_of(&fs_err::read(&file).expect("a blob can be read")).to_string();
                assert_eq!(
                    digest.strip_prefix("sha256:"),
                    file.file_name(),
                    "{file} holds other bytes"
                );
                digest
            })
            .collect()
    }

    /// Returns the output of `landfall status -o json`.
    ///
    /// # Panics
    /// Panics if the output is not JSON.
    #[must_use]
    pub fn status(&self) -> Value {
        let state = self.state_dir();
        let answer = run_landfall(&["status", "--state-dir", state.as_str(), "--output", "json"]);
        serde_json::from_str(&answer.stdout()).unwrap_or_else(|error| panic!("not JSON ({error}): {answer}"))
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        let containerd = self.containerd.as_ref().expect("a host with a containerd of its own");
        containerd.ctr(arguments).expect("ctr answers")
    }

    fn write(&self, name: &str, text: &str) {
        fs_err::write(self.path(name), text).expect("a file in our own directory");
    }
}

impl Default for Site {
    fn default() -> Site {
        Site::new()
    }
}
