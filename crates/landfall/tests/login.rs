//! `landfall login` and `logout`, from the command line to docker's file.

#![expect(clippy::unwrap_used, reason = "test set-up")]
#![expect(clippy::disallowed_methods, reason = "test set-up")]

mod common;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use common::{CANARY, landfall, shown};
use landfall_testkit::fake_registry::{Access, FakeRegistry, FakeRegistryOptions};
use tempfile::TempDir;

struct Home {
    directory: TempDir,
    registry: FakeRegistry,
}

impl Home {
    fn new(file: &str) -> Home {
        let home = Home {
            directory: TempDir::new().unwrap(),
            registry: FakeRegistry::start_with(FakeRegistryOptions {
                access: Access::Bearer {
                    login: Some(("ann".to_owned(), CANARY.to_owned())),
                    realm: String::new(),
                },
                ..FakeRegistryOptions::default()
            }),
        };
        if !file.is_empty() {
            std::fs::create_dir(home.directory.path().join(".docker")).unwrap();
            std::fs::write(home.file(), file).unwrap();
        }
        home
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join(".docker/config.json")
    }

    /// Runs the program with this password on stdin; the output shows names for the registry's address and the home.
    fn run(&self, arguments: &[&str], password: &str) -> String {
        let host = self.registry.host().to_string();
        let mut command = landfall(arguments);
        let helpers = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/helpers:/usr/bin:/bin");
        let mut child = command
            .arg(&host)
            .env("HOME", self.directory.path())
            .env("PATH", helpers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // `logout` does not read stdin.
        let _not_read = child.stdin.take().unwrap().write_all(password.as_bytes());
        let said = shown(&child.wait_with_output().unwrap());
        assert!(!said.contains(CANARY), "{said}");
        self.named(&said)
    }

    fn login(&self, password: &str) -> String {
        self.run(
            &["login", "--insecure", "--username", "ann", "--password-stdin"],
            password,
        )
    }

    fn content(&self) -> String {
        self.named(&std::fs::read_to_string(self.file()).unwrap())
    }

    fn named(&self, text: &str) -> String {
        text.replace(self.registry.host().as_str(), "HOST")
            .replace(self.directory.path().to_str().unwrap(), "HOME")
    }
}

#[test]
fn a_login_is_kept_in_dockers_file_and_taken_out_again() {
    let home = Home::new("");
    insta::assert_snapshot!(home.login(&format!("{CANARY}\n")), @r"
    status 0
    --- stderr
    logged in to `HOST` as `ann`: kept in `HOME/.docker/config.json`
    ");
    insta::assert_snapshot!(home.content(), @r#"
    {
    	"auths": {
    		"HOST": {
    			"auth": "YW5uOmNhbmFyeS03ZjNhOWM="
    		}
    	}
    }
    "#);
    let mode = std::fs::metadata(home.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    insta::assert_snapshot!(home.run(&["logout"], ""), @r"
    status 0
    --- stderr
    logged out of `HOST`: taken out of `HOME/.docker/config.json`
    ");
    insta::assert_snapshot!(home.content(), @r#"
    {
    	"auths": {}
    }
    "#);
    insta::assert_snapshot!(home.run(&["logout"], ""), @r"
    status 0
    --- stderr
    no login for `HOST` in `HOME/.docker/config.json`
    ");
}

#[test]
fn a_wrong_password_is_refused_and_nothing_is_kept() {
    let file = r#"{"detachKeys": "ctrl-e"}"#;
    let home = Home::new(file);
    insta::assert_snapshot!(home.login("hunter2"), @r"
    status 1
    --- stderr
    error: registry `HOST` was reached, and does not let this login in
      because: the login of user `ann` is not accepted: UNAUTHORIZED: wrong login
    ");
    assert_eq!(home.content(), file);
}

#[test]
fn a_registry_that_cannot_be_reached_safely_is_named_with_what_to_do() {
    let home = Home::new("");
    let said = home.run(&["login", "--username", "ann", "--password-stdin"], CANARY);
    insta::assert_snapshot!(said, @r"
    status 2
    --- stderr
    error: cannot reach registry `HOST`
      because: the server speaks plain HTTP, and the registry is not marked `insecure`
      because: received corrupt message of type InvalidContentType
      hint: serve the registry over TLS, or mark it: `insecure: true` in the user-data, `--insecure HOST` on the command line
    ");
    assert!(!home.file().exists());
}

#[test]
fn a_helper_keeps_the_login_and_the_file_only_a_mark() {
    let home = Home::new(r#"{"credsStore": "file"}"#);
    insta::assert_snapshot!(home.login(CANARY), @r"
    status 0
    --- stderr
    logged in to `HOST` as `ann`: kept with `docker-credential-file`
    ");
    let kept = || std::fs::read_to_string(home.directory.path().join("kept"));
    assert_eq!(
        home.named(&kept().unwrap()),
        format!(r#"{{"ServerURL":"HOST","Username":"ann","Secret":"{CANARY}"}}"#)
    );
    insta::assert_snapshot!(home.content(), @r#"
    {
    	"credsStore": "file",
    	"auths": {
    		"HOST": {}
    	}
    }
    "#);
    home.run(&["logout"], "");
    assert!(kept().is_err());
}

#[test]
fn a_link_to_the_file_stays_a_link_whether_its_target_is_there_or_not() {
    for text in [Some("{}"), None] {
        let home = Home::new("");
        let kept = home.directory.path().join("dotfiles/config.json");
        std::fs::create_dir(kept.parent().unwrap()).unwrap();
        std::fs::create_dir(home.file().parent().unwrap()).unwrap();
        text.into_iter().for_each(|text| std::fs::write(&kept, text).unwrap());
        std::os::unix::fs::symlink("../dotfiles/config.json", home.file()).unwrap();
        home.login(CANARY);
        assert!(home.file().is_symlink(), "{text:?}");
        let target = std::fs::read_to_string(&kept).unwrap();
        assert!(target.contains("auths"), "{text:?}: {target}");
    }
}

#[test]
fn a_file_that_is_not_dockers_is_left_alone() {
    let home = Home::new("canary: yes");
    insta::assert_snapshot!(home.login(CANARY), @r"
    status 2
    --- stderr
    error: cannot use `HOME/.docker/config.json`
      because: line 1, column 1: this is not JSON
    ");
    assert_eq!(home.content(), "canary: yes");
}
