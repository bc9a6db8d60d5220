//! Reads the output of `landfall copy` with other clients (skopeo, crane, regctl, containerd), and reads their
//! archives and layouts with `landfall copy`.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::docker_registry::{DockerRegistry, Release};
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::images::{NamedImage, assert_in_layout, profile_images, write_layout};
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::program::run;
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;
use tempfile::TempDir;

struct Fixture {
    directory: TempDir,
    skopeo: Skopeo,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture {
            directory: tempfile::tempdir().expect("a temporary directory"),
            skopeo: Skopeo::default(),
        }
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        let directory = Utf8Path::from_path(self.directory.path()).expect("a temporary directory with a UTF-8 name");
        directory.join(name)
    }

    /// Configures containerd to use TLS for the registry: it expects plain HTTP on loopback.
    fn hosts_directory(&self, host: &str) -> Utf8PathBuf {
        let hosts = self.path("hosts");
        let directory = hosts.join(host);
        fs_err::create_dir_all(&directory).expect("a directory of our own");
        let text = format!("server = \"https://{host}\"\n[host.\"https://{host}\"]\nskip_verify = true\n");
        fs_err::write(directory.join("hosts.toml"), text).expect("a file in our own directory");
        hosts
    }

    /// Returns an image of two platforms and one of a single platform, each as its own layout.
    fn layouts(&self) -> Vec<(NamedImage, Utf8PathBuf)> {
        let images = profile_images();
        let wanted = |part: &str| images.iter().find(|image| image.name.contains(part)).cloned();
        let picked = ["nginx", "busybox"].map(|part| wanted(part).expect("an image of the profile"));
        let written = picked.into_iter().enumerate().map(|(number, image)| {
            let layout = self.path(&format!("source-{number}"));
            write_layout(&layout, &image.image);
            (image, layout)
        });
        written.collect()
    }
}

fn copy(from: &str, to: &str, more: &[&str]) {
    let arguments = [&["copy", from, to, "--progress", "none"], more].concat();
    drop(run_landfall(&arguments).succeeded());
}

fn program(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

#[test]
fn what_was_pushed_is_pulled_by_everybody_byte_for_byte() {
    let fixture = Fixture::new();
    let authority = PrivateAuthority::generate("copy");
    let containerd = ContainerdProcess::start().expect("containerd starts");
    for release in [Release::V2, Release::V3] {
        let registry = DockerRegistry::start_release(release, &authority, None);
        push_and_pull(&fixture, &containerd, &authority, &registry.host());
    }
    let ours = LandfallRegistry::start(Some(&authority), None);
    push_and_pull(&fixture, &containerd, &authority, ours.host());
}

/// Pushes with Landfall, pulls with all other clients, and compares.
fn push_and_pull(fixture: &Fixture, containerd: &ContainerdProcess, authority: &PrivateAuthority, host: &str) {
    for (number, (NamedImage { image, .. }, layout)) in fixture.layouts().into_iter().enumerate() {
        let name = format!("{host}/peers/image-{number}:1");
        copy(&format!("oci:{layout}"), &name, &["--insecure", host]);
        let pulled = |peer: &str| fixture.path(&format!("{}-{number}-{peer}", host.replace(':', "-")));

        let access = Access {
            host,
            authority: Some(authority.pem()),
            account: None,
        };
        let digest = fixture.skopeo.pull(access, &format!("peers/image-{number}:1"));
        assert_eq!(digest, image.root.digest.to_string());

        let crane = pulled("crane");
        let arguments = ["pull", "--insecure", "--format", "oci", &name, crane.as_str()];
        drop(run(program(tool("crane").as_str(), &arguments)).succeeded());
        assert_in_layout(&crane, &image);

        let regctl = pulled("regctl");
        let target = format!("ocidir://{regctl}:1");
        let host_config = format!("reg={host},tls=insecure");
        let mut command = program(
            tool("regctl").as_str(),
            &["--host", &host_config, "image", "copy", &name, &target],
        );
        command.env("REGCTL_CONFIG", fixture.path("regctl.json"));
        drop(run(command).succeeded());
        assert_in_layout(&regctl, &image);

        let archive = pulled("containerd.tar");
        let hosts = fixture.hosts_directory(host);
        let fetch = [
            "content",
            "fetch",
            "--hosts-dir",
            hosts.as_str(),
            "--all-platforms",
            &name,
        ];
        containerd.ctr(&fetch).expect("containerd fetches it");
        let export = ["images", "export", "--all-platforms", archive.as_str(), &name];
        containerd.ctr(&export).expect("containerd has all of it");
        assert_in_layout(&unpack(&archive, &pulled("containerd")), &image);
    }
}

#[test]
fn files_go_to_skopeo_and_come_from_it_unchanged() {
    let fixture = Fixture::new();
    for (number, (NamedImage { image, name }, layout)) in fixture.layouts().into_iter().enumerate() {
        let source = format!("oci:{layout}:image");
        let here = |what: &str| fixture.path(&format!("{what}-{number}"));

        // Landfall's, read by skopeo.
        let (directory, archive) = (here("directory"), here("archive.tar"));
        copy(&source, &format!("oci:{directory}:{name}"), &[]);
        copy(&source, &format!("oci-archive:{archive}:{name}"), &[]);
        for (form, from) in [("oci", &directory), ("oci-archive", &archive)] {
            let read = here(&format!("read-{form}"));
            fixture
                .skopeo
                .copy_whole(&format!("{form}:{from}:{name}"), &format!("oci:{read}:x"));
            assert_in_layout(&read, &image);
        }
        // Skopeo's, read by Landfall.
        let theirs = here("theirs.tar");
        fixture
            .skopeo
            .copy_whole(&source, &format!("oci-archive:{theirs}:image"));
        for (choice, from) in [("all", ""), ("tag", ":image"), ("number", ":@0")] {
            let back = here(&format!("back-{choice}"));
            copy(&format!("oci-archive:{theirs}{from}"), &format!("oci:{back}"), &[]);
            assert_in_layout(&back, &image);
        }

        // One platform of it, for docker. skopeo and containerd read it too.
        let docker = here("docker.tar");
        copy(
            &source,
            &format!("docker-archive:{docker}:{name}"),
            &["--platform", "linux/amd64"],
        );
        fixture.skopeo.copy(
            &format!("docker-archive:{docker}"),
            &format!("dir:{}", here("docker-read")),
        );
        let containerd = ContainerdProcess::start().expect("containerd starts");
        containerd
            .ctr(&["images", "import", "--no-unpack", docker.as_str()])
            .expect("containerd imports it");
        let listed = containerd.ctr(&["images", "ls", "-q"]).expect("ctr answers");
        assert!(listed.lines().any(|line| line == name), "{listed}");
    }
}

/// Unpacks a tar archive and returns the directory.
fn unpack(archive: &Utf8Path, to: &Utf8Path) -> Utf8PathBuf {
    fs_err::create_dir_all(to).expect("a directory of our own");
    let arguments = ["-xf", archive.as_str(), "-C", to.as_str()];
    drop(run(program("tar", &arguments)).succeeded());
    to.to_owned()
}
