//! Programs that make one file of many images and push it elsewhere, each as its users run it.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::bundled_name;
use crate::tools::{Found, find_built, find_installed};
use crate::workload::{TAG, Workload};

/// A way to make a file of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Maker {
    Landfall,
    /// `crane pull --format=oci`, tar and zstd.
    Crane,
    /// `skopeo copy … oci:`, tar and zstd.
    Skopeo,
    /// `regctl image export`: a file for each image.
    Regctl,
}

pub(super) const MAKERS: [Maker; 4] = [Maker::Landfall, Maker::Crane, Maker::Skopeo, Maker::Regctl];

/// Source or destination of the images, the file, and an empty directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) host: &'a str,
    pub(super) workload: &'a Workload,
    pub(super) file: &'a Path,
    pub(super) work: &'a Path,
    /// True if the file has to be on the disk at the end.
    pub(super) is_synced: bool,
}

impl Maker {
    pub(super) fn name(self) -> &'static str {
        match self {
            Maker::Landfall => "landfall",
            Maker::Crane => "crane+tar+zstd",
            Maker::Skopeo => "skopeo+tar+zstd",
            Maker::Regctl => "regctl",
        }
    }

    /// Returns the program, or the reason of its absence.
    pub(super) fn find(self, landfall: &Path) -> Found {
        match self {
            Maker::Landfall => Ok(landfall.to_owned()),
            Maker::Crane => find_built("crane"),
            Maker::Skopeo => find_installed("skopeo"),
            Maker::Regctl => find_built("regctl"),
        }
    }

    /// Returns the command of a peer that makes the file.
    pub(super) fn make(self, program: &Path, task: &Task<'_>) -> Command {
        let host = task.host;
        let repositories = || task.workload.images.iter().map(|image| image.repository.as_str());
        let mut script = match self {
            Maker::Landfall => String::new(),
            Maker::Crane => {
                let images: Vec<_> = repositories().map(|name| format!("{host}/{name}:{TAG}")).collect();
                format!(
                    "\"$0\" pull --insecure --format=oci {} layout\n{PACK}",
                    images.join(" ")
                )
            }
            Maker::Skopeo => {
                let copy = |name: &str| {
                    format!(
                        "\"$0\" copy --quiet --insecure-policy --all --preserve-digests --src-tls-verify=false \
                         docker://{host}/{name}:{TAG} oci:layout:{}\n",
                        bundled_name(name)
                    )
                };
                repositories().map(copy).collect::<String>() + PACK
            }
            Maker::Regctl => {
                let export = |name: &str| {
                    format!(
                        "\"$0\" -v error image export {host}/{name}:{TAG} \"$1.{}\"\n",
                        name.replace('/', "-")
                    )
                };
                format!(
                    "\"$0\" registry set --tls disabled --skip-check {host}\n{}",
                    repositories().map(export).collect::<String>()
                )
            }
        };
        if task.is_synced {
            script.push_str("sync \"$1\"*\n");
        }
        shell(program, &script, task)
    }

    /// Returns the command of a peer that pushes the images of the file; `None` if it has no way to do that.
    pub(super) fn push(self, program: &Path, task: &Task<'_>) -> Option<Command> {
        let host = task.host;
        let repositories = || task.workload.images.iter().map(|image| image.repository.as_str());
        let script = match self {
            // crane pushes a layout as one index.
            Maker::Landfall | Maker::Crane => return None,
            Maker::Skopeo => {
                let copy = |name: &str| {
                    format!(
                        "\"$0\" copy --quiet --insecure-policy --all --preserve-digests --dest-tls-verify=false \
                         oci:layout:{} docker://{host}/{name}:{TAG}\n",
                        bundled_name(name)
                    )
                };
                format!("{UNPACK}{}", repositories().map(copy).collect::<String>())
            }
            Maker::Regctl => {
                let import = |name: &str| {
                    format!(
                        "\"$0\" -v error image import {host}/{name}:{TAG} \"$1.{}\"\n",
                        name.replace('/', "-")
                    )
                };
                format!(
                    "\"$0\" registry set --tls disabled --skip-check {host}\n{}",
                    repositories().map(import).collect::<String>()
                )
            }
        };
        Some(shell(program, &script, task))
    }

    /// Returns the files that the program made.
    pub(super) fn files(self, task: &Task<'_>) -> Vec<PathBuf> {
        match self {
            Maker::Regctl => {
                let images = task.workload.images.iter();
                let named =
                    images.map(|image| format!("{}.{}", task.file.display(), image.repository.replace('/', "-")));
                named.map(PathBuf::from).collect()
            }
            _ => vec![task.file.to_owned()],
        }
    }
}

const PACK: &str = "tar c -C layout . | zstd -q -1 -T0 -o \"$1\"\n";
const UNPACK: &str = "mkdir layout; zstd -q -dc \"$1\" | tar x -C layout\n";

/// Returns a shell that runs a script in the working directory; `$0` is the program and `$1` the file.
fn shell(program: &Path, script: &str, task: &Task<'_>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-ec", script]).arg(program).arg(task.file);
    // No logins or settings of this machine.
    command
        .current_dir(task.work)
        .env("HOME", task.work)
        .env("TMPDIR", task.work);
    command.env_remove("DOCKER_CONFIG");
    command
}
