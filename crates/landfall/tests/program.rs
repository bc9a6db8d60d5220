//! Rules that hold for every command: exit status, streams, secrecy.

#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::process::Stdio;

use common::{CANARY, landfall, run, show, shown};

#[test]
fn usage_errors_and_unreadable_files_end_with_2() {
    for arguments in [
        &["nonsense"][..],
        &["plan"],
        &["validate", "--user-data", "/nowhere/user-data.yaml"],
        &["explain"],
        &["profile", "fix", "/nowhere/profile.yaml"],
        &["plan", "--profile", "examples/profile-edge.yaml", "--set", "nonsense"],
        &["plan", "--user-data", "-", "--profile", "-"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", shown(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: data on stdout");
    }
}

#[test]
fn an_unreadable_file_is_named_with_the_cause() {
    insta::assert_snapshot!(show(&["validate", "--user-data", "/nowhere/user-data.yaml"]), @r"
    status 2
    --- stderr
    error: cannot read the input `/nowhere/user-data.yaml`
      because: No such file or directory (os error 2)
      hint: correct the path
    ");
}

#[test]
fn help_and_version_are_data_and_end_with_0() {
    for arguments in [&["--help"][..], &["--version"], &["help", "plan"], &["plan", "--help"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in [
        &["schema", "user-data"][..],
        &["images", "--profile", "examples/profile-edge.yaml"],
        &["--help"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        // The reader closes before the program starts: its first write meets a broken pipe.
        drop(reader);
        let status = landfall(arguments)
            .stdout(writer)
            .stderr(Stdio::null())
            .status()
            .expect("the program starts");
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn no_command_shows_a_password() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let user_data = directory.path().join("user-data.yaml");
    let broken = directory.path().join("broken.yaml");
    let values = directory.path().join("values.yaml");
    let good = format!(
        "#cloud-config\nstylus:\n  registryCredentials:\n    domain: reg:5000\n    username: edge\n    password: {CANARY}\n  \
         site:\n    network:\n      httpsProxy: http://user:{CANARY}@proxy:3128\n"
    );
    std::fs::write(&user_data, &good).expect("the user-data");
    let slip = format!(
        "{good}  externalRegistries:\n    registries:\n      - domain: a\n        password: {CANARY}\n        pasword: {CANARY}\n"
    );
    std::fs::write(&broken, slip).expect("the broken user-data");
    std::fs::write(
        &values,
        format!("macro:\n  provider-password: {CANARY}\nvar:\n  registryPassword: {CANARY}\n"),
    )
    .expect("the values");
    let (values, profile) = (values.display().to_string(), "examples/profile-edge.yaml");
    for file in [&user_data, &broken] {
        let file = file.display().to_string();
        let inputs = ["--user-data", &file, "--profile", profile, "--values", &values];
        for format in ["table", "json", "yaml"] {
            for command in [
                &["validate"][..],
                &["plan"],
                &["images"],
                &["explain", "nginx"],
                &["explain", "example.io/a:1"],
            ] {
                let output = run(&[command, &inputs, &["-o", format, "--verbose"]].concat());
                let text = shown(&output);
                assert!(text.len() > 20, "{command:?} said nothing");
                assert!(!text.contains(CANARY), "{command:?} -o {format}:\n{text}");
            }
        }
    }
    let refused = run(&["plan", "--profile", profile, "--set", &format!("nonsense={CANARY}")]);
    assert!(!shown(&refused).contains(CANARY), "{}", shown(&refused));
}

#[test]
fn status_without_an_agent_is_a_no() {
    insta::assert_snapshot!(show(&["status", "--state-dir", "/nowhere"]), @r"
    status 1
    --- stderr
    no agent ever ran with the state directory `/nowhere`
    ");
}

#[test]
fn events_without_an_agent_are_a_no() {
    insta::assert_snapshot!(show(&["events", "--state-dir", "/nowhere", "-o", "json"]), @r"
    status 1
    --- stderr
    no agent ever ran with the state directory `/nowhere`
    ");
}

#[test]
fn colours_can_be_forced_and_forbidden_in_a_pipe() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("user-data.yaml");
    std::fs::write(&file, "#cloud-config\nlandfall: {concurrency: 0}\n").expect("the user-data");
    let file = file.to_str().expect("a UTF-8 path");
    for (arguments, variable, expected) in [
        (&[][..], ("TERM", "xterm"), false),
        (&[], ("FORCE_COLOR", "1"), true),
        (&["--color", "always"], ("NO_COLOR", "1"), true),
        (&["--color", "never"], ("CLICOLOR_FORCE", "1"), false),
    ] {
        let arguments = [&["validate", "--user-data", file], arguments].concat();
        let output = landfall(&arguments)
            .env(variable.0, variable.1)
            .output()
            .expect("the program starts");
        let text = shown(&output);
        assert_eq!(text.contains('\u{1b}'), expected, "{arguments:?} {variable:?}:\n{text}");
    }
}

#[test]
fn commands_about_images_say_that_a_profile_is_lacking() {
    for command in ["plan", "images", "check", "push"] {
        let output = run(&[command, "--user-data", "examples/user-data-single.yaml"]);
        let note = "no profile is named, and so no image is known: name one with `--profile`\n";
        let messages = String::from_utf8_lossy(&output.stderr);
        assert!(messages.contains(note), "{command}: {messages}");
    }
}
