use std::os::unix::fs::MetadataExt as _;

use landfall_testkit::host_fixture::HostFixture;

use super::*;

fn spec(path: &str, mode: u32, content: &str) -> FileSpec {
    FileSpec {
        path: path.into(),
        mode,
        owner: None,
        group: None,
        content: content.as_bytes().to_vec(),
    }
}

fn ensure(host: &HostFixture, file: &FileSpec) -> FileChange {
    let root = HostRoot::new(host.root());
    let foreseen = preview_file(&root, file).unwrap();
    let change = ensure_file(&root, file).unwrap();
    assert_eq!(foreseen, change, "the preview tells what happens");
    change
}

fn listing(host: &HostFixture) -> String {
    let own = rustix::process::getuid().as_raw();
    let lines: Vec<_> = host.files().iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&format!(" {own}:{own} "), " own:own ")
}

#[test]
fn a_new_file_has_its_mode_and_its_parents_are_0755() {
    let host = HostFixture::mk();
    let file = spec("/etc/kubernetes/registries/reg.json", 0o600, "{}");
    assert_eq!(ensure(&host, &file), FileChange::Created);
    insta::assert_snapshot!(listing(&host), @r#"
    0755 own:own /etc/
    0755 own:own /etc/kubernetes/
    0755 own:own /etc/kubernetes/registries/
    0600 own:own /etc/kubernetes/registries/reg.json "{}"
    "#);
}

#[test]
fn an_unchanged_file_is_not_touched() {
    let host = HostFixture::mk();
    let file = spec("/etc/a", 0o644, "text");
    ensure(&host, &file);
    let before = fs_err::metadata(host.path("/etc/a")).unwrap();
    assert_eq!(ensure(&host, &file), FileChange::Unchanged);
    let after = fs_err::metadata(host.path("/etc/a")).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
}

#[test]
fn other_content_or_another_mode_replaces_the_file() {
    for (name, wanted) in [
        ("content", spec("/a", 0o644, "new")),
        ("mode", spec("/a", 0o600, "old")),
    ] {
        let host = HostFixture::mk();
        host.put("/a", 0o644, "old");
        let inode = fs_err::metadata(host.path("/a")).unwrap().ino();
        let old = fs_err::File::open(host.path("/a")).unwrap();
        assert_eq!(ensure(&host, &wanted), FileChange::Updated, "{name}");
        let found = host.file("/a");
        assert_eq!(
            (found.mode, found.content),
            (wanted.mode, String::from_utf8(wanted.content).ok()),
            "{name}"
        );
        assert_ne!(
            fs_err::metadata(host.path("/a")).unwrap().ino(),
            inode,
            "{name}: renamed into place"
        );
        assert_eq!(
            std::io::read_to_string(old).unwrap(),
            "old",
            "{name}: who has it open reads on"
        );
    }
}

#[test]
fn an_owner_is_set_where_we_may() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let host = HostFixture::mk();
    let owned = FileSpec {
        owner: Some(12345),
        group: Some(54321),
        ..spec("/a", 0o4755, "text")
    };
    assert_eq!(ensure(&host, &owned), FileChange::Created);
    let found = host.file("/a");
    assert_eq!((found.owner, found.group, found.mode), (12345, 54321, 0o4755));
    assert_eq!(ensure(&host, &owned), FileChange::Unchanged);
    assert_eq!(
        ensure(
            &host,
            &FileSpec {
                owner: Some(1),
                ..owned
            }
        ),
        FileChange::Updated
    );
}

#[test]
fn a_link_stays_and_its_target_is_written() {
    let host = HostFixture::mk();
    host.put("/run/real.conf", 0o644, "old");
    host.link("/etc/link.conf", "/run/real.conf");
    assert_eq!(
        ensure(&host, &spec("/etc/link.conf", 0o644, "new")),
        FileChange::Updated
    );
    assert_eq!(host.file("/run/real.conf").content.as_deref(), Some("new"));
    assert!(host.path("/etc/link.conf").is_symlink());
}

#[test]
fn a_link_to_the_outside_writes_inside() {
    let outside = HostFixture::mk();
    outside.put("/victim", 0o644, "untouched");
    let host = HostFixture::mk();
    host.link("/etc", outside.root().as_str());
    ensure(&host, &spec("/etc/victim", 0o644, "new"));
    assert_eq!(outside.file("/victim").content.as_deref(), Some("untouched"));
}

#[test]
fn something_else_of_that_name_is_left_alone() {
    let host = HostFixture::mk();
    host.put("/dir/file", 0o644, "");
    let error = ensure_file(&HostRoot::new(host.root()), &spec("/dir", 0o644, "x")).unwrap_err();
    insta::assert_snapshot!(error, @"cannot write `/dir`: it is there and is no regular file");
}

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let host = HostFixture::mk();
    host.put("/a", 0o644, "old");
    let root = HostRoot::new(host.root());
    let entry = root.find(Utf8Path::new("/a"), MissingParents::Fail).unwrap();
    // A directory of the target's name makes the rename fail after all other steps succeeded.
    fs_err::remove_file(host.path("/a")).unwrap();
    host.put("/a/b", 0o644, "old");
    let attributes = Attributes {
        mode: 0o644,
        owner: None,
        group: None,
    };
    replace(&entry, &attributes, b"new").unwrap_err();
    let names: Vec<_> = host.files().into_iter().map(|file| file.path).collect();
    assert_eq!(names, ["/a", "/a/b"]);
}

#[test]
fn a_directory_gets_its_mode_once() {
    let host = HostFixture::mk();
    let root = HostRoot::new(host.root());
    let mut directory = DirectorySpec {
        path: "/var/lib/landfall".into(),
        mode: 0o700,
        owner: None,
        group: None,
    };
    assert_eq!(ensure_directory(&root, &directory).unwrap(), FileChange::Created);
    assert_eq!(ensure_directory(&root, &directory).unwrap(), FileChange::Unchanged);
    directory.mode = 0o750;
    assert_eq!(ensure_directory(&root, &directory).unwrap(), FileChange::Updated);
    assert_eq!(host.file("/var/lib/landfall").mode, 0o750);
    assert_eq!(host.file("/var").mode, 0o755);
    host.put("/file", 0o644, "");
    directory.path = "/file".into();
    let error = ensure_directory(&root, &directory).unwrap_err();
    insta::assert_snapshot!(error, @"cannot write `/file`: it is there and is no directory");
}

#[test]
fn a_state_file_is_replaced_whole() {
    let host = HostFixture::mk();
    let path = host.path("ledger.json");
    for content in ["{\"generation\":1}", "{}"] {
        write_atomic(&path, 0o600, content.as_bytes()).unwrap();
        assert_eq!(
            (
                host.file("ledger.json").mode,
                host.file("ledger.json").content.unwrap().as_str()
            ),
            (0o600, content)
        );
    }
    assert_eq!(host.files().len(), 1, "no temporary file stays");
    let error = write_atomic(&host.path("missing/ledger.json"), 0o600, b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot write `{}`", host.path("missing/ledger.json"))
    );
}

#[test]
fn content_is_not_printed() {
    let debug = format!("{:?}", spec("/a", 0o600, "hunter2"));
    insta::assert_snapshot!(debug, @r#"FileSpec { path: "/a", mode: 0600, owner: None, group: None, bytes: 7 }"#);
}
