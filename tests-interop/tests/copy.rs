//! `landfall copy` between real registries, with skopeo as the one who looks.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::net::SocketAddr;
use std::process::Command;

use camino::Utf8Path;
use landfall_testkit::image_builder::ImageBuilder;
use landfall_testkit::weak_link::{WeakLink, Weakness};
use landfall_tests_interop::agent::{landfall, run_landfall};
use landfall_tests_interop::docker_registry::DockerRegistry;
use landfall_tests_interop::images::{NamedImage, assert_in_layout, profile_images, push_images, write_layout};
use landfall_tests_interop::poll::wait_for;
use landfall_tests_interop::program::{Program, run};
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;

fn open_registry<'a>(host: &'a str, authority: &'a PrivateAuthority) -> Access<'a> {
    Access {
        host,
        authority: Some(authority.pem()),
        account: None,
    }
}

/// The blobs that a registry gave and got.
fn transfers(registry: &DockerRegistry, method: &str) -> usize {
    let requests = registry.requests();
    let blobs = requests
        .iter()
        .filter(|request| request.method == method && request.path.contains("/blobs/"));
    blobs.count()
}

#[test]
fn a_list_of_images_arrives_whole_and_a_second_run_moves_nothing() {
    let authority = PrivateAuthority::generate("copy");
    let (from, to) = (
        DockerRegistry::start(&authority, None),
        DockerRegistry::start(&authority, None),
    );
    let (from_host, to_host) = (from.host(), to.host());
    let skopeo = Skopeo::default();
    let images = profile_images();
    push_images(&skopeo, open_registry(&from_host, &authority), "all/", &images);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let list = directory.path().join("images.txt");
    let lines: Vec<String> = images
        .iter()
        .map(|NamedImage { name, .. }| format!("{from_host}/all/{name} {to_host}/mirror/{name}"))
        .collect();
    std::fs::write(&list, lines.join("\n")).expect("a file");
    let list = list.display().to_string();
    let arguments = [
        "copy",
        "--from-file",
        &list,
        "--insecure",
        &from_host,
        "--insecure",
        &to_host,
        "-o",
        "json",
    ];
    drop(run_landfall(&arguments).succeeded());
    for NamedImage { name, image } in &images {
        let pulled = skopeo.pull(open_registry(&to_host, &authority), &format!("mirror/{name}"));
        assert_eq!(pulled, image.root.digest.to_string(), "{name}");
    }
    let (given, got) = (transfers(&from, "GET"), transfers(&to, "PUT"));
    let again = run_landfall(&arguments).succeeded();
    let report: serde_json::Value = serde_json::from_str(&again.stdout()).expect("JSON on stdout");
    assert_eq!(report["summary"]["unchanged"], images.len(), "{report}");
    assert_eq!(
        (transfers(&from, "GET"), transfers(&to, "PUT")),
        (given, got),
        "no blob moves twice"
    );
}

/// This registry loses an upload whose connection breaks; the copy gets through all the same, in pieces.
#[test]
fn a_blob_larger_than_any_connection_lives_gets_through_to_a_registry_that_cannot_resume() {
    let authority = PrivateAuthority::generate("copy");
    let (from, to) = (
        DockerRegistry::start(&authority, None),
        DockerRegistry::start(&authority, None),
    );
    let (from_host, to_host) = (from.host(), to.host());
    let noise: Vec<u8> = (0..6_000_000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let image = ImageBuilder::new().plain_layer(&[("noise", &noise)]).build();
    let name = "big:1";
    let images = [NamedImage { name, image }];
    let skopeo = Skopeo::default();
    push_images(&skopeo, open_registry(&from_host, &authority), "", &images);
    for weakness in [Weakness::Closes(9_000_000), Weakness::Resets(9_000_000)] {
        let target = |host: &str| host.parse::<SocketAddr>().expect("an address and a port");
        let source_link = WeakLink::start(target(&from_host), weakness, u64::MAX);
        let sink_link = WeakLink::start(target(&to_host), weakness, u64::MAX);
        let (source, sink) = (source_link.address().to_string(), sink_link.address().to_string());
        let path = format!("{weakness:?}").to_lowercase().replace(['(', ')'], "");
        let (one, other) = (format!("{source}/big:1"), format!("{sink}/{path}:1"));
        let arguments = ["copy", &one, &other, "--insecure", &source, "--insecure", &sink];
        drop(run_landfall(&arguments).succeeded());
        let pulled = skopeo.pull(open_registry(&to_host, &authority), &format!("{path}:1"));
        assert_eq!(pulled, images[0].image.root.digest.to_string());
    }
}

/// A file system of its own, of a few megabytes, as long as it is kept.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> SmallDisk {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=4m", "landfall-test"])
            .arg(directory.path());
        drop(run(mount).succeeded());
        SmallDisk { directory }
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.directory.path()).expect("a temporary directory with a UTF-8 name")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg("--lazy").arg(self.directory.path());
        drop(run(unmount));
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_what_was_there_whole() {
    let disk = SmallDisk::mount();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| Utf8Path::from_path(directory.path()).expect("a UTF-8 name").join(name);
    let noise = |length: u32| -> Vec<u8> {
        (0..length)
            .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect()
    };
    let [small, large] =
        [200_000, 2_000_000].map(|length| ImageBuilder::new().plain_layer(&[("noise", &noise(length))]).build());
    write_layout(&path("small"), &small);
    write_layout(&path("large"), &large);
    let root = disk.path().join("images");
    let arguments = ["registry", "serve", "--root", root.as_str(), "--listen", "127.0.0.1:0"];
    let registry = Program::start("registry", &path(""), landfall(&arguments));
    let host = wait_for("the registry's address", || {
        Some(
            registry
                .stdout()
                .strip_prefix("http://")?
                .strip_suffix('\n')?
                .to_owned(),
        )
    });
    let push = |name: &str| {
        let (source, target) = (format!("oci:{}:image", path(name)), format!("{host}/{name}/app:1"));
        run_landfall(&["copy", &source, &target, "--insecure", &host])
    };
    drop(push("small").succeeded());
    let failed = push("large");
    assert_eq!(failed.code(), Some(1), "{failed}");
    assert!(
        failed.stdout().contains(&host) && failed.stdout().contains("507"),
        "{failed}"
    );
    // What was there is served as before.
    let back = path("back");
    let source = format!("{host}/small/app:1");
    drop(run_landfall(&["copy", &source, &format!("oci:{back}"), "--insecure", &host]).succeeded());
    assert_in_layout(&back, &small);

    let full = disk.path().join("layout");
    let failed = run_landfall(&["copy", &format!("oci:{}:image", path("large")), &format!("oci:{full}")]);
    assert_eq!(failed.code(), Some(1), "{failed}");
    assert!(failed.stdout().contains("No space left on device"), "{failed}");
    assert!(!full.join("index.json").exists());
}

#[test]
fn a_registry_that_was_wiped_between_two_runs_is_filled_again() {
    let authority = PrivateAuthority::generate("copy");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| Utf8Path::from_path(directory.path()).expect("a UTF-8 name").join(name);
    let image = ImageBuilder::new().plain_layer(&[("noise", &[3; 20_000_000])]).build();
    write_layout(&path("image"), &image);
    let state = path("state");
    for _ in 0..2 {
        // A new one each time: nothing that an earlier run noted down holds any more.
        let registry = DockerRegistry::start(&authority, None);
        let host = registry.host();
        let (source, target) = (format!("oci:{}:image", path("image")), format!("{host}/a/app:1"));
        let arguments = [
            "copy",
            &source,
            &target,
            "--insecure",
            &host,
            "--state-dir",
            state.as_str(),
        ];
        drop(run_landfall(&arguments).succeeded());
        let pulled = Skopeo::default().pull(open_registry(&host, &authority), "a/app:1");
        assert_eq!(pulled, image.root.digest.to_string());
    }
}
