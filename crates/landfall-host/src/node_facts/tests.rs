use landfall_core::hostconf::containerd_config::{MAIN_FILE, ReadingState, read_mirror_files};
use landfall_core::hostconf::kubelet_plugin::{LoginState, read_kubelet};
use landfall_testkit::host_fixture::HostFixture;

use super::*;

fn host_with(files: &[(&str, &str)]) -> (HostFixture, HostRoot) {
    let host = HostFixture::mk();
    for (path, text) in files {
        host.put(path.trim_start_matches('/'), 0o644, text);
    }
    let root = HostRoot::new(host.root());
    (host, root)
}

#[tokio::test]
async fn imports_are_read_in_the_order_of_containerd() {
    let (_host, root) = host_with(&[
        (
            MAIN_FILE,
            "version = 3\nimports = ['conf.d/*.toml', '/opt/last.toml']\n",
        ),
        ("/etc/containerd/conf.d/20.toml", "version = 3\n"),
        (
            "/etc/containerd/conf.d/10.toml",
            "version = 3\nimports = ['/etc/containerd/config.toml']\n",
        ),
        ("/etc/containerd/conf.d/other.conf", "["),
        ("/opt/last.toml", "version = 3\n"),
    ]);
    let facts = find_host_facts(&root, Utf8Path::new(MAIN_FILE), None).await.containerd;
    let paths: Vec<&str> = facts.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            MAIN_FILE,
            "/etc/containerd/conf.d/10.toml",
            "/etc/containerd/conf.d/20.toml",
            "/opt/last.toml"
        ]
    );
    // The program of this machine says nothing about another root.
    assert_eq!((facts.release, facts.dump.clone()), (None, None));
    assert_eq!(read_mirror_files(&facts).state, ReadingState::AfterRestart);
}

#[tokio::test]
async fn nothing_is_known_without_files_and_with_broken_ones() {
    for (files, reason) in [
        (&[][..], "there is neither `/etc/containerd/config.toml` nor"),
        (&[(MAIN_FILE, "version = [")], "is not TOML"),
        (&[(MAIN_FILE, "imports = ['/gone.toml']")], "`/gone.toml` is missing"),
        (
            &[(MAIN_FILE, "imports = ['/etc/*/a.toml']")],
            "with `*` in the name of a directory",
        ),
    ] {
        let (_host, root) = host_with(files);
        let facts = find_host_facts(&root, Utf8Path::new(MAIN_FILE), None).await.containerd;
        let reading = read_mirror_files(&facts);
        assert_eq!(reading.state, ReadingState::Unknown, "{reason}");
        assert!(reading.message.contains(reason), "{}", reading.message);
    }
}

#[tokio::test]
async fn the_generation_of_k3s_is_that_of_the_file_it_made() {
    let (_host, root) = host_with(&[(
        "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        "# File\nversion = 3\n",
    )]);
    let facts = find_host_facts(&root, Utf8Path::new(MAIN_FILE), None).await;
    assert_eq!((facts.k3s, facts.rke2), (Generation::Two, Generation::Unknown));
}

#[tokio::test]
async fn a_program_that_hangs_or_floods_gives_no_answer() {
    for script in ["yes | head -c 2000000", "exit 3"] {
        assert!(run("sh", &["-c", script], PROGRAM_LIMIT).await.is_err(), "{script}");
    }
    assert!(run("sleep", &["600"], Duration::from_millis(50)).await.is_err());
}

#[test]
fn the_kubelet_s_flags_lead_to_the_plug_in() {
    let flags =
        "kubelet\0--image-credential-provider-config=/etc/p.yaml\0--image-credential-provider-bin-dir=/opt/bin\0";
    let config = "providers:\n- name: landfall-credential-provider\n";
    let complete = [
        ("/proc/7/cmdline", flags),
        ("/proc/8/cmdline", "sleep\x009\0"),
        ("/etc/p.yaml", config),
        ("/opt/bin/landfall-credential-provider", "#!"),
    ];
    for (files, state) in [
        (&complete[..], LoginState::Ready),
        (&complete[..3], LoginState::NotReady),
        (&complete[..2], LoginState::NotReady),
        (&complete[1..], LoginState::Unknown),
    ] {
        let (_host, root) = host_with(files);
        let reading = read_kubelet(&find_kubelet(&root));
        assert_eq!(reading.state, state, "{}", reading.message);
    }
}

#[test]
fn k3s_has_a_kubelet_inside_with_a_default_directory() {
    let config = "providers:\n- name: landfall-credential-provider\n";
    let server = ("/proc/7/cmdline", "/usr/local/bin/k3s server --data-dir /opt/k3s\0");
    let default = [
        server,
        ("/var/lib/rancher/credentialprovider/config.yaml", config),
        (
            "/var/lib/rancher/credentialprovider/bin/landfall-credential-provider",
            "#!",
        ),
    ];
    let named = [
        server,
        (
            "/etc/rancher/k3s/config.yaml.d/90-landfall.yaml",
            "kubelet-arg+:\n  - image-credential-provider-config=/etc/p.yaml\n  - image-credential-provider-bin-dir=/opt/bin\n",
        ),
        ("/etc/p.yaml", config),
        ("/opt/bin/landfall-credential-provider", "#!"),
    ];
    for (files, state) in [
        (&default[..], LoginState::Ready),
        (&named[..], LoginState::Ready),
        (&default[..1], LoginState::NotReady),
    ] {
        let (_host, root) = host_with(files);
        let reading = read_kubelet(&find_kubelet(&root));
        assert_eq!(reading.state, state, "{}", reading.message);
    }
}

#[test]
fn the_kubelet_s_configuration_is_read_in_its_order() {
    let k3s = "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d/00-k3s-defaults.conf";
    let kubelet = "kubelet\0--image-credential-provider-config=/etc/p.yaml\0--config=/var/lib/kubelet/config.yaml\0\
                   --config-dir\0/etc/kubelet.d\0";
    let arguments = "kubelet-arg:\n  - image-credential-provider-config=/etc/p.yaml\n  - \"config=/etc/k.yaml\"\n";
    /// Name, the files of the host, and those that are read.
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let rke2 = "/var/lib/rancher/rke2/agent/etc/kubelet.conf.d/00-rke2-defaults.conf";
    let elsewhere = "/opt/data/agent/etc/kubelet.conf.d/00.conf";
    let moved = "write-kubeconfig-mode: \"0640\"\n# data-dir: /not/this\ndata-dir: \"/opt/data\"\n";
    let cases: [Case<'_>; 8] = [
        ("no kubelet", &[("/var/lib/kubelet/config.yaml", "")], &[]),
        (
            "kubeadm with drop-ins",
            &[
                ("/proc/7/cmdline", kubelet),
                ("/etc/p.yaml", ""),
                ("/var/lib/kubelet/config.yaml", ""),
                ("/etc/kubelet.d/20.conf", ""),
                ("/etc/kubelet.d/10.conf", ""),
                ("/etc/kubelet.d/30.yaml", ""),
            ],
            &[
                "/var/lib/kubelet/config.yaml",
                "/etc/kubelet.d/10.conf",
                "/etc/kubelet.d/20.conf",
            ],
        ),
        (
            "K3s",
            &[("/proc/7/cmdline", "/usr/local/bin/k3s server\0"), (k3s, "")],
            &[k3s],
        ),
        (
            "K3s with a file of its own",
            &[
                ("/proc/7/cmdline", "/usr/local/bin/k3s server\0"),
                ("/etc/rancher/k3s/config.yaml", arguments),
                ("/etc/k.yaml", ""),
                ("/etc/p.yaml", ""),
                (k3s, ""),
            ],
            &["/etc/k.yaml", k3s],
        ),
        (
            "K3s with its data elsewhere",
            &[
                ("/proc/7/cmdline", "/usr/local/bin/k3s server --data-dir /opt/data\0"),
                (k3s, ""),
                (elsewhere, ""),
            ],
            &[elsewhere],
        ),
        (
            "RKE2 before its kubelet runs",
            &[("/proc/7/cmdline", "/usr/local/bin/rke2 server\0"), (rke2, "")],
            &[rke2],
        ),
        (
            "RKE2 with its data elsewhere",
            &[
                ("/proc/7/cmdline", "/usr/local/bin/rke2 agent\0"),
                ("/etc/rancher/rke2/config.yaml", moved),
                (rke2, ""),
                (elsewhere, ""),
            ],
            &[elsewhere],
        ),
        (
            "RKE2 and its kubelet",
            &[
                ("/proc/7/cmdline", "/usr/local/bin/rke2 agent\0"),
                ("/proc/8/cmdline", kubelet),
                ("/etc/p.yaml", ""),
                ("/etc/kubelet.d/20.conf", ""),
                (rke2, ""),
            ],
            &["/etc/kubelet.d/20.conf"],
        ),
    ];
    for (case, files, expected) in cases {
        let (_host, root) = host_with(files);
        let found = find_kubelet_config(&root);
        let paths: Vec<&str> = found.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, expected, "{case}");
    }
}
