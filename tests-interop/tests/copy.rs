//! `landfall copy` between real registries, verified by skopeo.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};
use landfall_testkit::image_builder::{
    FixtureBuilder, ImageFixture, docker_form, foreign_image, multi_platform, zstd_image,
};
use landfall_testkit::weak_link::{WeakLink, Weakness};
use landfall_tests_interop::agent::{landfall, run_landfall};
use landfall_tests_interop::docker_registry::{DockerRegistry, Release};
use landfall_tests_interop::images::{NamedImage, assert_in_layout, profile_images, push_images, write_layout};
use landfall_tests_interop::landfall_registry::LandfallRegistry;
use landfall_tests_interop::poll::wait_for;
use landfall_tests_interop::port::free_port;
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

/// Counts the blobs that a registry served (`GET`) or received.
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

/// This registry loses an upload when its connection breaks. The copy succeeds all the same, in chunks.
#[test]
fn a_blob_larger_than_any_connection_lives_gets_through_to_a_registry_that_cannot_resume() {
    let authority = PrivateAuthority::generate("copy");
    let (from, to) = (
        DockerRegistry::start(&authority, None),
        DockerRegistry::start(&authority, None),
    );
    let (from_host, to_host) = (from.host(), to.host());
    let image = FixtureBuilder::new()
        .plain_layer(&[("noise", &noise(6_000_000))])
        .build();
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

/// The first chunks are of 64 MiB for every registry. While they are sent, only a registry that does not cancel an
/// upload for it is asked how far it got.
#[test]
fn a_large_blob_goes_in_pieces_and_only_a_registry_that_bears_it_is_asked_meanwhile() {
    let authority = PrivateAuthority::generate("pieces");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let layout = Utf8Path::from_path(directory.path()).expect("a temporary directory with a UTF-8 name");
    let image = FixtureBuilder::new()
        .plain_layer(&[("noise", &noise(17_000_000))])
        .build();
    write_layout(layout, &image);
    for (release, is_asked) in [(Release::V2, false), (Release::V3, true)] {
        let registry = DockerRegistry::start_release(release, &authority, None);
        let host = registry.host();
        let (source, target) = (format!("oci:{layout}:image"), format!("{host}/big:1"));
        drop(run_landfall(&["copy", &source, &target, "--insecure", &host]).succeeded());
        let requests = registry.requests();
        assert_eq!(transfers(&registry, "PATCH"), 1, "{requests:?}");
        let asked = transfers(&registry, "GET") > 0;
        assert_eq!(asked, is_asked, "{requests:?}");
    }
}

fn copy_with_state<'a>(source: &'a str, target: &'a str, host: &'a str, state: &'a Utf8Path) -> [&'a str; 7] {
    let state = state.as_str();
    ["copy", source, target, "--insecure", host, "--state-dir", state]
}

/// The copy is killed within the first chunk of a blob. Landfall's registry keeps the bytes it received, with
/// and without TLS.
#[test]
fn a_copy_that_was_killed_half_way_into_our_registry_has_half_to_do_when_it_is_run_again() {
    let authority = PrivateAuthority::generate("copy");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| Utf8Path::from_path(directory.path()).expect("a UTF-8 name").join(name);
    let image = FixtureBuilder::new()
        .plain_layer(&[("layer", &vec![3; 100_000_000])])
        .build();
    write_layout(&path("image"), &image);
    let needed: u64 = image.described_blobs().map(|(blob, _)| blob.size).sum();
    for authority in [None, Some(&authority)] {
        let registry = LandfallRegistry::start(authority, None);
        let link = WeakLink::counting(registry.host().parse().expect("an address and a port"));
        let host = link.address().to_string();
        let state = path(&format!("state-{}", authority.is_some()));
        let (source, target) = (format!("oci:{}:image", path("image")), format!("{host}/a/app:1"));
        let arguments = copy_with_state(&source, &target, &host, &state);
        // Slow enough for a kill to hit its instant.
        let slowly = [&arguments[..], &["--bandwidth", "50000000"]].concat();
        let mut first = Program::start("first", &path(""), landfall(&slowly));
        wait_for("half of the bytes", || {
            (link.bytes_to_server() >= needed / 2).then_some(())
        });
        first.kill();
        let moved = link.bytes_to_server();
        assert!(moved < needed * 9 / 10, "killed too late: {}", first.output());
        drop(run_landfall(&arguments).succeeded());
        let again = link.bytes_to_server() - moved;
        assert!(
            again <= needed * 55 / 100,
            "{again} of {needed} bytes, with TLS: {}",
            authority.is_some()
        );
        let back = path(&format!("back-{}", authority.is_some()));
        drop(run_landfall(&["copy", &target, &format!("oci:{back}"), "--insecure", &host]).succeeded());
        assert_in_layout(&back, &image);
    }
}

/// A file system of a few megabytes, mounted until it is dropped.
struct SmallDisk {
    path: Utf8PathBuf,
}

impl SmallDisk {
    fn mount(path: &Utf8Path) -> SmallDisk {
        std::fs::create_dir_all(path).expect("a directory of our own");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "landfall-test"]).arg(path);
        drop(run(mount).succeeded());
        SmallDisk { path: path.to_owned() }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut unmount = Command::new("umount");
        unmount.arg("--lazy").arg(&self.path);
        drop(run(unmount));
    }
}

/// Returns incompressible bytes.
fn noise(numbers: u32) -> Vec<u8> {
    (0..numbers)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

#[test]
fn a_full_disk_is_named_and_leaves_what_was_there_whole() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| Utf8Path::from_path(directory.path()).expect("a UTF-8 name").join(name);
    let [small, large] =
        [200_000, 2_000_000].map(|length| FixtureBuilder::new().plain_layer(&[("noise", &noise(length))]).build());
    write_layout(&path("small"), &small);
    write_layout(&path("large"), &large);
    let authority = PrivateAuthority::generate("full");
    let theirs = DockerRegistry::start(&authority, None);
    let their_disk = SmallDisk::mount(&theirs.data());
    let our_disk = SmallDisk::mount(&path("our-disk"));
    let ours = LandfallRegistry::start_with(None, None, Some(&our_disk.path.join("images")), &[]);
    // Docker's registry does not report a full disk as such.
    let look = "look into the registry's log, and whether its disk is full";
    let free = "free space in the registry, or give it a larger disk";
    for (host, what, fix) in [
        (theirs.host().as_str(), "500 Internal Server Error", look),
        (ours.host(), "507", free),
    ] {
        let push = |name: &str| {
            let (source, target) = (format!("oci:{}:image", path(name)), format!("{host}/{name}/app:1"));
            run_landfall(&["copy", &source, &target, "--insecure", host])
        };
        drop(push("small").succeeded());
        let failed = push("large");
        assert_eq!(failed.code(), Some(1), "{failed}");
        assert!(
            [host, what, fix].iter().all(|part| failed.stdout().contains(part)),
            "{failed}"
        );
        // No incomplete image exists, and earlier images are served as before.
        let pull = |name: &str| {
            let back = path(&format!("{}-{name}", host.replace(':', "-")));
            let source = format!("{host}/{name}/app:1");
            (
                run_landfall(&["copy", &source, &format!("oci:{back}"), "--insecure", host]),
                back,
            )
        };
        assert_eq!(pull("large").0.code(), Some(1));
        let (pulled, back) = pull("small");
        drop(pulled.succeeded());
        assert_in_layout(&back, &small);
    }
    drop(their_disk);

    let full = our_disk.path.join("layout");
    let failed = run_landfall(&["copy", &format!("oci:{}:image", path("large")), &format!("oci:{full}")]);
    assert_eq!(failed.code(), Some(1), "{failed}");
    assert!(failed.stdout().contains("No space left on device"), "{failed}");
    assert!(!full.join("index.json").exists());
}

/// A registry whose content is lost at [`Wiped::wipe`], while its address stays.
enum Wiped {
    Theirs(DockerRegistry),
    Ours { program: Program, port: u16 },
}

impl Wiped {
    fn start_ours(directory: &Utf8Path, port: u16) -> Wiped {
        let (root, listen) = (directory.join("ours"), format!("127.0.0.1:{port}"));
        let arguments = ["registry", "serve", "--root", root.as_str(), "--listen", &listen];
        let program = Program::start("ours", directory, landfall(&arguments));
        wait_for("our registry listening", || TcpStream::connect(&listen).ok());
        Wiped::Ours { program, port }
    }

    fn host(&self) -> String {
        match self {
            Wiped::Theirs(registry) => registry.host(),
            Wiped::Ours { port, .. } => format!("127.0.0.1:{port}"),
        }
    }

    fn wipe(self, directory: &Utf8Path) -> Wiped {
        match self {
            Wiped::Theirs(mut registry) => {
                registry.stop();
                std::fs::remove_dir_all(registry.data()).expect("a directory of our own");
                registry.start_again();
                Wiped::Theirs(registry)
            }
            Wiped::Ours { mut program, port } => {
                program.kill();
                std::fs::remove_dir_all(directory.join("ours")).expect("a directory of our own");
                Wiped::start_ours(directory, port)
            }
        }
    }
}

/// Edge hosts are recreated under the same address: the journal of an earlier run is stale then.
#[test]
fn a_registry_that_was_wiped_between_two_runs_is_filled_again() {
    let authority = PrivateAuthority::generate("copy");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(directory.path()).expect("a UTF-8 name");
    let image = FixtureBuilder::new()
        .plain_layer(&[("noise", &noise(5_000_000))])
        .build();
    let layout = directory.join("image");
    write_layout(&layout, &image);
    for mut registry in [
        Wiped::Theirs(DockerRegistry::start(&authority, None)),
        Wiped::start_ours(directory, free_port()),
    ] {
        let host = registry.host();
        let state = directory.join(format!("state-{}", host.replace(':', "-")));
        let (source, target) = (format!("oci:{layout}:image"), format!("{host}/a/app:1"));
        let arguments = copy_with_state(&source, &target, &host, &state);
        drop(run_landfall(&arguments).succeeded());
        registry = registry.wipe(directory);
        let refilled = run_landfall(&arguments).succeeded();
        assert!(refilled.stdout().contains("1 copied"), "{refilled}");

        // The journal also has an upload that the registry no longer knows.
        registry = registry.wipe(directory);
        let slow = [&arguments[..], &["--bandwidth", "8000000"]].concat();
        let mut cut = Program::start("cut", directory, landfall(&slow));
        wait_for("an upload in the journal", || {
            let entries = std::fs::read_dir(state.join("uploads")).ok()?;
            (entries.count() > 1).then_some(())
        });
        cut.kill();
        registry = registry.wipe(directory);
        drop(run_landfall(&arguments).succeeded());
        let back = directory.join(format!("back-{}", host.replace(':', "-")));
        drop(run_landfall(&["copy", &target, &format!("oci:{back}"), "--insecure", &host]).succeeded());
        assert_in_layout(&back, &image);
        drop(registry);
    }
}

/// Copies images of every kind to each kind of registry.
#[test]
fn images_of_every_kind_arrive_byte_for_byte() {
    let authority = PrivateAuthority::generate("kinds");
    let [two, three] =
        [Release::V2, Release::V3].map(|release| DockerRegistry::start_release(release, &authority, None));
    let ours = LandfallRegistry::start(None, None);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = Utf8Path::from_path(directory.path()).expect("a UTF-8 name");
    let one = |architecture: &str| {
        FixtureBuilder::new()
            .platform("linux", architecture)
            .gzip_layer(&[("program", architecture.as_bytes())])
            .build()
    };
    let pair = multi_platform(&[one("amd64"), one("arm64")]);
    let kinds: [(&str, ImageFixture); 5] = [
        ("docker", docker_form(&one("amd64"))),
        ("docker-list", docker_form(&pair)),
        ("zstd", zstd_image(&[("program", b"squeezed")])),
        ("nested", multi_platform(&[pair.clone(), one("s390x")])),
        ("foreign", foreign_image("http://127.0.0.1:9/layer")),
    ];
    for (kind, image) in &kinds {
        let layout = directory.join(kind);
        write_layout(&layout, image);
        for (registry, host) in [
            ("two", two.host()),
            ("three", three.host()),
            ("ours", ours.host().to_owned()),
        ] {
            let (source, target) = (format!("oci:{layout}:image"), format!("{host}/kinds/{kind}:1"));
            let pushed = run_landfall(&["copy", &source, &target, "--insecure", &host]);
            if *kind == "foreign" && registry != "ours" {
                // These registries need a list of allowed addresses, or allow none.
                assert_eq!(pushed.code(), Some(1), "{pushed}");
                let text = pushed.stdout();
                assert!(text.contains("fetched from addresses of their own"), "{pushed}");
                assert!(text.contains("fix: allow the layers' addresses"), "{pushed}");
                continue;
            }
            drop(pushed.succeeded());
            let back = directory.join(format!("{kind}-{registry}"));
            drop(run_landfall(&["copy", &target, &format!("oci:{back}"), "--insecure", &host]).succeeded());
            assert_in_layout(&back, image);
        }
    }
}
