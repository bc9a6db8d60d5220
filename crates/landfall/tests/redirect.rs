//! `landfall redirect render|apply|remove`, for each format: the output, the files beside the user's own, and the host
//! after removal.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{CANARY, run, shown};
use landfall_testkit::host_fixture::HostFixture;

const FORMATS: [&str; 4] = ["containerd", "k3s", "rke2", "kubelet"];

/// Makes a host with files of the user's own in every directory that Landfall writes to.
fn mk_host() -> HostFixture {
    let host = HostFixture::mk();
    for path in [
        "/etc/containerd/config.toml",
        "/etc/containerd/conf.d/10-mine.toml",
        "/etc/containerd/certs.d/mine.example.com/hosts.toml",
        "/etc/rancher/k3s/config.yaml",
        "/etc/rancher/rke2/config.yaml",
        "/etc/kubernetes/registries/mine.example.com.json",
    ] {
        host.put(path, 0o640, "the user's\n");
    }
    host
}

fn user_data() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("user-data");
    let text = format!(
        "#cloud-config
stylus:
  imageRedirectWebhook: {{enable: false}}
  registryCredentials: {{domain: 'reg.example.com:5000/edge', username: edge, password: {CANARY}}}
landfall:
  mirror: {{hosts: [quay.io]}}
"
    );
    std::fs::write(&path, text).unwrap();
    (directory, path.into_os_string().into_string().unwrap())
}

fn redirect(command: &str, format: &str, more: &[&str]) -> String {
    shown(&run(&[&["redirect", command, "--for", format], more].concat()))
}

fn listing(host: &HostFixture) -> Vec<String> {
    host.files().iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_written_and_removed_leaves_the_users_files_as_they_were() {
    let (_directory, user_data) = user_data();
    for format in FORMATS {
        let host = mk_host();
        let before = listing(&host);
        let root = ["--root", host.root().as_str()];
        let inputs = ["--user-data", user_data.as_str()];
        let apply = |more: &[&str]| redirect("apply", format, &[&root, &inputs, more].concat());

        let foreseen = apply(&["--dry-run"]);
        assert_eq!(listing(&host), before, "{format}: a dry run writes nothing");
        let written = apply(&[]);
        let lines = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with("write "));
            lines.map(ToOwned::to_owned).collect()
        };
        assert!(!lines(&written).is_empty(), "{format}: {written}");
        assert_eq!(lines(&written), lines(&foreseen), "{format}");
        for line in lines(&written) {
            let file = host.file(line.trim_start_matches("write "));
            let content = file.content.unwrap();
            assert!(
                content.contains("landfall"),
                "{format}: {line} has the mark:\n{content}"
            );
            assert!(!content.contains(CANARY) || file.mode & 0o077 == 0, "{format}: {line}");
        }
        assert_eq!(
            lines(&apply(&[])),
            Vec::<String>::new(),
            "{format}: the second time changes nothing"
        );
        let users: Vec<String> = listing(&host)
            .into_iter()
            .filter(|line| line.contains("the user's"))
            .collect();
        assert_eq!(users.len(), 6, "{format}: the user's files stay as they are");

        redirect("remove", format, &root);
        let state = format!("{}/var/", host.root());
        std::fs::remove_dir_all(state).unwrap();
        assert_eq!(listing(&host), before, "{format}: the host is as it was");
        assert!(!(foreseen + &written).contains(CANARY), "{format}");
    }
}

#[test]
fn render_shows_the_files_without_passwords_and_what_they_cannot_say() {
    let (_directory, user_data) = user_data();
    insta::assert_snapshot!(redirect("render", "k3s", &["--user-data", &user_data]), @r#"
    status 0
    --- stdout
    # ==> /etc/rancher/k3s/registries.yaml (mode 0600)
    # managed by landfall: changes are overwritten; to keep your own version, remove this line
    mirrors:
      "docker.io":
        endpoint:
          - "https://reg.example.com:5000"
        rewrite:
          "^(.*)$": "edge/docker.io/$1"
      "index.docker.io":
        endpoint:
          - "https://reg.example.com:5000"
        rewrite:
          "^(.*)$": "edge/docker.io/$1"
      "registry-1.docker.io":
        endpoint:
          - "https://reg.example.com:5000"
        rewrite:
          "^(.*)$": "edge/docker.io/$1"
      "quay.io":
        endpoint:
          - "https://reg.example.com:5000"
        rewrite:
          "^(.*)$": "edge/quay.io/$1"
    configs:
      "reg.example.com:5000":
        auth:
          username: "edge"
          password: "****"

    # ==> for /etc/rancher/k3s/config.yaml.d/90-landfall.yaml, where the registries themselves must not be asked
    disable-default-registry-endpoint: true
    --- stderr
    not expressed by these files: images of registries that neither the profiles nor the rules name are pulled as they are written; hint: `landfall.mirror.hosts` names more, `landfall.mirror.enable` covers all
    not expressed by these files: k3s asks the registry itself where no mirror has an image; hint: `disable-default-registry-endpoint: true` in its configuration forbids that
    not expressed by these files: `system-default-registry` takes a registry without a path, and the core images are below `reg.example.com:5000/edge/docker.io`: leave it out, the mirror of `docker.io` serves them
    not expressed by these files: k3s reads `registries.yaml` when it starts: restart it after a change
    "#);
    insta::assert_snapshot!(redirect("render", "kubeadm", &["--user-data", &user_data]), @r"
    status 0
    --- stdout
    # ==> for kubeadm (in the profile: `cluster.config` of the Kubernetes pack)
    kind: ClusterConfiguration
    imageRepository: reg.example.com:5000/edge/registry.k8s.io
    dns:
      imageRepository: reg.example.com:5000/edge/registry.k8s.io/coredns

    # ==> for kubeadm, apiVersion kubeadm.k8s.io/v1beta3 (in the profile: `cluster.config` of the Kubernetes pack)
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        image-credential-provider-config: /etc/kubernetes/landfall-credential-provider.yaml
        image-credential-provider-bin-dir: /usr/libexec/landfall
    ---
    kind: JoinConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        image-credential-provider-config: /etc/kubernetes/landfall-credential-provider.yaml
        image-credential-provider-bin-dir: /usr/libexec/landfall

    # ==> for kubeadm, apiVersion kubeadm.k8s.io/v1beta4 (in the profile: `cluster.config` of the Kubernetes pack)
    kind: InitConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        - name: image-credential-provider-config
          value: /etc/kubernetes/landfall-credential-provider.yaml
        - name: image-credential-provider-bin-dir
          value: /usr/libexec/landfall
    ---
    kind: JoinConfiguration
    nodeRegistration:
      kubeletExtraArgs:
        - name: image-credential-provider-config
          value: /etc/kubernetes/landfall-credential-provider.yaml
        - name: image-credential-provider-bin-dir
          value: /usr/libexec/landfall
    --- stderr
    not expressed by these files: the pause image is not kubeadm's: containerd's `sandbox_image` names it, and the provider image brings it
    ");
    for format in FORMATS {
        let inputs = ["--user-data", user_data.as_str()];
        assert!(!redirect("render", format, &inputs).contains(CANARY), "{format}");
        let shown = redirect("render", format, &[&inputs[..], &["--show-secrets"]].concat());
        // A header holds the login in base64.
        assert!(shown.contains(CANARY) || shown.contains("Basic "), "{format}: {shown}");
    }
}

#[test]
fn a_file_of_the_users_in_the_place_of_ours_is_kept_and_the_answer_is_no() {
    let (_directory, user_data) = user_data();
    let host = HostFixture::mk();
    host.put("/etc/rancher/rke2/registries.yaml", 0o644, "mirrors: {}\n");
    let before = listing(&host);
    let arguments = ["--root", host.root().as_str(), "--user-data", &user_data];
    let kept = redirect("apply", "rke2", &arguments);
    let (answer, _) = kept.split_once("not expressed by these files").unwrap();
    insta::assert_snapshot!(answer, @r"
    status 1
    --- stdout
    keep /etc/rancher/rke2/registries.yaml
    --- stderr
    ");
    assert_eq!(listing(&host), before);
}

#[test]
fn what_has_no_file_of_its_own_is_said_with_what_to_do() {
    let (_directory, user_data) = user_data();
    let host = HostFixture::mk();
    let arguments = ["--root", host.root().as_str(), "--user-data", &user_data];
    insta::assert_snapshot!(redirect("apply", "kubeadm", &arguments), @r"
    status 2
    --- stderr
    error: there is no file of its own for kubeadm
      hint: `landfall redirect render --for kubeadm` shows what belongs into the cluster's configuration
    ");
}

/// Without an image and a rule there is no mirror file yet, and the host's main file is looked at all the same.
#[test]
fn lines_for_the_main_file_are_printed_where_a_drop_in_would_do_harm() {
    let directory = tempfile::tempdir().unwrap();
    let user_data = directory.path().join("user-data");
    let text = "#cloud-config\nstylus:\n  registryCredentials: {domain: 'reg.example.com:5000/edge'}\n";
    std::fs::write(&user_data, text).unwrap();
    let host = HostFixture::mk();
    let main = "version = 2\nimports = [\"/etc/containerd/conf.d/*.toml\"]\n";
    host.put("/etc/containerd/config.toml", 0o644, main);
    let apply = |release: &str| {
        let more = ["--containerd-version", release, "--root", host.root().as_str()];
        redirect(
            "apply",
            "containerd",
            &[&more[..], &["--user-data", user_data.to_str().unwrap()]].concat(),
        )
    };
    let on_first = apply("1.7.27");
    assert!(
        on_first.starts_with("status 0") && on_first.contains("config_path = "),
        "{on_first}"
    );
    assert!(
        !host.path("/etc/containerd/conf.d/50-landfall.toml").exists(),
        "{on_first}"
    );
    let on_second = apply("2.0");
    assert!(
        on_second.contains("write /etc/containerd/conf.d/50-landfall.toml"),
        "{on_second}"
    );
    let again = apply("1.7");
    assert!(
        again.contains("remove /etc/containerd/conf.d/50-landfall.toml"),
        "{again}"
    );
}
