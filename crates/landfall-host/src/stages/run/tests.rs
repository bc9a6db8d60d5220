use std::fmt::Write as _;
use std::time::Duration;

use landfall_core::diagnostic::Location;
use landfall_core::stage::{Environment, SecretBytes, StageDirectory, StageFile, StageUser, Systemctl};
use landfall_testkit::host_fixture::HostFixture;

use super::*;

fn step(name: &str) -> StageStep {
    StageStep {
        name: name.to_owned(),
        condition: None,
        files: Vec::new(),
        directories: Vec::new(),
        commands: Vec::new(),
        users: Vec::new(),
        systemctl: Systemctl::default(),
        environment: None,
        location: Location {
            file: "user-data.yaml".into(),
            line: 1,
            column: 1,
            key: "stages.boot[0]".into(),
        },
    }
}

fn file(path: &str, content: &str) -> StageFile {
    let content = SecretBytes(content.as_bytes().to_vec());
    let (owner, group) = own_numbers();
    StageFile {
        path: path.to_owned(),
        mode: 0o640,
        owner,
        group,
        owner_name: None,
        content,
    }
}

fn own_numbers() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

fn commands(scripts: &[&str]) -> Vec<String> {
    scripts.iter().map(|script| (*script).to_owned()).collect()
}

/// Makes options that run commands, with the fixture as working directory.
fn for_real() -> StageOptions {
    StageOptions {
        commands_outside_root: true,
        ..StageOptions::default()
    }
}

async fn run(host: &HostFixture, steps: &[StageStep], options: &StageOptions) -> String {
    let report = run_stage(steps, &HostRoot::new(host.root()), options).await;
    let mut text = String::new();
    for step in &report.steps {
        writeln!(text, "{}: if {:?}", step.name, step.condition).unwrap();
        for Effect { action, outcome } in &step.effects {
            match outcome {
                EffectOutcome::Failed(error) => writeln!(text, "  {action}: {error}").unwrap(),
                // The content of the diff has tests of its own.
                EffectOutcome::WouldDo { .. } => writeln!(text, "  {action}: WouldDo").unwrap(),
                other => writeln!(text, "  {action}: {other:?}").unwrap(),
            }
        }
    }
    write!(
        text,
        "failed: {}",
        report
            .failed_steps()
            .map(|step| step.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    )
    .unwrap();
    text
}

#[tokio::test]
async fn directories_come_before_files_and_files_before_commands() {
    let host = HostFixture::mk();
    let (owner, group) = own_numbers();
    let mut wanted = step("all");
    wanted.commands = commands(&["cat etc/app/conf", "stat -c %a etc/app"]);
    wanted.files = vec![file("/etc/app/conf", "key=value\n")];
    wanted.directories = vec![StageDirectory {
        path: "/etc/app".to_owned(),
        mode: 0o700,
        owner,
        group,
    }];
    insta::assert_snapshot!(run(&host, &[wanted.clone()], &for_real()).await, @r#"
    all: if None
      directory `/etc/app`: Ensured(Created)
      file `/etc/app/conf`: Ensured(Created)
      command 1: Ran { output: "key=value\n" }
      command 2: Ran { output: "700\n" }
    failed: 
    "#);
    wanted.commands.clear();
    insta::assert_snapshot!(run(&host, &[wanted], &for_real()).await, @r"
    all: if None
      directory `/etc/app`: Ensured(Unchanged)
      file `/etc/app/conf`: Ensured(Unchanged)
    failed: 
    ");
}

#[tokio::test]
async fn a_failing_step_is_recorded_and_the_others_still_run() {
    let host = HostFixture::mk();
    host.put("/busy/file", 0o644, "");
    let mut broken = step("broken");
    broken.files = vec![file("/busy", "a directory is there"), file("/after", "written")];
    broken.commands = commands(&["exit 3", "echo still here"]);
    let mut named = step("named");
    named.files = vec![StageFile {
        owner_name: Some("ghost".to_owned()),
        ..file("/ghost", "")
    }];
    let mut escaping = step("escaping");
    escaping.files = vec![file("/etc/../../escape", "")];
    let mut last = step("last");
    last.commands = commands(&["echo done"]);
    insta::assert_snapshot!(run(&host, &[broken, named, escaping, last], &for_real()).await, @r#"
    broken: if None
      file `/busy`: cannot write `/busy`: it is there and is no regular file
      file `/after`: Ensured(Created)
      command 1: the command ended with exit status: 3
      command 2: Ran { output: "still here\n" }
    named: if None
      file `/ghost`: cannot find user `ghost` in `/etc/passwd`
    escaping: if None
      file `/etc/../../escape`: cannot write `/etc/../../escape`
    last: if None
      command 1: Ran { output: "done\n" }
    failed: broken, named, escaping
    "#);
}

#[tokio::test]
async fn a_step_runs_only_if_its_condition_exits_0() {
    let host = HostFixture::mk();
    host.put("/marker", 0o644, "");
    let mut wanted = step("when there");
    wanted.condition = Some("[ -f marker ]".to_owned());
    wanted.files = vec![file("/written", "")];
    let mut unwanted = step("when missing");
    unwanted.condition = Some("[ -f missing ]".to_owned());
    unwanted.files = vec![file("/unwritten", "")];
    insta::assert_snapshot!(run(&host, &[wanted, unwanted], &for_real()).await, @r"
    when there: if Some(True)
      file `/written`: Ensured(Created)
    when missing: if Some(False)
    failed: 
    ");
}

#[tokio::test]
async fn a_condition_that_hangs_is_a_failure() {
    let host = HostFixture::mk();
    let mut hanging = step("hanging");
    hanging.condition = Some("sleep 600".to_owned());
    hanging.commands = commands(&["echo never"]);
    let options = StageOptions {
        command_limit: Duration::from_millis(50),
        ..for_real()
    };
    let report = run_stage(&[hanging], &HostRoot::new(host.root()), &options).await;
    assert!(matches!(
        report.steps[0].condition,
        Some(ConditionOutcome::Failed(StageError::Timeout { .. }))
    ));
    assert_eq!(report.failed_steps().count(), 1);
    assert!(report.steps[0].effects.is_empty());
}

#[tokio::test]
async fn below_another_root_commands_and_conditions_do_not_run() {
    let host = HostFixture::mk();
    let mut plain = step("plain");
    plain.files = vec![file("/written", "")];
    plain.commands = commands(&["touch touched"]);
    let mut conditional = step("conditional");
    conditional.condition = Some("true".to_owned());
    conditional.files = vec![file("/unwritten", "")];
    insta::assert_snapshot!(run(&host, &[plain, conditional], &StageOptions::default()).await, @r"
    plain: if None
      file `/written`: Ensured(Created)
      command 1: NotRun
    conditional: if Some(NotAsked)
    failed: 
    ");
    assert_eq!(host.files().len(), 1);
}

#[tokio::test]
async fn a_dry_run_changes_nothing_and_tells_what_would() {
    let host = HostFixture::mk();
    host.put("/same", 0o640, "same");
    let mut wanted = step("dry");
    wanted.condition = Some("exit 1".to_owned());
    wanted.files = vec![file("/new/file", ""), file("/same", "same"), file("/same", "other")];
    wanted.commands = commands(&["touch touched"]);
    let options = StageOptions {
        dry_run: true,
        ..for_real()
    };
    insta::assert_snapshot!(run(&host, &[wanted], &options).await, @r"
    dry: if Some(NotAsked)
      file `/new/file`: WouldDo
      file `/same`: Ensured(Unchanged)
      file `/same`: WouldDo
      command 1: WouldDo
    failed: 
    ");
    assert_eq!(host.files().len(), 1);
}

#[tokio::test]
async fn a_dry_run_shows_what_would_change_in_a_file() {
    let host = HostFixture::mk();
    host.put("/etc/motd", 0o640, "old\nsame\n");
    let mut wanted = step("dry");
    wanted.files = vec![file("/etc/motd", "new\nsame\n")];
    wanted.environment = Some(Environment {
        path: "/etc/environment".to_owned(),
        variables: vec![("PROXY_PASSWORD".to_owned(), "canary".into())],
        mode: 0o600,
    });
    let options = StageOptions {
        dry_run: true,
        ..for_real()
    };
    let report = run_stage(&[wanted], &HostRoot::new(host.root()), &options).await;
    let diffs: Vec<&str> = report.steps[0]
        .effects
        .iter()
        .map(|effect| match &effect.outcome {
            EffectOutcome::WouldDo { diff: Some(diff) } => diff.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    let (owner, group) = own_numbers();
    let shown = diffs.concat().replace(&format!("owner {owner}:{group}"), "owner OWN");
    insta::assert_snapshot!(shown, @r"
    --- /etc/motd
    +++ /etc/motd
    @@ -1,2 +1,2 @@
    -old
    +new
     same
    --- /dev/null
    +++ /etc/environment
    new mode 0600 owner OWN
    (content not shown: only its owner may read it)
    ");
    assert_eq!(host.files().len(), 2, "nothing was written");
}

#[tokio::test]
async fn variables_join_those_of_others_and_the_file_keeps_its_mode() {
    let host = HostFixture::mk();
    host.put("/etc/environment", 0o664, "PATH=/usr/bin\nLANG=C\n");
    let mut wanted = step("variables");
    wanted.environment = Some(Environment {
        path: "/etc/environment".to_owned(),
        variables: vec![
            ("LANG".to_owned(), "en_US.UTF-8".into()),
            ("SITE".to_owned(), "7".into()),
        ],
        mode: 0o644,
    });
    for change in ["Updated", "Unchanged"] {
        let text = run(&host, std::slice::from_ref(&wanted), &StageOptions::default()).await;
        assert!(
            text.contains(&format!("variables in `/etc/environment`: Ensured({change})")),
            "{text}"
        );
    }
    let found = host.file("/etc/environment");
    assert_eq!(
        found.content.as_deref(),
        Some("PATH=/usr/bin\nLANG=en_US.UTF-8\nSITE=7\n")
    );
    assert_eq!(found.mode, 0o664);
}

fn operator(keys: &[&str]) -> StageUser {
    StageUser {
        name: "operator".to_owned(),
        password: Some("canary".into()),
        lock_password: false,
        ssh_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        gecos: String::new(),
        home: None,
        create_home: true,
        primary_group: None,
        groups: vec!["admin".to_owned()],
        shell: None,
        uid: None,
        system: false,
    }
}

#[tokio::test]
async fn a_user_is_made_once_with_home_and_keys_and_its_password_is_a_hash() {
    let host = HostFixture::mk();
    host.put("/etc/passwd", 0o644, "root:x:0:0::/root:/bin/sh\n");
    host.put("/etc/group", 0o644, "root:x:0:\nadmin:x:116:\n");
    host.put("/etc/shadow", 0o640, "root:*:1::::::\n");
    let mut wanted = step("users");
    wanted.users = vec![operator(&["ssh-ed25519 AAAA operator"])];
    for change in ["Created", "Unchanged"] {
        let text = run(&host, std::slice::from_ref(&wanted), &StageOptions::default()).await;
        assert!(text.contains(&format!("user `operator`: Ensured({change})")), "{text}");
    }
    let content = |path: &str| host.file(path).content.expect("it is a file");
    assert!(content("/etc/passwd").ends_with("operator:x:1000:1000::/home/operator:/bin/sh\n"));
    assert_eq!(
        content("/etc/group"),
        "root:x:0:\nadmin:x:116:operator\noperator:x:1000:\n"
    );
    let shadow = content("/etc/shadow");
    assert!(
        shadow.contains("\noperator:$6$") && !shadow.contains("canary"),
        "{shadow}"
    );
    assert_eq!(host.file("/etc/shadow").mode, 0o640);
    assert_eq!(
        content("/home/operator/.ssh/authorized_keys"),
        "ssh-ed25519 AAAA operator\n"
    );
    assert_eq!(host.file("/home/operator/.ssh/authorized_keys").mode, 0o600);
    if rustix::process::geteuid().is_root() {
        assert_eq!(host.file("/home/operator").owner, 1000);
    }
}

#[tokio::test]
async fn keys_do_not_leave_a_home_by_a_link_that_its_owner_put_there() {
    let host = HostFixture::mk();
    host.put("/etc/shadow", 0o600, "root:*:1::::::\n");
    host.put("/root/.ssh/authorized_keys", 0o600, "ssh-ed25519 AAAA root\n");
    host.link("/home/operator/.ssh", "/root/.ssh");
    let mut wanted = step("users");
    wanted.users = vec![StageUser {
        groups: Vec::new(),
        ..operator(&["ssh-ed25519 AAAA operator"])
    }];
    let _told = run(&host, &[wanted], &StageOptions::default()).await;
    let found = host.file("/root/.ssh/authorized_keys");
    assert_eq!(found.content.as_deref(), Some("ssh-ed25519 AAAA root\n"));
    assert_eq!(found.owner, own_numbers().0);
}

/// Installs a `systemctl` that records its arguments and knows the states of a few units.
fn fake_systemctl(host: &HostFixture) -> StageOptions {
    let log = host.path("/calls");
    let script = format!(
        "#!/bin/sh\necho \"$@\" | sed 's|--root=[^ ]*|--root=ROOT|' >> {log}\ncase \"$*\" in\n\
         *is-enabled*here*) echo enabled;;\n*is-enabled*|*is-active*) echo disabled; exit 1;;\n\
         *broken*) echo 'Unit broken.service does not exist.'; exit 1;;\nesac\n"
    );
    host.put("/systemctl", 0o755, &script);
    StageOptions {
        systemctl: host.path("/systemctl"),
        ..StageOptions::default()
    }
}

#[tokio::test]
async fn units_are_asked_first_and_changed_below_the_root_and_none_is_started_there() {
    let host = HostFixture::mk();
    let options = fake_systemctl(&host);
    let units = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut wanted = step("units");
    wanted.systemctl = Systemctl {
        overrides: vec![file("/etc/systemd/system/kubelet.service.d/10.conf", "[Service]\n")],
        enable: units(&["here.service", "new.service", "broken.service"]),
        disable: Vec::new(),
        mask: units(&["swap.target"]),
        start: units(&["new.service"]),
    };
    insta::assert_snapshot!(run(&host, std::slice::from_ref(&wanted), &options).await, @r"
    units: if None
      file `/etc/systemd/system/kubelet.service.d/10.conf`: Ensured(Created)
      enable unit `here.service`: Ensured(Unchanged)
      enable unit `new.service`: Ensured(Updated)
      enable unit `broken.service`: systemctl ended with exit status: 1: Unit broken.service does not exist.
      mask unit `swap.target`: Ensured(Updated)
      start unit `new.service`: NotRun
    failed: units
    ");
    insta::assert_snapshot!(host.file("/calls").content.expect("it is a file"), @r"
    --root=ROOT --no-ask-password is-enabled -- here.service
    --root=ROOT --no-ask-password is-enabled -- new.service
    --root=ROOT --no-ask-password enable -- new.service
    --root=ROOT --no-ask-password is-enabled -- broken.service
    --root=ROOT --no-ask-password enable -- broken.service
    --root=ROOT --no-ask-password is-enabled -- swap.target
    --root=ROOT --no-ask-password mask -- swap.target
    ");
}
