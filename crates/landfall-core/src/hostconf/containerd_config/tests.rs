use super::*;
use crate::hostconf::HEADER;

const IMPORTS: &str = "imports = [\"/etc/containerd/conf.d/*.toml\"]\n";
const MIRRORS: &str =
    "[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://old\"]\n";

fn facts(release: &str, main: &str) -> ContainerdFacts {
    ContainerdFacts {
        release: ContainerdRelease::parse(release),
        main_file: MAIN_FILE.into(),
        files: vec![ConfigFile {
            path: MAIN_FILE.into(),
            text: main.to_owned(),
        }],
        dump: None,
        unknown: None,
    }
}

fn with_ours(mut facts: ContainerdFacts, version: u8) -> ContainerdFacts {
    facts.files.push(ConfigFile {
        path: DROP_IN.into(),
        text: format!(
            "{HEADER}version = {version}\n{}",
            render_config_path(version.into(), CERTS_DIRECTORY)
        ),
    });
    facts
}

#[test]
fn a_release_is_read_from_the_output_of_the_program() {
    let release = |major, minor| Some(ContainerdRelease { major, minor });
    for (text, expected) in [
        (
            "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
            release(1, 6),
        ),
        (
            "containerd github.com/containerd/containerd/v2 v2.0.5 fb4c30d",
            release(2, 0),
        ),
        (
            "containerd github.com/containerd/containerd/v2 2.4.2+unknown ",
            release(2, 4),
        ),
        ("1.7.27", release(1, 7)),
        ("2", release(2, 0)),
        ("", None),
        ("latest", None),
    ] {
        assert_eq!(ContainerdRelease::parse(text), expected, "{text}");
    }
}

/// The drop-in is written only where containerd merges and follows it, in the version of the main file.
#[test]
fn a_drop_in_is_for_containerd_2_with_imports_only() {
    use ReadingState::{AfterRestart, NotRead, Read};
    let v2 = format!("version = 2\n{IMPORTS}");
    let v3 = format!("version = 3\n{IMPORTS}");
    let local = format!("{v3}[plugins.'io.containerd.cri.v1.images']\nuse_local_image_pull = true\n");
    for (name, facts, state, drop_in, lines) in [
        ("1.6", facts("1.6.20", &v2), NotRead, None, "grpc.v1.cri"),
        ("1.7", facts("1.7.27", &v2), NotRead, None, "grpc.v1.cri"),
        ("2.0, version 2", facts("2.0.5", &v2), AfterRestart, Some(2), ""),
        ("2.0, version 3", facts("2.0.5", &v3), AfterRestart, Some(3), ""),
        (
            "2.0, not followed",
            facts("2.0.5", "version = 3\n"),
            NotRead,
            None,
            "cri.v1.images",
        ),
        ("2.4", facts("2.4.2", &v2), AfterRestart, Some(2), ""),
        (
            "2.4, not followed",
            facts("2.4.2", "version = 3\n"),
            NotRead,
            None,
            "cri.v1.images",
        ),
        ("2.4 with its default", facts("2.4.2", &local), Read, None, ""),
        (
            "unknown release, version 2",
            facts("", &v2),
            NotRead,
            None,
            "grpc.v1.cri",
        ),
        ("unknown release, version 3", facts("", &v3), AfterRestart, Some(3), ""),
        ("2.0 with ours", with_ours(facts("2.0.5", &v2), 2), Read, Some(2), ""),
        (
            "1.6 with ours",
            with_ours(facts("1.6.20", &v2), 2),
            NotRead,
            None,
            "grpc.v1.cri",
        ),
        (
            "no version",
            facts("2.0.5", IMPORTS),
            NotRead,
            None,
            "[plugins.cri.registry]",
        ),
    ] {
        let reading = read_mirror_files(&facts);
        assert_eq!(
            (reading.state, reading.drop_in),
            (state, drop_in),
            "{name}: {}",
            reading.message
        );
        match (&reading.lines[..], lines) {
            ([], "") => {}
            ([fragment], lines) if !lines.is_empty() => assert!(fragment.text.contains(lines), "{name}"),
            (found, lines) => panic!("{name}: {lines}: {found:?}"),
        }
    }
}

#[test]
fn settings_that_exclude_config_path_are_named_and_nothing_is_written() {
    let tls = "[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"r:5000\".tls]\ninsecure_skip_verify = true\n";
    for (release, text, lost) in [
        ("1.7.27", MIRRORS, "`registry.mirrors.\"docker.io\"`"),
        ("2.4.2", MIRRORS, "`registry.mirrors.\"docker.io\"`"),
        ("2.0.5", MIRRORS, "`registry.mirrors.\"docker.io\"`"),
        ("1.7.27", tls, "`registry.configs.\"r:5000\"`"),
    ] {
        let reading = read_mirror_files(&facts(release, &format!("version = 2\n{IMPORTS}{text}")));
        assert_eq!(
            (reading.state, reading.drop_in),
            (ReadingState::NotRead, None),
            "{release}"
        );
        assert!(reading.message.contains(lost), "{release}: {}", reading.message);
        assert_eq!(reading.lines.len(), 1, "{release}");
    }
}

/// Our drop-in beside inline mirrors keeps the CRI plug-in from loading, so it goes.
#[test]
fn a_drop_in_that_breaks_the_plug_in_is_taken_away() {
    let main = format!("version = 2\n{IMPORTS}{MIRRORS}");
    let reading = read_mirror_files(&with_ours(facts("2.1.0", &main), 2));
    assert_eq!((reading.state, reading.drop_in), (ReadingState::NotRead, None));
    assert!(reading.message.contains("does not load"), "{}", reading.message);
}

/// Since 2.1 containerd takes a list of directories for the name of one.
#[test]
fn another_directory_stays_beside_ours_where_containerd_takes_a_list() {
    let main = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/opt/certs.d'\n";
    for (release, line, both) in [
        ("2.0.5", "\"/etc/containerd/certs.d:/opt/certs.d\"", ReadingState::Read),
        ("2.4.2", "\"/etc/containerd/certs.d\"", ReadingState::NotRead),
    ] {
        let reading = read_mirror_files(&facts(release, main));
        assert_eq!(reading.state, ReadingState::NotRead);
        assert!(reading.message.contains("`/opt/certs.d`"), "{}", reading.message);
        assert!(reading.lines[0].text.contains(line), "{:?}", reading.lines);
        let list = main.replace("/opt/certs.d", "/opt/certs.d:/etc/containerd/certs.d");
        assert_eq!(read_mirror_files(&facts(release, &list)).state, both, "{release}");
    }
}

#[test]
fn a_plug_in_that_is_off_and_a_file_that_is_broken_are_said() {
    let reading = read_mirror_files(&facts("1.7.27", "version = 2\ndisabled_plugins = [\"cri\"]\n"));
    assert_eq!(reading.state, ReadingState::NotRead);
    let reading = read_mirror_files(&facts("2.4.2", "version = 2\n[plugins\n"));
    assert_eq!(reading.state, ReadingState::Unknown);
    insta::assert_snapshot!(reading.message, @r"it is not known if containerd reads `/etc/containerd/certs.d`: `/etc/containerd/config.toml` is not TOML at line 2: unclosed table, expected `]`");
    let nothing = read_mirror_files(&ContainerdFacts::unknown("there is no containerd"));
    assert_eq!(
        (nothing.state, nothing.drop_in, nothing.lines.len()),
        (ReadingState::Unknown, None, 2)
    );
}

/// The dump counts where containerd migrates files for it. The dump of 2.0 shows defaults in the place of version 2.
#[test]
fn the_dump_counts_where_it_can_be_relied_on() {
    let empty = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ''\n";
    let set = empty.replace("''", "'/etc/containerd/certs.d'");
    let own = format!("version = 2\n{}", render_config_path(2, CERTS_DIRECTORY));
    for (release, main, dump, expected) in [
        ("2.0.5", own.as_str(), empty, ReadingState::Read),
        ("2.3.0", "version = 2\n", set.as_str(), ReadingState::Read),
        ("2.0.5", "version = 3\n", set.as_str(), ReadingState::Read),
        ("2.0.5", "version = 3\n", empty, ReadingState::NotRead),
    ] {
        let facts = ContainerdFacts {
            dump: Some(dump.to_owned()),
            ..facts(release, main)
        };
        assert_eq!(read_mirror_files(&facts).state, expected, "{release}: {main}");
    }
}

#[test]
fn a_pattern_covers_names_of_its_own_directory() {
    for (pattern, path, expected) in [
        ("/etc/containerd/conf.d/*.toml", DROP_IN, true),
        ("/etc/containerd/conf.d/5?-*.toml", DROP_IN, true),
        (DROP_IN, DROP_IN, true),
        ("/etc/containerd/conf.d/*.conf", DROP_IN, false),
        ("/etc/containerd/*.toml", DROP_IN, false),
        ("/etc/containerd/conf.d/60-*.toml", DROP_IN, false),
    ] {
        assert_eq!(pattern_covers(pattern.into(), path.into()), expected, "{pattern}");
    }
    let relative = ConfigFile {
        path: MAIN_FILE.into(),
        text: "imports = ['conf.d/*.toml']".to_owned(),
    };
    assert_eq!(imports_of(&relative), Ok(vec!["/etc/containerd/conf.d/*.toml".into()]));
}
