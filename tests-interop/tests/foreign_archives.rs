//! Reads archives that skopeo and containerd wrote, zstd and gzip compressed, and GNU split cut into pieces.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::{FixtureBuilder, ImageFixture};
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::images::{assert_in_layout, write_layout};
use landfall_tests_interop::program::run;
use landfall_tests_interop::skopeo::Skopeo;
use tempfile::TempDir;

const NAME: &str = "reg.example.com/shop/app:1.0";

struct Fixture {
    directory: TempDir,
    image: ImageFixture,
    layout: Utf8PathBuf,
}

impl Fixture {
    fn new() -> Fixture {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let content: Vec<u8> = (0..400_000_u32)
            .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let image = FixtureBuilder::new()
            .plain_layer(&[("large", &content)])
            .plain_layer(&[("small", b"small")])
            .build();
        let layout = at(&directory, "source");
        write_layout(&layout, &image);
        Fixture {
            directory,
            image,
            layout,
        }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        at(&self.directory, name)
    }

    /// Copies the image out of an archive with Landfall, and compares it.
    fn assert_read(&self, case: &str, archive: &str) {
        let back = self.path(&format!("back-{case}"));
        let to = format!("oci:{back}");
        drop(run_landfall(&["copy", archive, &to, "--progress", "none"]).succeeded());
        assert_in_layout(&back, &self.image);
    }

    /// Runs a program that writes a file in the fixture's directory. Returns the file.
    fn make(&self, name: &str, program: &str, arguments: &[&str]) -> Utf8PathBuf {
        let mut command = Command::new(program);
        command.args(arguments);
        drop(run(command).succeeded());
        self.path(name)
    }
}

fn at(directory: &TempDir, name: &str) -> Utf8PathBuf {
    let directory = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
    directory.join(name)
}

#[test]
fn archives_of_skopeo_are_read_in_every_compression_and_in_pieces_of_split() {
    let fixture = Fixture::new();
    let (oci, docker) = (fixture.path("oci.tar"), fixture.path("docker.tar"));
    let from = format!("oci:{}:image", fixture.layout);
    let skopeo = Skopeo::default();
    skopeo.copy_whole(&from, &format!("oci-archive:{oci}:{NAME}"));
    skopeo.copy(&from, &format!("docker-archive:{docker}:{NAME}"));

    for (case, program, options) in [
        ("rke2", "zstd", &["-q", "-T0", "-19", "--long=25"][..]),
        ("many-frames", "pzstd", &["-q", "-p", "2"]),
    ] {
        let name = format!("{case}.tar.zst");
        let out = fixture.path(&name);
        let arguments = [options, &[oci.as_str(), "-o", out.as_str()]].concat();
        let compressed = fixture.make(&name, program, &arguments);
        fixture.assert_read(case, &format!("oci-archive:{compressed}:{NAME}"));
    }
    let out = fixture.path("docker.tar.zst");
    let compressed = fixture.make("docker.tar.zst", "zstd", &["-q", docker.as_str(), "-o", out.as_str()]);
    // The layers of the fixture are plain, so that docker's form gives the same manifest.
    fixture.assert_read("docker", &format!("docker-archive:{compressed}"));

    // More than ninety pieces: the numbers of the last ones are wider.
    let whole = fixture.path("rke2.tar.zst");
    let size = std::fs::metadata(&whole).expect("zstd wrote it").len();
    let bytes = format!("--bytes={}", size.div_ceil(95));
    let prefix = format!("{whole}_part");
    let last = fixture.make(
        "rke2.tar.zst_part9004",
        "split",
        &[&bytes, "--numeric-suffixes", whole.as_str(), &prefix],
    );
    std::fs::remove_file(&whole).expect("a file of our own");
    fixture.assert_read("pieces", &format!("oci-archive:{last}:{NAME}"));
    fixture.assert_read("whole", &format!("oci-archive:{whole}:{NAME}"));
    let link = fixture.path("latest");
    std::os::unix::fs::symlink(&last, &link).expect("a link of our own");
    fixture.assert_read("link", &format!("oci-archive:{link}:{NAME}"));

    std::fs::remove_file(fixture.path("rke2.tar.zst_part07")).expect("a file of our own");
    let to = format!("oci:{}", fixture.path("never"));
    let refused = run_landfall(&["copy", &format!("oci-archive:{last}"), &to, "--progress", "none"]);
    assert_eq!(refused.code(), Some(1));
    let message = refused.stdout();
    assert!(
        message.contains("`rke2.tar.zst` is not complete: `rke2.tar.zst_part07` is missing"),
        "{message}"
    );
    assert!(message.contains("copy all pieces into one directory"), "{message}");
}

#[test]
fn an_export_of_containerd_is_read_compressed() {
    let fixture = Fixture::new();
    let containerd = ContainerdProcess::start().expect("containerd starts");
    let (imported, exported) = (fixture.path("imported.tar"), fixture.path("exported.tar"));
    let from = format!("oci:{}:image", fixture.layout);
    Skopeo::default().copy_whole(&from, &format!("oci-archive:{imported}:{NAME}"));
    containerd
        .ctr(&["images", "import", "--no-unpack", imported.as_str()])
        .expect("containerd imports it");
    containerd
        .ctr(&["images", "export", exported.as_str(), NAME])
        .expect("containerd exports it");
    let out = fixture.path("exported.tar.gz");
    drop(fixture.make("exported.tar.gz", "gzip", &["-k", exported.as_str()]));
    fixture.assert_read("gzip", &format!("oci-archive:{out}"));
}
