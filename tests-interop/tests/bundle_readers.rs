//! Bundles that Landfall made are read by the programs that people have: `zstd`, tar, skopeo, podman, containerd, K3s' own
//! reader, oras and regctl [spec:bundles.readers].
#![expect(clippy::unwrap_used, reason = "test set-up")]

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;

use camino::Utf8Path;
use landfall_testkit::containerd_process::ContainerdProcess;
use landfall_testkit::image_builder::digest_of;
use landfall_tests_interop::agent::run_landfall;
use landfall_tests_interop::bundle::{BOTH, BundleDesk, CHART, NAMES, TILL, WEB};
use landfall_tests_interop::cri_runtime::{CriRuntime, MAIN_FILE, Release, RuntimeDirectory};
use landfall_tests_interop::docker_registry::DockerRegistry;
use landfall_tests_interop::go_tool::tool;
use landfall_tests_interop::images::assert_in_layout;
use landfall_tests_interop::program::{Finished, run};
use landfall_tests_interop::skopeo::{Access, Skopeo};
use landfall_tests_interop::tls::PrivateAuthority;
use serde_json::Value;

/// Options of a bundle whose indexes have the wanted platform only.
const NARROWED: [&str; 4] = ["--platform", "linux/amd64", "--narrow", "rewrite"];

/// Unpacks a tar, plain or compressed, with GNU tar.
fn unpack(desk: &BundleDesk, file: &str, to: &str) {
    drop(desk.line(&format!("mkdir {to}; tar xf {file} -C {to}")).succeeded());
}

/// Checks that each blob has the digest that its path says, and returns their number.
fn check_blobs(layout: &Utf8Path) -> usize {
    let blobs = fs_err::read_dir(layout.join("blobs/sha256")).unwrap();
    blobs
        .map(|entry| {
            let entry = entry.unwrap();
            let digest = digest_of(&fs_err::read(entry.path()).unwrap());
            assert_eq!(*digest.hex(), *entry.file_name());
        })
        .count()
}

fn read_json(path: &Utf8Path) -> Value {
    serde_json::from_slice(&fs_err::read(path).unwrap()).unwrap()
}

/// Returns the index entries of a layout with a name, by name.
fn names_in(layout: &Utf8Path) -> BTreeMap<String, String> {
    let index = read_json(&layout.join("index.json"));
    let entries = index["manifests"].as_array().unwrap();
    let named = entries.iter().filter_map(|entry| {
        let name = entry["annotations"]["org.opencontainers.image.ref.name"].as_str()?;
        Some((name.to_owned(), entry["digest"].as_str()?.to_owned()))
    });
    named.collect()
}

#[test]
fn zstd_and_tar_read_a_bundle_and_every_blob_has_its_digest() {
    let desk = BundleDesk::new();
    desk.bundle("shop.tar.zst", &[]);
    drop(desk.line("zstd -qt shop.tar.zst").succeeded());
    let listed = desk.line("zstd -l shop.tar.zst").succeeded().stdout();
    assert!(listed.contains("XXH64"), "{listed}");
    let entries = desk.line("tar tf shop.tar.zst").succeeded().stdout();
    let first: Vec<&str> = entries.lines().take(5).collect();
    let head = [
        "oci-layout",
        "landfall/bundle.json",
        "landfall/bundle.sig",
        "index.json",
        "manifest.json",
    ];
    assert_eq!(first, head);
    unpack(&desk, "shop.tar.zst", "unpacked");
    let layout = desk.path("unpacked");
    for image in [&desk.till, &desk.web, &desk.both] {
        assert_in_layout(&layout, image);
    }
    // The images without what they share, the chart, and both signatures.
    let images = [&desk.till, &desk.web, &desk.both];
    let shared: std::collections::BTreeSet<_> = images.iter().flat_map(|image| image.all_content()).collect();
    assert_eq!(check_blobs(&layout), shared.len() + 3 + 3 + 2);
    let names = names_in(&layout);
    for (name, ..) in NAMES {
        assert!(names.contains_key(name), "{names:#?}");
    }
    let signature = format!(
        "registry.example.com:5000/shop/till:sha256-{}.sig",
        desk.till.root.digest.hex()
    );
    assert!(names.contains_key(&signature), "{names:#?}");

    // The other ways to the same bytes.
    drop(
        desk.line("zstd -qd shop.tar.zst -o shop.tar; tar tf shop.tar >listed")
            .succeeded(),
    );
    assert_eq!(fs_err::read_to_string(desk.path("listed")).unwrap(), entries);
    desk.bundle("pieces.tar.zst", &["--split", "1MB"]);
    drop(
        desk.line("test $(ls pieces.tar.zst_part* | wc -l) -ge 2; cat pieces.tar.zst_part* | cmp - shop.tar.zst")
            .succeeded(),
    );
    desk.bundle("plain.tar", &["--plain"]);
    unpack(&desk, "plain.tar", "plain");
    assert_eq!(check_blobs(&desk.path("plain")), check_blobs(&layout));
    assert_eq!(names_in(&desk.path("plain")), names);
}

#[test]
fn skopeo_reads_a_bundle_as_it_is() {
    let desk = BundleDesk::new();
    desk.bundle("shop.tar.zst", &[]);
    desk.bundle("plain.tar", &["--plain"]);
    let skopeo = Skopeo::default();
    for file in ["shop.tar.zst", "plain.tar"] {
        for (name, image) in [(TILL, &desk.till), (WEB, &desk.web), (BOTH, &desk.both)] {
            let to = desk.path(&format!("{file}-{}", image.root.digest.hex()));
            let from = format!("oci-archive:{}:{name}", desk.path(file));
            skopeo.copy_whole(&from, &format!("oci:{to}:image"));
            assert_in_layout(&to, image);
        }
        let chart = desk.path(&format!("{file}-chart"));
        let from = format!("oci-archive:{}:{CHART}", desk.path(file));
        skopeo.copy_whole(&from, &format!("oci:{chart}:chart"));
        assert_eq!(check_blobs(&chart), 3);
    }
    // A bundle for one platform serves that platform.
    desk.bundle("amd64.tar.zst", &["--platform", "linux/amd64"]);
    let to = desk.path("amd64");
    let from = format!("oci-archive:{}:{BOTH}", desk.path("amd64.tar.zst"));
    skopeo.copy(&from, &format!("oci:{to}:image"));
    assert!(check_blobs(&to) >= 4);
}

#[test]
fn a_narrowed_index_is_taken_by_readers_that_want_all_of_its_entries() {
    let desk = BundleDesk::new();
    let narrowed = desk.bundle("narrowed.tar.zst", &NARROWED);
    let shown = run_landfall(&["bundle", "show", narrowed.as_str(), "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.succeeded().stdout()).unwrap();
    let images = shown["images"].as_array().unwrap();
    let both = images.iter().find(|image| image["name"] == BOTH).unwrap();
    assert_ne!(both["digest"], desk.both.root.digest.as_str());
    drop(run_landfall(&["bundle", "verify", narrowed.as_str()]).succeeded());
    // skopeo copies every entry of the index.
    let to = desk.path("whole");
    Skopeo::default().copy_whole(&format!("oci-archive:{narrowed}:{BOTH}"), &format!("oci:{to}:image"));
    assert_eq!(
        read_json(&to.join("index.json"))["manifests"][0]["digest"],
        both["digest"]
    );
    check_blobs(&to);

    // distribution 2.8 checks every entry of an index that is pushed.
    let authority = PrivateAuthority::generate("narrowed");
    let registry = DockerRegistry::start(&authority, None);
    let (host, state) = (registry.host(), desk.path("state"));
    let push = |file: &Utf8Path| {
        run_landfall(&[
            "push",
            "--bundle",
            file.as_str(),
            "--to",
            &host,
            "--insecure",
            &host,
            "--state-dir",
            state.as_str(),
            "--image",
            BOTH,
            "--progress",
            "none",
        ])
    };
    let sparse = push(&desk.bundle("sparse.tar.zst", &["--platform", "linux/amd64"]));
    assert_eq!(sparse.code(), Some(1), "{sparse}");
    assert!(
        sparse.stdout().contains("from a bundle made with `--narrow rewrite`"),
        "{sparse}"
    );
    drop(push(&narrowed).succeeded());
    let access = Access {
        host: &host,
        authority: Some(authority.pem()),
        account: None,
    };
    let pulled = Skopeo::default().pull(access, "registry.example.com_5000/shop/both:3");
    assert_eq!(pulled, both["digest"]);
}

/// podman with its storage in the directory of the desk.
fn podman(desk: &BundleDesk, arguments: &[&str]) -> Finished {
    let mut command = Command::new("podman");
    for (option, name) in [
        ("--root", "podman"),
        ("--runroot", "podman-run"),
        ("--tmpdir", "podman-tmp"),
    ] {
        command.arg(option).arg(desk.path(name));
    }
    command.args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]);
    command.env("HOME", desk.directory()).env("TMPDIR", desk.directory());
    // Its locks would be in `/dev/shm`, shared with every podman of this machine.
    let settings = desk.path("containers.conf");
    fs_err::write(&settings, "[engine]\nlock_type = \"file\"\n").unwrap();
    command.env("CONTAINERS_CONF", settings);
    command.args(arguments);
    run(command)
}

#[test]
fn podman_loads_the_images_of_a_bundle() {
    let desk = BundleDesk::new();
    for (name, further) in [
        ("shop.tar.zst", &[][..]),
        ("plain.tar", &["--plain"]),
        ("amd64.tar.zst", &["--platform", "linux/amd64"]),
        ("narrowed.tar.zst", &NARROWED),
    ] {
        let file = desk.bundle(name, further);
        drop(podman(&desk, &["load", "--input", file.as_str()]).succeeded());
        let names = podman(&desk, &["images", "--format", "{{.Repository}}:{{.Tag}}"])
            .succeeded()
            .stdout();
        for name in [TILL, WEB, BOTH] {
            assert!(names.lines().any(|line| line == name), "{names}");
        }
        drop(podman(&desk, &["rmi", "--all", "--force"]).succeeded());
    }
}

/// Unmounts an image when the test is done with it or fails.
struct Unmount<'a> {
    ctr: &'a dyn Fn(&[&str]) -> Result<String, String>,
    path: &'a Utf8Path,
}

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let unmounted = (self.ctr)(&["images", "unmount", self.path.as_str()]);
        assert!(unmounted.is_ok() || thread::panicking(), "{unmounted:?}");
    }
}

/// Imports a tar by `ctr`, unpacks it, and checks names and digests.
fn check_containerd(desk: &BundleDesk, ctr: &dyn Fn(&[&str]) -> Result<String, String>, tar: &str) {
    let path = desk.path(tar);
    // Not unpacked: `ctr` would fail at the chart and at the signature, which are no images that could run.
    ctr(&["images", "import", "--no-unpack", path.as_str()]).unwrap();
    let listed = ctr(&["images", "ls"]).unwrap();
    for (name, image) in [(TILL, &desk.till), (WEB, &desk.web), (BOTH, &desk.both)] {
        let line = listed.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(
            line.is_some_and(|line| line.contains(image.root.digest.as_str())),
            "{listed}"
        );
        // It unpacks the image first.
        let mounted = desk.path(&format!("mounted-{}", image.root.digest.hex()));
        fs_err::create_dir_all(&mounted).unwrap();
        let _unmount = Unmount { ctr, path: &mounted };
        ctr(&["images", "mount", "--snapshotter", "native", name, mounted.as_str()]).unwrap();
        let checked = ctr(&["images", "check", "--snapshotter", "native", &format!("name=={name}")]).unwrap();
        let words: Vec<&str> = checked.lines().last().unwrap_or_default().split_whitespace().collect();
        // containerd 2 mounts where this process does not see it, and 1.6 does not list what a mount unpacked.
        let is_unpacked = words.last() == Some(&"true") || mounted.join("etc/name").is_file();
        assert!(words.contains(&"complete") && is_unpacked, "{checked}");
    }
    // No image is made of a signature that has no tag.
    assert!(!listed.contains("import-"), "{listed}");
}

#[test]
fn containerd_1_6_imports_a_bundle() {
    let desk = BundleDesk::new();
    desk.bundle("shop.tar.zst", &[]);
    desk.bundle("sparse.tar.zst", &["--platform", "linux/amd64"]);
    desk.bundle("plain.tar", &["--plain"]);
    drop(desk.line("zstd -qd shop.tar.zst; zstd -qd sparse.tar.zst").succeeded());
    for tar in ["shop.tar", "sparse.tar", "plain.tar"] {
        let process = ContainerdProcess::start().unwrap();
        let ctr = |arguments: &[&str]| process.ctr(arguments).map_err(|error| error.to_string());
        check_containerd(&desk, &ctr, tar);
    }
    // All platforms of a bundle that has them.
    let process = ContainerdProcess::start().unwrap();
    let tar = desk.path("shop.tar");
    process
        .ctr(&["images", "import", "--all-platforms", "--no-unpack", tar.as_str()])
        .unwrap();
}

#[test]
fn containerd_2_imports_a_bundle_also_compressed() {
    let desk = BundleDesk::new();
    desk.bundle("shop.tar.zst", &[]);
    desk.bundle("sparse.tar.zst", &["--platform", "linux/amd64"]);
    desk.bundle("plain.tar", &["--plain"]);
    drop(desk.line("zstd -qd shop.tar.zst").succeeded());
    let ctr_program = tool("ctr");
    for release in [Release::V2_0, Release::V2_4] {
        let etc = desk.path(&format!("etc-{}", release.number()));
        for tar in ["shop.tar", "shop.tar.zst", "sparse.tar.zst", "plain.tar"] {
            let directory = RuntimeDirectory::new(2, "", &etc);
            let runtime = CriRuntime::start(release, directory, &etc);
            let socket = runtime.directory().join("containerd.sock");
            let ctr = |arguments: &[&str]| {
                let mut command = Command::new(&ctr_program);
                command.args(["--address", socket.as_str(), "--namespace", "k8s.io"]);
                command.args(arguments);
                let ended = run(command);
                (ended.code() == Some(0))
                    .then(|| ended.stdout())
                    .ok_or_else(|| ended.to_string())
            };
            check_containerd(&desk, &ctr, tar);
            fs_err::remove_file(etc.join(MAIN_FILE)).unwrap();
        }
    }
}

#[test]
fn k3s_and_rke2_read_a_bundle() {
    let desk = BundleDesk::new();
    let reader = tool("k3s-images");
    for (name, further) in [
        ("shop.tar.zst", &[][..]),
        ("sparse.tar.zst", &["--platform", "linux/amd64"]),
        ("narrowed.tar.zst", &NARROWED),
        ("plain.tar", &["--plain"]),
    ] {
        // RKE2 looks into every file of the directory.
        let directory = desk.path(&format!("images-{name}"));
        fs_err::create_dir(&directory).unwrap();
        let file = desk.bundle(&format!("images-{name}/{name}"), further);
        let mut command = Command::new(&reader);
        command.arg(&file).args([TILL, WEB, BOTH]);
        let read = run(command).succeeded().stdout();
        let blobs = read.lines().filter_map(|line| line.split_once("  blobs/sha256/"));
        assert_eq!(
            blobs.clone().filter(|(found, named)| found == named).count(),
            blobs.clone().count()
        );
        assert!(blobs.count() > 10, "{read}");
        for name in [TILL, WEB, BOTH] {
            let line = read.lines().find(|line| line.starts_with(&format!("{name} ")));
            assert_eq!(line.map(|line| line.split(' ').count()), Some(4), "{read}");
        }
    }
}

#[test]
fn oras_and_regctl_read_the_layout_of_a_bundle() {
    let desk = BundleDesk::new();
    desk.bundle("shop.tar.zst", &[]);
    desk.bundle("plain.tar", &["--plain"]);
    unpack(&desk, "shop.tar.zst", "unpacked");
    let tools = [("oras", tool("oras")), ("regctl", tool("regctl"))];
    let go = |which: usize, arguments: &[&str]| {
        let mut command = Command::new(&tools[which].1);
        command
            .env("HOME", desk.directory())
            .current_dir(desk.directory())
            .args(arguments);
        run(command).succeeded().stdout()
    };
    for (name, image) in [(TILL, &desk.till), (WEB, &desk.web), (BOTH, &desk.both)] {
        let hex = image.root.digest.hex();
        // oras takes what is behind the last colon for the tag: a full name is found by its digest only.
        let from = format!("unpacked@{}", image.root.digest);
        let to = format!("oras-{hex}:image");
        go(
            0,
            &["copy", "--no-tty", "--from-oci-layout", &from, "--to-oci-layout", &to],
        );
        assert_in_layout(&desk.path(&format!("oras-{hex}")), image);
        go(
            1,
            &[
                "image",
                "copy",
                &format!("ocidir://unpacked@{}", image.root.digest),
                &format!("ocidir://regctl-{hex}"),
            ],
        );
        assert_in_layout(&desk.path(&format!("regctl-{hex}")), image);
        go(
            1,
            &[
                "image",
                "import",
                "--name",
                name,
                &format!("ocidir://imported-{hex}"),
                "plain.tar",
            ],
        );
        assert_in_layout(&desk.path(&format!("imported-{hex}")), image);
    }
}

#[test]
fn landfall_verifies_what_it_wrote_in_each_form() {
    let desk = BundleDesk::new();
    let key = desk.path("bundle.pub");
    for (name, further) in [
        ("shop.tar.zst", &[][..]),
        ("plain.tar", &["--plain"]),
        ("pieces.tar.zst", &["--split", "1MB"]),
    ] {
        let mut file = desk.bundle(name, further);
        if name.starts_with("pieces") {
            file = desk.path("pieces.tar.zst_part00");
        }
        drop(run_landfall(&["bundle", "verify", file.as_str(), "--public-key", key.as_str()]).succeeded());
    }
}
