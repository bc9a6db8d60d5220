//! `landfall validate` on a host: does its containerd read the mirror files that the user-data asks for?
//!
//! `data/containerd/RELEASE.toml` is the output of `containerd config default` of 1.6.20, 1.7.27, 2.0.5 and 2.4.2.

#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "test set-up")]

mod common;

use common::{run, shown};
use landfall_testkit::host_fixture::HostFixture;
use serde_json::Value;

const MAIN_FILE: &str = "/etc/containerd/config.toml";
const DROP_IN: &str = "/etc/containerd/conf.d/10-site.toml";
const IMPORTS: &str = "imports = [\"/etc/containerd/conf.d/*.toml\"]";
const ON: &str = "landfall:\n  mirror:\n    files: [containerd]\n";
/// A drop-in with a CRI section, in the format of containerd 1.x.
const SECTION: &str =
    "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  sandbox_image = \"registry.example/pause:3\"\n";
const PATH: &str =
    "version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";

/// Returns the main file that this release of containerd writes.
fn shipped(release: &str) -> String {
    let directory = format!("{}/tests/data/containerd", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(format!("{directory}/{release}.toml")).unwrap()
}

fn following(release: &str) -> String {
    let text = shipped(release);
    assert!(text.contains("imports = []"), "{release}");
    text.replace("imports = []", IMPORTS)
}

fn with_path(release: &str) -> String {
    let text = shipped(release);
    let (empty, set) = (
        "      config_path = ",
        "      config_path = '/etc/containerd/certs.d'\n#",
    );
    assert_eq!(text.matches(empty).count(), 1, "{release}");
    text.replace(empty, set)
}

fn with_mirrors(release: &str) -> String {
    shipped(release)
        + "\n[plugins.'io.containerd.cri.v1.images'.registry.mirrors.'docker.io']\nendpoint = ['https://old']\n"
}

/// Runs `validate` for a user-data with this `landfall` section.
fn validate(own: &str, more: &[&str]) -> String {
    let directory = tempfile::tempdir().unwrap();
    let user_data = directory.path().join("user-data");
    let text = format!("#cloud-config\nstylus:\n  registryCredentials: {{domain: 'reg.example.com:5000/edge'}}\n{own}");
    std::fs::write(&user_data, text).unwrap();
    let user_data = user_data.to_str().unwrap();
    let text = shown(&run(&[&["validate", "--user-data", user_data], more].concat()));
    text.replace(directory.path().to_str().unwrap(), "DIR")
}

/// Returns the report of `validate` about a host, whose exit status is 0.
fn report(own: &str, root: &str, release: &str) -> Value {
    let text = validate(own, &["--root", root, "--containerd-version", release, "-o", "json"]);
    let document = text
        .strip_prefix("status 0\n--- stdout\n")
        .unwrap_or_else(|| panic!("{text}"));
    serde_json::from_str(document).unwrap()
}

#[test]
fn every_release_and_configuration_has_its_verdict() {
    for (name, release, main, drop_in, state, message) in [
        ("1.6", "1.6", Some(shipped("1.6")), None, "notRead", "containerd 1.x"),
        (
            "1.6, imports",
            "1.6",
            Some(following("1.6")),
            None,
            "notRead",
            "containerd 1.x",
        ),
        (
            "1.6, path",
            "1.6",
            Some(with_path("1.6")),
            None,
            "read",
            "`config_path` names it",
        ),
        ("1.7", "1.7", Some(shipped("1.7")), None, "notRead", "containerd 1.x"),
        (
            "1.7, imports",
            "1.7",
            Some(following("1.7")),
            None,
            "notRead",
            "containerd 1.x",
        ),
        (
            "1.7, path",
            "1.7",
            Some(with_path("1.7")),
            None,
            "read",
            "`config_path` names it",
        ),
        (
            "1.7, path, and a drop-in that replaces its section",
            "1.7",
            Some(with_path("1.7").replace("imports = []", IMPORTS)),
            Some(SECTION),
            "notRead",
            "no `config_path`",
        ),
        ("2.0", "2.0", Some(shipped("2.0")), None, "notRead", "no `imports`"),
        (
            "2.0, imports",
            "2.0",
            Some(following("2.0")),
            None,
            "afterRestart",
            "once it was restarted",
        ),
        (
            "2.0, a drop-in with the path",
            "2.0",
            Some(following("2.0")),
            Some(PATH),
            "read",
            "`config_path` names it",
        ),
        (
            "2.0, inline mirrors",
            "2.0",
            Some(with_mirrors("2.0")),
            None,
            "notRead",
            "does not load",
        ),
        (
            "2.4",
            "2.4",
            Some(shipped("2.4")),
            None,
            "afterRestart",
            "once it was restarted",
        ),
        (
            "2.4, path",
            "2.4",
            Some(with_path("2.4")),
            None,
            "read",
            "`config_path` names it",
        ),
        (
            "2.4, inline mirrors",
            "2.4",
            Some(with_mirrors("2.4")),
            None,
            "notRead",
            "does not load",
        ),
        ("2.4, bare", "2.4", None, None, "notRead", "no `imports`"),
        (
            "not TOML",
            "2.4",
            Some("version = [".to_owned()),
            None,
            "unknown",
            "is not TOML at line 1",
        ),
        (
            "an import that is missing",
            "2.0",
            Some(shipped("2.0").replace("imports = []", "imports = ['/etc/gone.toml']")),
            None,
            "unknown",
            "the imported `/etc/gone.toml` is missing",
        ),
    ] {
        let host = HostFixture::mk();
        for (path, text) in [(MAIN_FILE, main.as_deref()), (DROP_IN, drop_in)] {
            if let Some(text) = text {
                host.put(path, 0o644, text);
            }
        }
        let report = report(ON, host.root().as_str(), release);
        let shown = |at: &str| {
            report
                .pointer(at)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(shown("/mirrorFiles/state"), state, "{name}: {report}");
        assert!(shown("/mirrorFiles/message").contains(message), "{name}: {report}");
        let severity = match state {
            "read" | "afterRestart" => "note",
            _ => "warning",
        };
        assert_eq!(
            (shown("/diagnostics/0/code"), shown("/diagnostics/0/severity")),
            ("LF0505".to_owned(), severity.to_owned()),
            "{name}: {report}"
        );
        let of_reading = shown("/mirrorFiles/message");
        assert_eq!(
            shown("/diagnostics/0/message"),
            of_reading,
            "{name}: the finding says the same"
        );

        let off = self::report("", host.root().as_str(), release);
        assert!(off["mirrorFiles"].is_null(), "{name}: no files are asked for: {off}");
        assert_eq!(off["diagnostics"], Value::Array(Vec::new()), "{name}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_unknown_and_never_none() {
    let host = HostFixture::mk();
    std::fs::create_dir_all(host.path(MAIN_FILE)).unwrap();
    insta::assert_snapshot!(validate(ON, &["--root", host.root().as_str(), "--containerd-version", "2.0"])
        .replace(host.root().as_str(), "ROOT"), @r"
    status 0
    --- stdout
    warning[LF0505]: it is not known if containerd reads `/etc/containerd/certs.d`: cannot read `/etc/containerd/config.toml`: cannot reach `/etc/containerd/config.toml` at `/etc/containerd/config.toml`: Is a directory (os error 21)
     --> DIR/user-data:6:12
      |
    6 |     files: [containerd]
      |            ^^^^^^^^^^^^
      |
      = hint: `landfall redirect apply --for containerd --dry-run` prints the lines for containerd's main file

    0 errors, 1 warning
    ");
    let empty = HostFixture::mk();
    insta::assert_snapshot!(validate(ON, &["--root", empty.root().as_str()]), @r"
    status 0
    --- stdout
    warning[LF0505]: it is not known if containerd reads `/etc/containerd/certs.d`: there is neither `/etc/containerd/config.toml` nor a program `containerd`
     --> DIR/user-data:6:12
      |
    6 |     files: [containerd]
      |            ^^^^^^^^^^^^
      |
      = hint: `landfall redirect apply --for containerd --dry-run` prints the lines for containerd's main file

    0 errors, 1 warning
    ");
}

/// Without `--root`, only the agent's state directory shows that this machine is the host.
#[test]
fn a_desk_gets_a_note_and_a_host_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let main_file = directory.path().join("config.toml");
    std::fs::write(&main_file, "version = 2\ndisabled_plugins = [\"cri\"]\n").unwrap();
    let own = |state_dir: &str| {
        let (state_dir, main_file) = (directory.path().join(state_dir), main_file.display());
        format!(
            "{ON}  containerd: {{config: {main_file}}}\n  stateDir: {}\n",
            state_dir.display()
        )
    };
    let replaced = |text: String| text.replace(directory.path().to_str().unwrap(), "HOST");
    insta::assert_snapshot!(replaced(validate(&own("no-state"), &[])), @r"
    status 0
    --- stdout
    note[LF0505]: on this machine: the CRI plug-in is in `disabled_plugins` of `HOST/config.toml`: no kubelet pulls by this containerd
     --> DIR/user-data:6:12
      |
    6 |     files: [containerd]
      |            ^^^^^^^^^^^^
      |
      = hint: if another machine is the host, validate there, or name the root of its file system by `--root`

    no errors, 1 note
    ");
    insta::assert_snapshot!(replaced(validate(&own(""), &[])), @r"
    status 0
    --- stdout
    warning[LF0505]: the CRI plug-in is in `disabled_plugins` of `HOST/config.toml`: no kubelet pulls by this containerd
     --> DIR/user-data:6:12
      |
    6 |     files: [containerd]
      |            ^^^^^^^^^^^^

    0 errors, 1 warning
    ");
}
