use std::fmt::Write as _;

use landfall_core::config::SecretBytes;
use landfall_testkit::host_fixture::HostFixture;

use super::*;

fn step(name: &str) -> Stage {
    Stage {
        name: name.to_owned(),
        condition: None,
        files: Vec::new(),
        directories: Vec::new(),
        commands: Vec::new(),
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

/// With commands, in the fixture as working directory.
fn for_real() -> StageOptions {
    StageOptions {
        commands_outside_root: true,
        ..StageOptions::default()
    }
}

async fn run(host: &HostFixture, steps: &[Stage], options: &StageOptions) -> String {
    let report = run_stage(steps, &HostRoot::new(host.root()), options).await;
    let mut text = String::new();
    for step in &report.steps {
        writeln!(text, "{}: if {:?}", step.name, step.condition).unwrap();
        for Effect { action, outcome } in &step.effects {
            match outcome {
                EffectOutcome::Failed(error) => writeln!(text, "  {action}: {error}").unwrap(),
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
