//! Completion scripts in real shells, and manual pages in a real `man`.

use std::process::Command;

use landfall_tests_interop::agent::binary;
use landfall_tests_interop::program;

/// Returns what a shell prints. The program is in its path.
fn printed_by(shell: &str, arguments: &[&str], script: &str) -> String {
    let directory = binary().parent().expect("the path of a program has a directory");
    let path = std::env::var("PATH").expect("tests run with a path");
    let mut command = Command::new(shell);
    command.args(arguments).arg(script);
    command.env("PATH", format!("{directory}:{path}"));
    program::run(command).succeeded().stdout()
}

#[test]
fn bash_completes_commands_options_and_values() {
    let completed = |words: &str| {
        let script = format!(
            "source <(landfall completion bash) && complete -p landfall >/dev/null && COMP_WORDS=({words}) && \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)) && \
             _landfall landfall \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\" && \
             echo \"${{COMPREPLY[*]}}\""
        );
        printed_by("bash", &["--norc", "-c"], &script)
    };
    assert_eq!(completed("landfall inv"), "inventory\n");
    assert_eq!(completed("landfall bundle cre"), "create\n");
    assert_eq!(completed("landfall plan --user-d"), "--user-data\n");
    assert_eq!(completed("landfall plan -o ya"), "yaml\n");
}

#[test]
fn zsh_loads_the_script_for_the_program() {
    // With `-d`, zsh would replace that file, even a device.
    let script = "autoload -Uz compinit && compinit -D && source <(landfall completion zsh) && \
                  echo $_comps[landfall] && whence -w _landfall";
    assert_eq!(
        printed_by("zsh", &["-f", "-c"], script),
        "_landfall\n_landfall: function\n"
    );
}

#[test]
fn fish_completes_commands_and_values() {
    let completed = |line: &str| {
        let script = format!("landfall completion fish | source; and complete --do-complete '{line}'");
        printed_by("fish", &["--no-config", "--command"], &script)
    };
    let words = |line: &str| -> Vec<String> {
        let lines = completed(line);
        lines
            .lines()
            .filter_map(|line| line.split('\t').next().map(str::to_owned))
            .collect()
    };
    assert_eq!(words("landfall inv"), ["inventory"]);
    assert_eq!(words("landfall plan --user-d"), ["--user-data"]);
    assert_eq!(words("landfall plan -o ya"), ["yaml"]);
}

#[test]
fn man_shows_every_page_without_a_complaint() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let mut write = Command::new(binary());
    write.args(["man", "--directory"]).arg(directory.path());
    let _pages_written = program::run(write).succeeded();
    let entries = fs_err::read_dir(directory.path()).expect("the directory was written");
    let pages: Vec<_> = entries.map(|page| page.expect("an entry can be read").path()).collect();
    let mut show = Command::new("man");
    show.args(["--warnings", "-l"]).args(&pages);
    show.env("MANWIDTH", "100").env("LC_ALL", "C.UTF-8");
    let shown = program::run(show).succeeded();
    assert_eq!(shown.stderr(), "");
    assert_eq!(shown.stdout().matches("\nSYNOPSIS\n").count(), pages.len());
    assert!(pages.len() > 40, "{} pages", pages.len());
}
