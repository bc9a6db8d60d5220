//! Hints about containerd and disks that are full or too small, followed: what a hint says is done, and its message is gone.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, docker_archive, gzip, oci_archive, provider_image, small_image,
};
use landfall_tests_interop::agent::landfall;
use landfall_tests_interop::images::noise;
use landfall_tests_interop::port::free_port;
use landfall_tests_interop::program::run;
use landfall_tests_interop::small_disk::SmallDisk;

const MIB: usize = 1024 * 1024;

/// A host whose profile has a provider image with one core image for containerd.
struct Host {
    directory: tempfile::TempDir,
    upstream: FakeRegistry,
    containerd: ContainerdProcess,
}

impl Host {
    fn new() -> Host {
        Host::with(ContainerdProcess::start().unwrap(), &small_image("pause"))
    }

    /// Returns a host whose provider image has this core image.
    fn with(containerd: ContainerdProcess, core: &ImageFixture) -> Host {
        let upstream = FakeRegistry::start();
        let core = docker_archive(&[(&["registry.k8s.io/pause:3.9"], core)]);
        upstream.add_image("example.io/os", "1", &provider_image(&[("core.tar", &core)]));
        let host = Host {
            directory: tempfile::tempdir().unwrap(),
            upstream,
            containerd,
        };
        let socket = host.path("root/run/containerd/containerd.sock");
        fs_err::create_dir_all(socket.parent().unwrap()).unwrap();
        fs_err::os::unix::fs::symlink(host.containerd.socket(), socket).unwrap();
        let profile = "metadata: {name: store}\nspec:\n  template:\n    packs:\n    - name: os\n      layer: os\n      values: |\n        \
                       options:\n          system.uri: example.io/os:1\n";
        fs_err::write(host.path("profile.yaml"), profile).unwrap();
        host.write_user_data("");
        host
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join(name)
    }

    fn write_user_data(&self, more: &str) {
        let user_data = format!(
            "#cloud-config\nstylus:\n  registryCredentials:\n    domain: \"{}\"\n    insecure: true\n  imageRedirectWebhook:\n    \
             port: {}\nlandfall:\n  listen: 127.0.0.1:{}\n  primary:\n    endpoint: \"127.0.0.1:{}\"\n{more}",
            self.upstream.host(),
            free_port(),
            free_port(),
            free_port(),
        );
        fs_err::write(self.path("user-data.yaml"), user_data).unwrap();
    }

    fn agent(&self) -> Command {
        let [user_data, profile, root, state] =
            ["user-data.yaml", "profile.yaml", "root", "state"].map(|name| self.path(name).into_string());
        landfall(&[
            "agent",
            "--once",
            "--user-data",
            &user_data,
            "--profile",
            &profile,
            "--root",
            &root,
            "--state-dir",
            &state,
        ])
    }
}

/// Runs a command that fails, does what its hint says, and runs it again: it succeeds without the message.
fn assert_mended(name: &str, message: &str, hint: &str, before: Command, act: impl FnOnce() -> Command) {
    let refused = run(before);
    let told = refused.stdout() + &refused.stderr();
    assert_ne!(refused.code(), Some(0), "{name}: {told}");
    for part in [message, hint] {
        assert!(told.contains(part), "{name}: `{part}` is not in {told}");
    }
    let done = run(act()).succeeded();
    let told = done.stdout() + &done.stderr();
    assert!(!told.contains(message), "{name}: {told}");
}

#[test]
fn a_followed_hint_about_containerd_ends_its_message() {
    let mut host = Host::new();
    host.containerd.kill();
    let before = host.agent();
    assert_mended(
        "containerd is down",
        "cannot be loaded",
        "start containerd (`systemctl start containerd`)",
        before,
        || {
            host.containerd.restart().unwrap();
            host.agent()
        },
    );

    let host = Host::new();
    host.write_user_data("  containerd:\n    socket: /run/elsewhere.sock\n");
    let before = host.agent();
    assert_mended(
        "containerd listens elsewhere",
        "cannot be loaded",
        "or set `landfall.containerd.socket` if it listens elsewhere than",
        before,
        || {
            host.write_user_data("  containerd:\n    socket: /run/containerd/containerd.sock\n");
            host.agent()
        },
    );
}

#[test]
fn a_followed_hint_about_a_user_without_rights_ends_its_message() {
    let host = Host::new();
    // All but the socket is open to everyone.
    let mut open = Command::new("chmod");
    open.args(["-R", "a+rwX"]).arg(host.directory.path());
    drop(run(open).succeeded());
    let mut before = host.agent();
    before.uid(65_534).gid(65_534);
    assert_mended(
        "a socket of root",
        "cannot be loaded",
        "run as root, or give this user access to `",
        before,
        || host.agent(),
    );
}

#[test]
fn a_followed_hint_about_a_full_disk_ends_its_message() {
    let noise: Vec<u8> = (0..12 * MIB as u64)
        .map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8)
        .collect();
    let image = FixtureBuilder::new().plain_layer(&[("noise", &noise)]).build();
    let disk = SmallDisk::mount("size=8m");
    let host = Host::with(
        ContainerdProcess::start_at(&disk.path().join("containerd")).unwrap(),
        &image,
    );
    assert_mended(
        "containerd on a full disk",
        "cannot be loaded",
        "make room on the file system of containerd's root, usually /var/lib/containerd",
        host.agent(),
        || {
            disk.remount("size=200m");
            host.agent()
        },
    );
    drop((host, disk));

    let directory = tempfile::tempdir().unwrap();
    let desk = Utf8Path::from_path(directory.path()).unwrap();
    let archive = desk.join("till.tar");
    fs_err::write(&archive, docker_archive(&[(&["reg.example/shop/till:1.0"], &image)])).unwrap();
    let source = format!("--image=docker-archive:{archive}");
    let create = |file: &Utf8Path| landfall(&["bundle", "create", file.as_str(), &source, "--progress=none"]);
    let bundle = desk.join("site.tar.zst");
    drop(run(create(&bundle)).succeeded());

    let disk = SmallDisk::mount("size=8m");
    let on_disk = disk.path().join("site.tar.zst");
    assert_mended(
        "a bundle on a full disk",
        "bytes free, and the bundle needs",
        "free space on the disk of `",
        create(&on_disk),
        || create(&desk.join("other.tar.zst")),
    );
    let state = disk.path().join("state");
    let load = || {
        landfall(&[
            "bundle",
            "load",
            bundle.as_str(),
            "--root",
            state.as_str(),
            "--progress=none",
        ])
    };
    assert_mended(
        "a store on a full disk",
        "room",
        "or give the store a larger disk",
        load(),
        || {
            disk.remount("size=200m");
            load()
        },
    );
}

#[test]
fn a_followed_hint_about_a_disk_that_is_too_small_for_a_copy_ends_its_message() {
    let directory = tempfile::tempdir().unwrap();
    let desk = Utf8Path::from_path(directory.path()).unwrap();
    let archive = desk.join("till.tar.gz");
    let image = FixtureBuilder::new()
        .plain_layer(&[("noise", &noise("till", MIB))])
        .build();
    let tar = oci_archive(&[("reg.example/shop/till:1.0", &image)]);
    fs_err::write(&archive, gzip(&tar)).unwrap();
    let registry = FakeRegistry::start();
    let (host, to) = (registry.host().to_string(), format!("{}/shelf", registry.host()));
    let push = |temporary: &Utf8Path, more: &[&str]| {
        let common = ["push", "--bundle", archive.as_str(), "--to", &to, "--insecure", &host];
        let mut command = landfall(&[&common[..], &["--progress=none"], more].concat());
        command.env("TMPDIR", temporary);
        command
    };
    let disk = SmallDisk::mount("size=64k");
    let message = format!("a decompressed copy of it in `{}` takes more than its", disk.path());
    let part = ["--image=reg.example/shop/till:1.0"];
    assert_mended(
        "a copy on a larger disk",
        &message,
        "let `TMPDIR` name a directory on a larger disk",
        push(disk.path(), &part),
        || push(desk, &part),
    );
    assert_mended(
        "no copy",
        &message,
        "or push all of the file to one registry, which needs no copy",
        push(disk.path(), &part),
        || push(disk.path(), &[]),
    );
}
