//! The programs that copy images, and their command lines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::tools::{Found, find_built, find_installed};
use crate::workload::{TAG, Workload};

/// A program that copies images from registry to registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Client {
    Landfall,
    Skopeo,
    Crane,
    Regctl,
    Regsync,
}

pub(super) const CLIENTS: [Client; 5] = [
    Client::Landfall,
    Client::Regsync,
    Client::Regctl,
    Client::Crane,
    Client::Skopeo,
];

impl Client {
    pub(super) fn name(self) -> &'static str {
        match self {
            Client::Landfall => "landfall",
            Client::Skopeo => "skopeo",
            Client::Crane => "crane",
            Client::Regctl => "regctl",
            Client::Regsync => "regsync",
        }
    }

    /// Returns the program, or the reason of its absence.
    pub(super) fn find(self, landfall: &Path) -> Found {
        match self {
            Client::Landfall => match landfall.is_file() {
                true => Ok(landfall.to_owned()),
                false => Err(format!("`{}` is not built", landfall.display())),
            },
            Client::Skopeo => find_installed("skopeo"),
            Client::Crane | Client::Regctl | Client::Regsync => find_built(self.name()),
        }
    }

    /// Writes the input files of the program and returns the command that copies all images of a workload.
    pub(super) fn command(self, program: &Path, ends: &Ends<'_>) -> anyhow::Result<Command> {
        let Ends {
            source,
            destination,
            workload,
            home,
        } = *ends;
        let names: Vec<String> = workload.images.iter().map(|image| image.name()).collect();
        let write = |name: &str, text: String| -> anyhow::Result<PathBuf> {
            let path = home.join(name);
            fs_err::write(&path, text)?;
            Ok(path)
        };
        let lines = |line: &dyn Fn(&str) -> String| names.iter().map(|name| line(name)).collect::<String>();
        let mut command = match self {
            Client::Landfall => {
                let list = lines(&|name| format!("{source}/{name} {destination}/{name}\n"));
                let mut command = Command::new(program);
                command.args(["copy", "--insecure", source, "--insecure", destination, "--from-file"]);
                command.arg(write("images.txt", list)?);
                command.arg("--state-dir").arg(home.join("state"));
                command
            }
            Client::Skopeo => {
                let mut list = format!("{source}:\n  tls-verify: false\n  images:\n");
                for image in &workload.images {
                    writeln!(list, "    {}: [{TAG}]", image.repository)?;
                }
                let mut command = Command::new(program);
                command.args([
                    "sync",
                    "--all",
                    "--src",
                    "yaml",
                    "--dest",
                    "docker",
                    "--dest-tls-verify=false",
                ]);
                command.arg(write("skopeo.yaml", list)?);
                // All images are in repositories `p/…`; the program keeps only the last part.
                command.arg(format!("{destination}/p"));
                command
            }
            Client::Crane => shell_loop(
                program,
                &lines(&|name| format!("\"$0\" copy --insecure {source}/{name} {destination}/{name} || exit 1\n")),
            ),
            Client::Regctl => {
                for host in [source, destination] {
                    let set = Command::new(program)
                        .args(["registry", "set", "--tls", "disabled", "--skip-check", host])
                        .env("HOME", home)
                        .status();
                    let set = set.with_context(|| format!("cannot run `{}`", program.display()))?;
                    anyhow::ensure!(set.success(), "`regctl registry set` ended with {set}");
                }
                shell_loop(
                    program,
                    &lines(&|name| {
                        format!("\"$0\" -v error image copy {source}/{name} {destination}/{name} || exit 1\n")
                    }),
                )
            }
            Client::Regsync => {
                let mut list = "version: 1\ndefaults: {parallel: 4, skipDockerConfig: true}\ncreds:\n".to_owned();
                for host in [source, destination] {
                    writeln!(list, "- {{registry: '{host}', tls: disabled, reqConcurrent: 8}}")?;
                }
                list.push_str("sync:\n");
                list.push_str(&lines(&|name| {
                    format!("- {{type: image, source: '{source}/{name}', target: '{destination}/{name}'}}\n")
                }));
                let mut command = Command::new(program);
                command
                    .args(["-v", "error", "once", "-c"])
                    .arg(write("regsync.yaml", list)?);
                command
            }
        };
        // No logins or settings except those that are written here.
        command.env("HOME", home).env_remove("DOCKER_CONFIG");
        Ok(command)
    }
}

/// Source, destination and workload of a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    pub(super) source: &'a str,
    pub(super) destination: &'a str,
    pub(super) workload: &'a Workload,
    /// An empty home directory.
    pub(super) home: &'a Path,
}

/// Returns one shell that runs a program several times, to measure them together.
fn shell_loop(program: &Path, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(program);
    command
}
