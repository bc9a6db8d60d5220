//! A desk: a directory where bundles are made.

use std::process::Command;

use landfall_testkit::image_builder::{FixtureBuilder, docker_archive};

use super::followed::{words, write};
use super::{run, shown};

/// Directory with an archive of one image, and bundles of it.
pub(crate) struct Desk {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) archive: String,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // No compression makes it smaller, so that pieces have a size.
        let mut seed = 7_u32;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed.to_be_bytes()[0]
            })
            .collect();
        let image = FixtureBuilder::new().plain_layer(&[("noise", &noise)]).build();
        let archive = docker_archive(&[(&["reg.example/shop/till:1.0"], &image)]);
        let archive = write(directory.path(), "till.tar", archive);
        Desk { directory, archive }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Returns the command that makes a bundle of the image.
    pub(crate) fn create(&self, file: &str, more: &[&str]) -> Vec<String> {
        let image = format!("--image=docker-archive:{}", self.archive);
        words(&[&["bundle", "create", &self.path(file), &image, "--progress=none"], more].concat())
    }

    pub(crate) fn make(&self, file: &str, more: &[&str]) -> String {
        done(&self.create(file, more));
        self.path(file)
    }

    /// Writes a file by a command of a hint, with these names in the place of those in capitals.
    pub(crate) fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(self.directory.path());
        let output = command.output().expect("openssl is installed");
        assert!(output.status.success(), "{arguments}: {}", shown(&output));
    }
}

/// Runs a command that succeeds.
pub(crate) fn done(arguments: &[String]) {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let output = shown(&run(&arguments));
    assert!(output.starts_with("status 0\n"), "{output}");
}
