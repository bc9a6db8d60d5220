//! Files of images that other programs made are sources of `landfall copy`: layouts of several images in a compressed tar,
//! `docker save`, containerd's export, and the form of hauler's store.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::process::Command;

use camino::Utf8Path;
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::ImageFixture;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::bundle::{BOTH, BundleDesk, TILL, WEB};
use landfall_tests_interop::cri_runtime::{CriRuntime, Release, RuntimeDirectory};
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::images::assert_in_layout;
use landfall_tests_interop::program::run;
use landfall_tests_interop::skopeo::Skopeo;

fn images(desk: &BundleDesk) -> [(&'static str, &ImageFixture); 3] {
    [(TILL, &desk.till), (WEB, &desk.web), (BOTH, &desk.both)]
}

/// Makes a layout of all images with skopeo, each with its full name.
fn mk_layout(desk: &BundleDesk) {
    let bundle = desk.bundle("own.tar.zst", &[]);
    for (name, _) in images(desk) {
        let from = format!("oci-archive:{bundle}:{name}");
        Skopeo::default().copy_whole(&from, &format!("oci:{}:{name}", desk.path("layout")));
    }
}

/// Copies each image out of an archive, and compares it byte for byte.
fn check_archive(desk: &BundleDesk, file: &Utf8Path) {
    for (name, image) in images(desk) {
        let out = desk.path(&format!(
            "out-{}-{}",
            file.file_name().unwrap(),
            image.root.digest.hex()
        ));
        let (from, to) = (format!("oci-archive:{file}:{name}"), format!("oci:{out}:image"));
        drop(run_landfall(&["copy", &from, &to, "--progress", "none"]).succeeded());
        assert_in_layout(&out, image);
    }
}

#[test]
fn a_layout_of_several_images_of_skopeo_is_read_in_every_compression() {
    let desk = BundleDesk::new();
    mk_layout(&desk);
    for (file, compress) in [
        ("plain.tar", "cat"),
        ("fast.tar.zst", "zstd -q -1 -T0"),
        ("small.tar.gz", "gzip -1"),
    ] {
        drop(
            desk.line(&format!("tar c -C layout . | {compress} >{file}"))
                .succeeded(),
        );
        check_archive(&desk, &desk.path(file));
    }
}

#[test]
fn what_skopeo_saves_as_docker_does_is_read_with_the_same_configuration() {
    let desk = BundleDesk::new();
    mk_layout(&desk);
    let file = desk.path("saved.tar");
    // skopeo writes one image into such an archive, under its tag.
    let from = format!("oci:{}:{TILL}", desk.path("layout"));
    Skopeo::default().copy(&from, &format!("docker-archive:{file}:{TILL}"));
    let out = desk.path("out");
    let (from, to) = (format!("docker-archive:{file}:{TILL}"), format!("oci:{out}:image"));
    drop(run_landfall(&["copy", &from, &to, "--progress", "none"]).succeeded());
    let manifest: serde_json::Value = serde_json::from_slice(&desk.till.root_bytes()).unwrap();
    let config = manifest["config"]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "blobs/sha256/");
    let found: serde_json::Value = serde_json::from_slice(&fs_err::read(out.join(config)).unwrap()).unwrap();
    // The layers are unpacked: their digests are those of the configuration.
    for layer in found["rootfs"]["diff_ids"].as_array().unwrap() {
        let blob = layer.as_str().unwrap().replace("sha256:", "blobs/sha256/");
        assert!(out.join(&blob).is_file(), "{blob}");
    }
}

#[test]
fn exports_of_containerd_1_6_and_2_are_read() {
    let desk = BundleDesk::new();
    desk.bundle("own.tar", &["--plain"]);
    let own = desk.path("own.tar");
    let names = [TILL, WEB, BOTH];
    let check = |file: &str, ctr: &dyn Fn(&[&str])| {
        let path = desk.path(file);
        ctr(&["images", "import", "--all-platforms", "--no-unpack", own.as_str()]);
        ctr(&[&["images", "export", "--all-platforms", path.as_str()], &names[..]].concat());
        check_archive(&desk, &path);
    };
    let process = ContainerdProcess::start().unwrap();
    check("1.6.tar", &|arguments| drop(process.ctr(arguments).unwrap()));
    let etc = desk.path("etc");
    let runtime = CriRuntime::start(Release::V2_4, RuntimeDirectory::new(2, "", &etc), &etc);
    let socket = runtime.directory().join("containerd.sock");
    check("2.4.tar", &|arguments| {
        let mut command = Command::new(tool("ctr"));
        command
            .args(["--address", socket.as_str(), "--namespace", "k8s.io"])
            .args(arguments);
        drop(run(command).succeeded());
    });
}

#[test]
fn a_store_of_hauler_is_read() {
    let desk = BundleDesk::new();
    mk_layout(&desk);
    // hauler 1.x: the layout itself in a tar with zstd, each entry with its kind and containerd's name.
    let path = desk.path("layout/index.json");
    let mut index: serde_json::Value = serde_json::from_slice(&fs_err::read(&path).unwrap()).unwrap();
    for entry in index["manifests"].as_array_mut().unwrap() {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].clone();
        let short = name.as_str().unwrap().split_once('/').unwrap().1.to_owned();
        entry["annotations"]["org.opencontainers.image.ref.name"] = short.into();
        entry["annotations"]["io.containerd.image.name"] = name;
        entry["annotations"]["kind"] = "dev.cosignproject.cosign/image".into();
    }
    fs_err::write(&path, index.to_string()).unwrap();
    drop(
        desk.line("tar c -C layout oci-layout index.json blobs | zstd -q >haul.tar.zst")
            .succeeded(),
    );
    check_archive(&desk, &desk.path("haul.tar.zst"));
}
