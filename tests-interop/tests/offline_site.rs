//! A site without a network: an agent and containerd in a network namespace with loopback alone, and sticks that are block
//! devices of the kernel. From nothing to running, pods out of a bundle before it is copied, a full disk, and a stick that
//! is pulled in the middle of it.
#![expect(clippy::unwrap_used, reason = "test set-up")]

use camino::{Utf8Path, Utf8PathBuf};
use landfall_core::bundle::adoption::BundlePhase;
use landfall_core::status::{AgentStatus, Phase, ProgressEvent};
use landfall_testkit::fake_registry::FakeRegistry;
use landfall_testkit::image_builder::{FixtureBuilder, docker_archive, provider_image};
use landfall_tests_interop::agent::{LandfallAgent, run_landfall};
use landfall_tests_interop::cri_runtime::{CriRuntime, Release, RuntimeDirectory};
use landfall_tests_interop::images::noise;
use landfall_tests_interop::offline_host::OfflineHost;
use landfall_tests_interop::poll::wait_for;
use landfall_tests_interop::program::run;
use landfall_tests_interop::small_disk::SmallDisk;
use landfall_tests_interop::stick::Stick;

const MIB: usize = 1024 * 1024;
const PROVIDER: &str = "example.io/os:1";
const CNI: &str = "example.io/calico:1";
const CORE: &str = "registry.k8s.io/pause:3.10";
const NGINX: &str = "docker.io/library/nginx:1.27";
const LARGE: &str = "quay.io/team/large:1";

/// The only registry that the site knows. It does not exist there.
const NOWHERE: &str = "registry.example:5000";
/// The primary registry and the mirror, in a network of their own.
const PRIMARY: &str = "127.0.0.1:5000";
const MIRROR: &str = "127.0.0.1:5081";

/// Lines of containerd's main file that name the directory of mirror files.
const CONFIG_PATH: &str =
    "[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";

/// The desk: a registry with everything, a key, and the profile.
struct Desk {
    registry: FakeRegistry,
    directory: tempfile::TempDir,
}

impl Desk {
    /// `large` is the size in bytes of the layer of [`LARGE`].
    fn new(large: usize) -> Desk {
        let desk = Desk {
            registry: FakeRegistry::start(),
            directory: tempfile::tempdir().unwrap(),
        };
        let image = |name: &str, size: usize| {
            FixtureBuilder::new()
                .gzip_layer(&[("etc/name", name.as_bytes()), ("usr/bin/program", &noise(name, size))])
                .build()
        };
        let core = docker_archive(&[(&[CORE], &image("pause", 1000))]);
        let mut list = String::new();
        for (name, image) in [
            (PROVIDER, provider_image(&[("core.tar", &core)])),
            (CNI, image("calico", 300_000)),
            (NGINX, image("nginx", 700_000)),
            (LARGE, image("large", large)),
        ] {
            let (repository, tag) = name.rsplit_once(':').unwrap();
            desk.registry.add_image(repository, tag, &image);
            list += &format!("{}/{name} {name}\n", desk.registry.host());
        }
        fs_err::write(desk.path("profile.yaml"), PROFILE).unwrap();
        fs_err::write(desk.path("images.txt"), list).unwrap();
        let mut keys = std::process::Command::new("sh");
        keys.current_dir(desk.directory.path());
        // The lines of the guide.
        keys.args([
            "-euc",
            "openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out key.pub",
        ]);
        drop(run(keys).succeeded());
        desk
    }

    fn path(&self, name: &str) -> Utf8PathBuf {
        Utf8Path::from_path(self.directory.path()).unwrap().join(name)
    }

    /// Makes the bundle as the guide says, and returns its path.
    fn bundle(&self) -> Utf8PathBuf {
        let bundle = self.path("site.tar.zst");
        let [list, profile, key] = ["images.txt", "profile.yaml", "key.pem"].map(|name| self.path(name));
        let host = self.registry.host();
        let made = run_landfall(&[
            "bundle",
            "create",
            bundle.as_str(),
            "--from-file",
            list.as_str(),
            "--insecure",
            host.as_str(),
            "--key",
            key.as_str(),
            "--series",
            "shops",
            "--sequence",
            "7",
            "--carry",
            profile.as_str(),
            "--progress",
            "none",
        ]);
        drop(made.succeeded());
        bundle
    }

    /// Copies the bundle in pieces to a stick, as the courier does.
    fn copy_to(&self, host: &OfflineHost, stick: &Stick, piece: &str) {
        let (bundle, at) = (self.bundle(), host.path("media"));
        fs_err::create_dir_all(&at).unwrap();
        drop(host.line(&format!("mount {} {at}", stick.device())).succeeded());
        let copied = host.landfall(&["bundle", "copy", bundle.as_str(), at.as_str(), "--split", piece]);
        drop(copied.succeeded());
        assert!(host.line(&format!("ls {at}/*_part01; umount {at}")).code() == Some(0));
    }

    /// Writes the inputs of a host that knows the key of the desk.
    fn configure(&self, host: &OfflineHost, socket: Option<&Utf8Path>, webhook: bool) {
        let key: String = fs_err::read_to_string(self.path("key.pub"))
            .unwrap()
            .lines()
            .map(|line| format!("        {line}\n"))
            .collect();
        let containerd = match socket {
            Some(socket) => format!("{{socket: {socket}}}"),
            None => "{enable: false}".to_owned(),
        };
        let text = format!(
            "#cloud-config
stylus:
  managementMode: local
  registryCredentials: {{domain: '{NOWHERE}'}}
  imageRedirectWebhook: {{enable: {webhook}}}
landfall:
  stateDir: {}
  reconcileInterval: 2
  containerd: {containerd}
  primary: {{endpoint: '{PRIMARY}'}}
  mirror: {{enable: true, files: [containerd], listen: '{MIRROR}'}}
  bundles:
    publicKeys:
      - |
{key}",
            host.state_dir()
        );
        fs_err::write(host.path("user-data.yaml"), text).unwrap();
        fs_err::write(host.path("profile.yaml"), PROFILE).unwrap();
    }
}

const PROFILE: &str = "metadata: {name: shop}
spec:
  template:
    packs:
    - name: os
      layer: os
      values: |
        options:
          system.uri: example.io/os:1
    - name: cni
      layer: cni
      values: |
        pack:
          content:
            images:
            - image: example.io/calico:1
    - name: web
      layer: addon
      values: |
        pack:
          content:
            images:
            - image: nginx:1.27
            - image: quay.io/team/large:1
";

fn start_runtime(host: &OfflineHost) -> CriRuntime {
    let directory = RuntimeDirectory::new(3, "", &host.etc_containerd());
    landfall_tests_interop::cri_runtime::add_to_main_file(&host.etc_containerd(), CONFIG_PATH);
    CriRuntime::start_on(host, Release::V2_4, directory)
}

fn phase_of_bundle(status: &AgentStatus) -> Option<BundlePhase> {
    status.bundles.first().map(|bundle| bundle.phase)
}

fn wait_for_receipt(host: &OfflineHost, agent: &LandfallAgent) -> AgentStatus {
    host.wait_for_status(agent, "a running host with all of the bundle", |status| {
        status.phase == Phase::Running && phase_of_bundle(status) == Some(BundlePhase::Receipt)
    })
}

/// Waits until nobody has a file of a stick open, so that the kernel forgets it.
fn wait_for_release(stick: &Stick) {
    wait_for("the end of a stick", || (!stick.is_in_use_after_pull()).then_some(()));
}

fn assert_all_is_here(status: &AgentStatus) {
    for (name, image) in &status.images {
        assert!(image.stored && image.error.is_none(), "{name}: {image:?}");
    }
    for name in [NGINX, LARGE] {
        assert!(status.images[name].in_primary, "{name}");
    }
}

#[test]
fn a_host_with_nothing_comes_up_off_a_stick() {
    let (desk, host) = (Desk::new(2 * MIB), OfflineHost::new());
    assert_eq!(
        host.line("ip -o link | wc -l").succeeded().stdout().trim(),
        "1",
        "loopback alone"
    );
    let stick = Stick::partitioned(&host.path("stick.img"), 64 * MIB as u64, "LANDFALL");
    desk.copy_to(&host, &stick, "1MB");
    let runtime = start_runtime(&host);
    desk.configure(&host, Some(&runtime.socket()), true);
    let mut agent = host.start_agent();
    // It asks a registry that does not exist, again and again.
    agent.wait_for_progress("the provider image", |progress| {
        progress
            .iter()
            .any(|event| matches!(event, ProgressEvent::Retrying { .. }))
    });

    host.show(&stick);
    let mount = wait_for("the mount of the stick", || host.mounts().into_iter().next());
    let [device, target, kind, options] = mount.split(' ').take(4).collect::<Vec<_>>()[..] else {
        panic!("{mount}")
    };
    assert_eq!((device, kind), (stick.device().as_str(), "ext4"));
    assert_eq!(target, host.state_dir().join("sticks/LANDFALL").as_str());
    let options: Vec<&str> = options.split(',').collect();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.contains(&option), "{option} is missing in {mount}");
    }
    let status = wait_for_receipt(&host, &agent);
    assert_all_is_here(&status);
    let receipt = status.bundles[0].receipt.clone().unwrap();
    assert!(
        receipt.starts_with(host.state_dir().join("bundles").as_str()),
        "{receipt}"
    );
    let in_containerd = runtime.images();
    for name in [CORE, CNI] {
        assert_eq!(
            in_containerd.get(name).map(String::as_str),
            Some("complete"),
            "{in_containerd:?}"
        );
    }

    // The stick has done its work, and nobody holds it.
    wait_for("the end of the mount", || host.mounts().is_empty().then_some(()));
    host.hide_sticks();
    wait_for_release(&stick);
    let redirected = host.redirected_image("nginx:1.27");
    assert!(redirected.starts_with(PRIMARY), "{redirected}");
    for name in [NGINX, LARGE, &redirected] {
        runtime
            .pull(name, None)
            .unwrap_or_else(|problem| panic!("{name}: {problem}\n{}", agent.messages()));
    }
    let problem = runtime.pull("docker.io/library/unknown:1", None).unwrap_err();
    assert!(problem.contains("502 Bad Gateway"), "{problem}");
}

#[test]
fn pods_start_off_a_stick_while_the_disk_is_full_and_it_may_be_pulled_and_come_back() {
    let (desk, disk) = (Desk::new(40 * MIB), SmallDisk::mount("size=24m"));
    let host = OfflineHost::with_state_on(Some(&disk));
    let file = host.path("stick.img");
    let stick = Stick::partitioned(&file, 96 * MIB as u64, "COS_CONTENT");
    desk.copy_to(&host, &stick, "16MB");
    let runtime = start_runtime(&host);
    desk.configure(&host, Some(&runtime.socket()), false);
    host.show(&stick);
    let mut agent = host.start_agent();
    let lacks_large = |status: &AgentStatus| {
        let large = status.images.get(LARGE);
        status.phase == Phase::Degraded
            && large.is_some_and(|image| image.error.as_ref().is_some_and(|error| error.contains("no room for")))
            && phase_of_bundle(status) == Some(BundlePhase::Adopting)
    };
    let status = host.wait_for_status(&agent, "a bundle that does not fit", lacks_large);
    assert!(status.images[NGINX].stored && status.images[NGINX].in_primary);
    assert_eq!(status.bundles[0].missing, [LARGE]);
    assert!(status.bundles[0].hint.is_some(), "{:?}", status.bundles);

    // No webhook, mirror files only, and nothing was copied.
    let pull = |name: &str| runtime.pull(name, None);
    pull(LARGE).unwrap_or_else(|problem| panic!("{problem}\n{}", agent.messages()));
    assert!(!host.status().unwrap().images[LARGE].stored);

    // A killed agent leaves its mount behind.
    agent.kill();
    assert_eq!(host.mounts().len(), 1);
    let agent = host.start_agent();
    host.wait_for_status(&agent, "the same after a restart", |status| {
        lacks_large(status)
            && agent
                .progress()
                .contains(&ProgressEvent::Phase { phase: Phase::Redirect })
    });
    assert_eq!(host.mounts().len(), 1, "{:?}", host.mounts());

    // The stick is pulled: its device is gone, and udev's link.
    let moved = host.path("moved.img");
    stick.break_contact(&moved);
    host.hide_sticks();
    let status = host.wait_for_status(&agent, "a stick that is gone", |status| {
        phase_of_bundle(status) == Some(BundlePhase::Vanished)
    });
    assert_eq!(status.bundles[0].missing, [LARGE]);
    assert!(host.mounts().is_empty(), "{:?}", host.mounts());
    wait_for_release(&stick);
    runtime
        .pull(NGINX, None)
        .unwrap_or_else(|problem| panic!("{problem}\n{}", agent.messages()));

    // It comes back in another port, and there is room.
    disk.remount("size=300m");
    let again = Stick::plug(&moved, &["--read-only"]).with_partition();
    host.show(&again);
    let status = wait_for_receipt(&host, &agent);
    assert_all_is_here(&status);
    wait_for("the end of the mount", || host.mounts().is_empty().then_some(()));
}

#[test]
fn a_squashfs_in_a_partition_with_our_label_is_a_stick() {
    let (desk, host) = (Desk::new(MIB), OfflineHost::new());
    let content = host.path("content/bundle-content");
    fs_err::create_dir_all(&content).unwrap();
    let bundle = desk.bundle();
    drop(run_landfall(&["bundle", "copy", bundle.as_str(), content.as_str(), "--split", "1MB"]).succeeded());
    let stick = Stick::squashfs(&host.path("stick.img"), &host.path("content"));
    desk.configure(&host, None, true);
    host.show_partition(&stick, "LANDFALL");
    let agent = host.start_agent();
    let status = wait_for_receipt(&host, &agent);
    assert_all_is_here(&status);
    let receipt = status.bundles[0].receipt.clone().unwrap();
    assert!(
        receipt.starts_with(host.state_dir().join("bundles").as_str()),
        "{receipt}"
    );
    assert_eq!(status.bundles[0].sequence, Some(7));
    wait_for("the end of the mount", || host.mounts().is_empty().then_some(()));
}
