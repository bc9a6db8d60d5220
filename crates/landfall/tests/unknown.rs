//! Inputs that cannot be read: no command makes a statement from the other half of the configuration.
#![expect(clippy::unwrap_used, reason = "test set-up")]

mod common;

use std::net::TcpListener;
use std::path::Path;

use common::{run, run_with_stdin, shown};

const USER_DATA: &str = "#cloud-config\nstylus:\n  registryCredentials: {domain: reg.example.com}\nfoo: [\n";

/// Writes inputs: a user-data that cannot be parsed, and a profile with an image of a registry that counts its
/// connections. Returns the arguments that name the files.
fn inputs(directory: &Path, registry: &TcpListener) -> [String; 4] {
    let image = format!("127.0.0.1:{}/app:1", registry.local_addr().unwrap().port());
    let profile = format!(
        "spec: {{packs: [{{name: app, values: 'pack: {{content: {{images: [{{image: \"{image}\"}}]}}}}'}}]}}\n"
    );
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        fs_err::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    [
        "--user-data".to_owned(),
        write("user-data.yaml", USER_DATA),
        "--profile".to_owned(),
        write("profile.yaml", &profile),
    ]
}

fn registry() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

#[test]
fn commands_that_act_stop_with_2_and_ask_no_registry() {
    let (directory, registry) = (tempfile::tempdir().unwrap(), registry());
    let files = inputs(directory.path(), &registry);
    let host = directory.path().join("host");
    for command in [
        vec!["check"],
        vec!["push"],
        vec!["push", "--dry-run"],
        vec!["redirect", "render", "--for", "k3s"],
        vec!["redirect", "apply", "--for", "k3s", "--root", host.to_str().unwrap()],
        vec!["stages", "run", "boot", "--root", host.to_str().unwrap()],
    ] {
        let arguments: Vec<&str> = command
            .iter()
            .copied()
            .chain(files.iter().map(String::as_str))
            .collect();
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", shown(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{command:?}");
        let problem = String::from_utf8_lossy(&output.stderr);
        assert!(
            problem.contains("error: nothing was done, because a part of the configuration is not known: `"),
            "{command:?}: {problem}"
        );
    }
    let accepted = registry.accept();
    assert!(accepted.is_err(), "a registry was asked");
    assert!(!host.exists());
}

#[test]
fn commands_that_show_name_what_they_do_not_know() {
    let (directory, registry) = (tempfile::tempdir().unwrap(), registry());
    let files = inputs(directory.path(), &registry);
    let show = |command: &[&str]| {
        let arguments: Vec<&str> = command
            .iter()
            .copied()
            .chain(files.iter().map(String::as_str))
            .collect();
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", shown(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = text.replace(directory.path().to_str().unwrap(), "DIR");
        text.replace(&registry.local_addr().unwrap().port().to_string(), "PORT")
    };
    let plan: serde_json::Value = serde_json::from_str(&show(&["plan", "-o", "json"])).unwrap();
    let unknown = "`DIR/user-data.yaml` cannot be read: cannot parse YAML: unclosed bracket '[' (line 4)";
    assert_eq!(plan["sourcesUnknown"], unknown);
    assert_eq!(plan["imagesIncomplete"], serde_json::Value::Null);
    assert_eq!(plan["redirection"], serde_json::Value::Null);
    let row = &plan["images"][0];
    assert_eq!(row["canonical"], "127.0.0.1:PORT/app:1");
    for key in ["pull", "primary", "runtime"] {
        assert_eq!(row[key], serde_json::Value::Null, "{key}");
    }
    let explained: serde_json::Value =
        serde_json::from_str(&show(&["explain", "nginx", "-n", "web", "-o", "json"])).unwrap();
    assert_eq!(explained["sourcesUnknown"], unknown);
    assert_eq!(explained["namespace"]["unknown"], unknown);
    for key in ["candidates", "runtime", "runtimeBeforePrimary"] {
        assert_eq!(explained[key], serde_json::Value::Null, "{key}");
    }
    insta::assert_snapshot!(show(&["plan"]), @r"
    #  ROLE  IMAGE                  PULLED FROM  WHY  BECOMES
    1  app   127.0.0.1:PORT/app:1  ?            ?    ?

    ? not known where images come from: `DIR/user-data.yaml` cannot be read: cannot parse YAML: unclosed bracket '[' (line 4)
    1 image: 0 provider, 0 infrastructure, 1 application
    ");
    insta::assert_snapshot!(show(&["explain", "nginx:1.27", "-n", "web"]), @r"
    docker.io/library/nginx:1.27
      named: in no profile: treated as an application image
      namespace: not known: `DIR/user-data.yaml` cannot be read: cannot parse YAML: unclosed bracket '[' (line 4)

    candidates, in order
      not known: `DIR/user-data.yaml` cannot be read: cannot parse YAML: unclosed bracket '[' (line 4)
    ");
}

#[test]
fn a_profile_of_several_that_cannot_be_read_leaves_the_list_incomplete() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken.yaml");
    fs_err::write(&broken, "spec: [\n").unwrap();
    let profiles = [
        "--profile",
        "examples/profile-edge.yaml",
        "--profile",
        broken.to_str().unwrap(),
    ];
    let output = run(&[&["images", "-o", "json"][..], &profiles].concat());
    assert_eq!(output.status.code(), Some(1));
    let images: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        images["imagesIncomplete"]
            .as_str()
            .unwrap()
            .contains("broken.yaml` cannot be read"),
        "{images}"
    );
    assert_eq!(images["images"].as_array().map(Vec::len), Some(8));
    assert_eq!(images["profiles"][0]["version"], "1.0.0");
    let output = run(&[&["check"][..], &profiles].concat());
    assert_eq!(output.status.code(), Some(2), "{}", shown(&output));
}

#[test]
fn an_input_that_is_no_text_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    let path = path.to_str().unwrap();
    for (bytes, cause, hint) in [
        (&b"\xFF\xFE#\0"[..], "it is UTF-16", "save the file as UTF-8"),
        (
            b"#cloud-config\na: \xE4\n",
            "the byte 0xE4 in line 2, column 4",
            "iconv -f latin1",
        ),
    ] {
        fs_err::write(path, bytes).unwrap();
        let output = run(&["validate", "--user-data", path]);
        let problem = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{problem}");
        assert!(problem.contains(cause) && problem.contains(hint), "{problem}");
    }
    let output = run(&["validate", "--user-data", directory.path().to_str().unwrap()]);
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("because: it is a directory"),
        "{}",
        shown(&output)
    );
    // The file never ends.
    let output = run(&["validate", "--user-data", "/dev/zero"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("it has more than 16777216 bytes"),
        "{}",
        shown(&output)
    );
    let output = run_with_stdin(&["validate", "--user-data", "-"], "#cloud-config\na: \0\n");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("a zero byte in line 2"),
        "{}",
        shown(&output)
    );
}
