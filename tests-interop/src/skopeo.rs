//! `skopeo`, an OCI client of another project: it fills registries and checks the content that Landfall serves.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use camino::{Utf8Path, Utf8PathBuf};
use tempfile::TempDir;

use crate::docker_registry::Account;
use crate::program::run;

/// `skopeo` with its own directory for credentials, certificates and everything else.
#[derive(Debug)]
pub struct Skopeo {
    directory: TempDir,
}

/// Address, trust and credentials of a registry.
#[derive(Debug, Clone, Copy)]
pub struct Access<'a> {
    /// `host:port`.
    pub host: &'a str,
    /// The trusted authority; `None` allows plain HTTP.
    pub authority: Option<&'a str>,
    pub account: Option<Account<'a>>,
}

impl Default for Skopeo {
    fn default() -> Skopeo {
        Skopeo {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }
}

impl Skopeo {
    /// Pushes the image `name` of an OCI layout directory, with all platforms and unchanged digests.
    ///
    /// # Panics
    /// Panics if skopeo fails.
    pub fn push_layout(&self, layout: &Utf8Path, name: &str, access: Access<'_>, repository_and_tag: &str) {
        let target = format!("docker://{}/{repository_and_tag}", access.host);
        let mut command = self.command(["copy", "--all", "--preserve-digests"]);
        command
            .args(self.access_arguments("dest-", access))
            .arg(format!("oci:{layout}:{name}"))
            .arg(target);
        drop(run(command).succeeded());
    }

    /// Pulls an image into a new OCI layout, with all platforms and unchanged digests, and returns the digest
    /// of its manifest.
    ///
    /// # Panics
    /// Panics if skopeo fails.
    #[must_use]
    pub fn pull(&self, access: Access<'_>, repository_and_tag: &str) -> String {
        let layout = tempfile::tempdir_in(&self.directory).expect("a temporary directory");
        let target = format!("oci:{}:image", utf8(layout.path()));
        let mut command = self.command(["copy", "--all", "--preserve-digests"]);
        command
            .args(self.access_arguments("src-", access))
            .arg(format!("docker://{}/{repository_and_tag}", access.host))
            .arg(target);
        drop(run(command).succeeded());
        let index = fs_err::read(layout.path().join("index.json")).expect("skopeo wrote an index");
        let index: serde_json::Value = serde_json::from_slice(&index).expect("an index is JSON");
        index["manifests"][0]["digest"]
            .as_str()
            .expect("a manifest has a digest")
            .to_owned()
    }

    /// Copies an image on this machine. Both names are skopeo's transports.
    ///
    /// # Panics
    /// Panics if skopeo fails.
    pub fn copy(&self, from: &str, to: &str) {
        let mut command = self.command(["copy"]);
        command.args([from, to]);
        drop(run(command).succeeded());
    }

    /// Copies an image with all platforms and unchanged digests.
    ///
    /// # Panics
    /// Panics if skopeo fails.
    pub fn copy_whole(&self, from: &str, to: &str) {
        let mut command = self.command(["copy", "--all", "--preserve-digests"]);
        command.args([from, to]);
        drop(run(command).succeeded());
    }

    /// Returns the tags of a repository.
    ///
    /// # Panics
    /// Panics if skopeo fails.
    #[must_use]
    pub fn tags(&self, access: Access<'_>, repository: &str) -> Vec<String> {
        let mut command = self.command(["list-tags"]);
        command
            .args(self.access_arguments("", access))
            .arg(format!("docker://{}/{repository}", access.host));
        let answer = run(command).succeeded().stdout();
        let answer: serde_json::Value = serde_json::from_str(&answer).expect("skopeo answers JSON");
        answer["Tags"]
            .as_array()
            .expect("a list of tags")
            .iter()
            .map(|tag| tag.as_str().expect("a tag is a string").to_owned())
            .collect()
    }

    fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new("skopeo");
        // No policy file, configuration or cache of this machine takes part.
        command
            .env("HOME", self.directory.path())
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .arg("--insecure-policy")
            .args(["--tmpdir", &utf8(self.directory.path()), "--registries-conf"])
            .arg(self.file("registries.conf", ""))
            .args(arguments);
        command
    }

    /// Credentials are passed in a file, as on a shared machine.
    fn access_arguments(&self, side: &str, access: Access<'_>) -> Vec<String> {
        let mut arguments = Vec::new();
        match access.authority {
            Some(pem) => {
                let name = access.host.replace(':', "_");
                let directory = self.directory.path().join(&name);
                fs_err::create_dir_all(&directory).expect("a directory of our own");
                let certificates = self.file(&format!("{name}/ca.crt"), pem);
                let certificates = certificates.parent().expect("a file in a directory");
                arguments.extend([format!("--{side}cert-dir"), certificates.to_string()]);
            }
            None => arguments.push(format!("--{side}tls-verify=false")),
        }
        let mut auths = serde_json::Map::new();
        if let Some(Account { user, password }) = access.account {
            let auth = STANDARD.encode(format!("{user}:{password}"));
            auths.insert(access.host.to_owned(), serde_json::json!({ "auth": auth }));
        }
        let file = self.file("auth.json", &serde_json::json!({ "auths": auths }).to_string());
        arguments.extend([format!("--{side}authfile"), file.to_string()]);
        arguments
    }

    fn file(&self, name: &str, content: &str) -> Utf8PathBuf {
        let path = Utf8PathBuf::from(utf8(self.directory.path())).join(name);
        fs_err::write(&path, content).expect("a file in our own directory");
        path
    }
}

fn utf8(path: &std::path::Path) -> String {
    path.to_str()
        .expect("a temporary directory with a UTF-8 name")
        .to_owned()
}
